"""The embedded PostgreSQL server below the home directory.

It listens on no network; its socket lies in a directory that only its own
user can enter, and peer authentication lets in nobody but the home's owner.
"""

from hook_event_processor.store.embedded.program import psql_program
from hook_event_processor.store.embedded.server import EmbeddedServer, conninfo, start

__all__ = ["EmbeddedServer", "conninfo", "psql_program", "start"]
