"""The keys that secrets are encrypted with: a file of the host, or a credential of systemd; never in the database."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hook_event_processor.errors import SecretRefused
from hook_event_processor.settings import Settings

CREDENTIAL = "hep_secret_key"
_KEY_BYTES = 32
_NONCE_BYTES = 12
_MAX_FILE_BYTES = 64 * 1024
_HEADER = "# Keys of the hook event processor's secrets, one a line. The first encrypts, all of them decrypt.\n"


@dataclass(frozen=True, slots=True)
class Key:
    """A key of AES-256; rows name it by its id."""

    secret: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Key:
        return cls(secrets.token_bytes(_KEY_BYTES))

    @property
    def id(self) -> str:
        return hashlib.sha256(self.secret).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys from a place, the one that encrypts first. `path` is None when systemd handed them over."""

    keys: tuple[Key, ...]
    path: Path | None

    @property
    def first(self) -> Key:
        return self.keys[0]

    def seal(self, context: bytes, value: bytes) -> bytes:
        """Nonce and ciphertext under the first key, bound to the context."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.first.secret).encrypt(nonce, value, context)

    def unseal(self, key_id: str, context: bytes, sealed: bytes) -> bytes:
        """The value. Raises SecretRefused when the key is not there, or the text was not sealed in this context."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = next((key for key in self.keys if key.id == key_id), None)
        if key is None:
            raise SecretRefused(f"it is encrypted with the key {key_id}, which is not in {self.place}")
        try:
            return AESGCM(key.secret).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise SecretRefused("its row was changed, or comes from another schema or another secret") from None

    @property
    def place(self) -> str:
        return f"the key file {self.path}" if self.path else f"the credential {CREDENTIAL}"


def file_of(settings: Settings) -> Path:
    """The file of the keys, whether it is there or not."""
    return settings.hook_secret_key_file or settings.home / "secret.key"


def credentials_directory() -> Path | None:
    """Where systemd hands over credentials (systemd.exec(5))."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def load(settings: Settings) -> KeyRing | None:
    """The keys of systemd's credential, else those of the file; None when there is neither.

    Raises SecretRefused for what cannot be read, holds no keys, or can be read by everyone.
    """
    directory = credentials_directory()
    credential = directory / CREDENTIAL if directory else None
    if credential is not None and credential.is_file():
        return KeyRing(_keys(credential), None)
    return _of_file(file_of(settings))


def _of_file(file: Path) -> KeyRing | None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise SecretRefused(f"the key file {file} cannot be read: {fault.strerror}") from None
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise SecretRefused(f"the key file {file} is open to others: chmod 600 {file}")
    return KeyRing(_keys(file), file)


def create(file: Path) -> KeyRing:
    """Make the file with a new key, readable by its owner alone; the one that is there if another was quicker."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        written = _written(file, (Key.new(),))
        try:
            os.link(written, file)
        except FileExistsError:
            pass
        finally:
            written.unlink()
    except OSError as fault:
        raise SecretRefused(f"the key file {file} cannot be made: {fault.strerror}") from None
    ring = _of_file(file)
    assert ring is not None  # noqa: S101 - it is there now
    return ring


def write(file: Path, keys: tuple[Key, ...]) -> KeyRing:
    """Replace the file's keys all at once: who reads it meanwhile, or after a crash, has the old or the new ones."""
    try:
        written = _written(file, keys)
        try:
            os.replace(written, file)
        finally:
            written.unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as fault:
        raise SecretRefused(f"the key file {file} cannot be written: {fault.strerror}") from None
    return KeyRing(keys, file)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keep every other process of this host that replaces the file's keys waiting."""
    try:
        folder = os.open(file.parent, os.O_RDONLY)
    except OSError as fault:
        raise SecretRefused(f"the key file {file} cannot be reached: {fault.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _written(file: Path, keys: tuple[Key, ...]) -> Path:
    """A file beside it with these keys, of the same owner; else of the folder's."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(_HEADER + "".join(f"{base64.b64encode(key.secret).decode()}\n" for key in keys))
            stream.flush()
            if os.geteuid() == 0:
                owner = (file if file.exists() else file.parent).stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fsync(descriptor)
    except BaseException:
        os.unlink(name)  # no keys shall be left where nobody looks for them
        raise
    return Path(name)


def _keys(path: Path) -> tuple[Key, ...]:
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_FILE_BYTES).decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise SecretRefused(f"the key file {path} cannot be read: {fault}") from None
    keys = tuple(_key(path, line) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    if not keys:
        raise SecretRefused(f"the key file {path} holds no key")
    return keys


def _key(path: Path, line: str) -> Key:
    try:
        secret = base64.b64decode(line.strip(), validate=True)
    except ValueError:
        secret = b""
    if len(secret) != _KEY_BYTES:
        raise SecretRefused(f"the key file {path} has a line that is no key: it takes {_KEY_BYTES} bytes in base64")
    return Key(secret)
