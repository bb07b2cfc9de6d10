"""What hooks can require: one Lua file a module, and beside it the Python that does what Lua cannot."""
