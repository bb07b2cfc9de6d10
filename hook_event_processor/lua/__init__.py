"""Lua: what a hook's text says, and running it within its limits."""
