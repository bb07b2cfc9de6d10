"""The daemon: it looks, keeps what it noticed on disk, and sends it to the database."""
