"""crypto: digests, message authentication, encodings, random bytes, UUIDs and AES-256-GCM.

Texts that a hook gave are limited in size so that each call takes a few
hundredths of a second at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services
from hook_event_processor.lua.masking import shortened

_ALGORITHMS = (b"md5", b"sha1", b"sha256", b"sha512")
_MAX_BYTES = 4 * 1024 * 1024
_MAX_RANDOM_BYTES = 64 * 1024
_KEY_BYTES = 32
_NONCE_BYTES, _TAG_BYTES = 12, 16  # of AES-GCM, NIST SP 800-38D
_URL_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_STANDARD_TO_URL = bytes.maketrans(b"+/", b"-_")


def functions(_: Services) -> Mapping[str, Function]:
    return {
        "crypto.digest": Function(digest),
        "crypto.hmac": Function(authenticate),
        "crypto.equal": Function(equal),
        "crypto.base64_encode": Function(base64_encode),
        "crypto.base64_decode": Function(base64_decode),
        "crypto.hex_encode": Function(hex_encode),
        "crypto.hex_decode": Function(hex_decode),
        "crypto.random_bytes": Function(random_bytes),
        "crypto.uuid": Function(uuid),
        "crypto.uuid7": Function(uuid7),
        "crypto.encrypt": Function(encrypt),
        "crypto.decrypt": Function(decrypt),
    }


def _check_size(name: str, *texts: bytes) -> None:
    size = sum(map(len, texts))
    if size > _MAX_BYTES:
        raise Misused(f"crypto.{name} takes at most {_MAX_BYTES} bytes at once, not {size}")


def digest(_: Call, algorithm: bytes, data: bytes) -> bytes:
    """The digest in hexadecimal digits; the algorithm is one of those that the module has functions for."""
    name = algorithm.decode()
    _check_size(name, data)
    # md5 and sha1 serve to compare with what others made; Python refuses them otherwise where FIPS rules.
    return hashlib.new(name, data, usedforsecurity=False).hexdigest().encode()


def authenticate(_: Call, algorithm: bytes, key: bytes, data: bytes) -> bytes:
    """The HMAC in hexadecimal digits."""
    _check_size("hmac", key, data)
    if algorithm not in _ALGORITHMS:
        known = ", ".join(name.decode() for name in _ALGORITHMS)
        given = shortened(algorithm, 40)
        raise Misused(f"crypto.hmac: unknown algorithm {given!r}; there are {known}")
    return hmac.digest(key, data, algorithm.decode()).hex().encode()


def equal(_: Call, a: bytes, b: bytes) -> bool:
    """Whether both are the same, in a time that says nothing about where they differ."""
    _check_size("equal", a, b)
    return hmac.compare_digest(a, b)


def base64_encode(_: Call, data: bytes, url: bool) -> bytes:
    """The data as base64 (RFC 4648): with padding, or for URLs without."""
    _check_size("base64_encode", data)
    text = base64.b64encode(data)
    return text.translate(_STANDARD_TO_URL).rstrip(b"=") if url else text


def base64_decode(_: Call, text: bytes, url: bool) -> bytes:
    """The data; padding may be missing. White space and characters of the other alphabet are refused."""
    _check_size("base64_decode", text)
    try:
        return _from_base64(text, url)
    except binascii.Error:
        kind = "base64 for URLs" if url else "base64"
        # Not the text itself: it may be a part of a secret.
        raise Failed(f"crypto.base64_decode: the text is not {kind}") from None


def _from_base64(text: bytes, url: bool) -> bytes:
    if url:
        if b"+" in text or b"/" in text:
            raise binascii.Error
        text = text.translate(_URL_TO_STANDARD)
    if b"=" not in text:
        text += b"=" * (-len(text) % 4)
    return binascii.a2b_base64(text, strict_mode=True)


def hex_encode(_: Call, data: bytes) -> bytes:
    """Two hexadecimal digits a byte."""
    _check_size("hex_encode", data)
    return data.hex().encode()


def hex_decode(_: Call, text: bytes) -> bytes:
    """The bytes that the digits, in either case, stand for."""
    _check_size("hex_decode", text)
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        raise Failed("crypto.hex_decode: the text is not pairs of hexadecimal digits") from None


def random_bytes(_: Call, n: int) -> bytes:
    """`n` bytes that nobody can foresee."""
    if not 1 <= n <= _MAX_RANDOM_BYTES:
        raise Misused(f"crypto.random_bytes takes 1 to {_MAX_RANDOM_BYTES} bytes, not {n}")
    return os.urandom(n)


def uuid(_: Call) -> bytes:
    """A UUID of version 4."""
    return str(uuid4()).encode()


def uuid7(_: Call) -> bytes:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds since 1970, the rest random."""
    random = int.from_bytes(os.urandom(10), "big")
    value = time.time_ns() // 1_000_000 << 80 | random
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    return str(UUID(int=value)).encode()


def encrypt(_: Call, data: bytes, key: bytes, bound: bytes | None) -> bytes:
    """AES-256-GCM as base64 of nonce, ciphertext and tag."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    _check_size("encrypt", data, bound or b"")
    _check_key("encrypt", key)
    nonce = os.urandom(_NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(key).encrypt(nonce, data, bound))


def decrypt(_: Call, text: bytes, key: bytes, bound: bytes | None) -> bytes:
    """What encrypt was given. Fails without saying which of the text, the key and what it is bound to is wrong."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    _check_size("decrypt", text, bound or b"")
    _check_key("decrypt", key)
    try:
        sealed = _from_base64(text, url=False)
    except binascii.Error:
        sealed = b""
    if len(sealed) < _NONCE_BYTES + _TAG_BYTES:
        raise Failed("crypto.decrypt: the text is not one that crypto.encrypt made")
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except InvalidTag:
        raise Failed("crypto.decrypt: the key is another one, or the text or what it is bound to was changed") from None


def _check_key(name: str, key: bytes) -> None:
    if len(key) != _KEY_BYTES:
        raise Misused(
            f"crypto.{name} takes a key of {_KEY_BYTES} bytes, not {len(key)}: make one with"
            f" crypto.random_bytes({_KEY_BYTES}), or give its hexadecimal digits to crypto.hex_decode"
        )
