"""How the service tells of itself: the journal, the log of runs, and systemd's watchdog."""
