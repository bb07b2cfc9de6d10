"""Whose certificates hooks' connections trust."""

from __future__ import annotations

import ssl
from functools import cache
from pathlib import Path


def tls_context(protocol: str) -> ssl.SSLContext:
    """For clients: the host's authorities (SSL_CERT_FILE says otherwise); the well-known ones where it has none.

    Each protocol has a context of its own: httpcore has its one offer HTTP
    (ALPN), which mail servers refuse.
    """
    return _context(protocol)


@cache  # reading the authorities takes tens of milliseconds
def _context(_: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not (paths.capath and any(Path(paths.capath).iterdir())):
        import certifi

        context.load_verify_locations(certifi.where())
    return context
