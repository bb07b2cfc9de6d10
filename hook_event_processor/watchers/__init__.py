"""Watchers: what happens on this host becomes events."""
