"""An authority of the test's own, which the library trusts for as long as the test runs."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hook_event_processor.lua.web import authorities, exchange


def server_context(folder: Path, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate of its own for these names and addresses; its text is in folder/ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def trust(monkeypatch: pytest.MonkeyPatch, authority: Path) -> None:
    """Have the library trust this authority, in connections that are yet to be made."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    monkeypatch.setattr(exchange, "_pools", type(exchange._pools)())
    monkeypatch.setattr(authorities, "_context", cache(authorities._context.__wrapped__))


def resolve(monkeypatch: pytest.MonkeyPatch, **names: tuple[str, int]) -> None:
    """Have these names (with _ for each dot) lead to these addresses and ports, whatever port is asked for."""
    real = socket.getaddrinfo
    known = {name.replace("_", "."): target for name, target in names.items()}

    def fake(host: str, port: int, *args: Any, **options: Any) -> Any:
        return real(*known.get(host, (host, port)), *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", fake)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
