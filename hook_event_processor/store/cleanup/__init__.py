"""Removing what is old, in steps that give way to the work: events, executions and versions, archived or not."""
