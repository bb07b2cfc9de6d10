"""What this machine tells of itself: its files, processes, sockets, units, packages and users."""
