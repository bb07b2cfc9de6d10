"""What runs of hooks bring about that the product tells of itself: secrets that are read, threads that are stuck."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from hook_event_processor.event import split_type
from hook_event_processor.registry import Hook
from hook_event_processor.store.claim import Row
from hook_event_processor.store.own_events import Cause, cause_of_row
from hook_event_processor.store.record import Child

ACCESSED, STUCK = "secret.accessed", "system.error"
_COMPONENT = "processor"
_PERIOD_SECONDS = 60
_MAX_TOLD = 10_000


class OwnEvents:
    """Makes these events, as children of those that the hooks ran for. Used by several threads."""

    def __init__(self, origin: Mapping[str, str]) -> None:
        """`origin` says in metadata which processor tells."""
        self._origin = {"component": _COMPONENT, **origin}
        self._lock = threading.Lock()
        # The minute in which a hook's access to a secret was last told, and the event that it belongs to.
        self._told: OrderedDict[tuple[int, str], tuple[int, bytes]] = OrderedDict()

    def accessed(self, rows: Sequence[Row], hook: Hook, secrets: Iterable[str]) -> Iterator[tuple[bytes, Child]]:
        """With the event that each belongs to: one for a hook, a secret and a minute, by whichever processor.

        Of several rows that ran together it is not known which of them read
        the secret: the event is nobody's child then, but as deep as the deepest.
        It is made again with the row that it belongs to, whose transaction may
        have come to nothing; where it did not, the id is there already.
        """
        causes = [cause for row in rows if (cause := cause_of_row(row, hook.name)).allows(ACCESSED)]
        if not causes:
            return
        cause = max(causes, key=lambda cause: cause.depth)
        parent = UUID(cause.event_id).bytes
        event_ids = [row.id for row in rows]
        now = datetime.now(UTC)
        minute = int(now.timestamp()) // _PERIOD_SECONDS
        for secret in sorted(secrets):
            if self._is_to_tell((hook.id, secret), (minute, parent), event_ids):
                # Processors that come to the same minute come to the same id.
                event_id = _id_of(f"{ACCESSED} {hook.name} {secret} {minute}")
                payload = {
                    "secret_name": secret,
                    "accessed_by": f"hook {hook.name}",
                    "access_time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                }
                child = self._child(ACCESSED, payload, cause if len(rows) == 1 else None, cause.depth, event_id)
                yield parent, child

    def stuck(self, row: Row, hook: Hook, error: bytes) -> Child | None:
        """A thread was given up: its run of the hook did not end."""
        cause = cause_of_row(row, hook.name)
        if not cause.allows(STUCK):
            return None
        payload = {
            "component": _COMPONENT,
            "error": f"{hook.name}: {error.decode(errors='replace')}",
            "severity": "error",
            "hook_name": hook.name,
            "event_id": cause.event_id,
        }
        return self._child(STUCK, payload, cause, cause.depth)

    def _is_to_tell(self, access: tuple[int, str], telling: tuple[int, bytes], event_ids: Sequence[bytes]) -> bool:
        with self._lock:
            minute, parent = self._told.get(access, (0, b""))
            if minute == telling[0] and parent not in event_ids:
                return False
            self._told[access] = telling
            self._told.move_to_end(access)
            while len(self._told) > _MAX_TOLD:
                self._told.popitem(last=False)
            return True

    def _child(
        self, event_type: str, payload: Mapping[str, Any], cause: Cause | None, depth: int, event_id: UUID | None = None
    ) -> Child:
        inherited: dict[str, Any] = cause.metadata if cause is not None else {"depth": depth + 1}
        if cause is None and event_id is not None:
            inherited["correlation_id"] = str(event_id)
        metadata = {"origin": self._origin, **inherited}
        identity = str(event_id) if event_id is not None else None
        return Child(*split_type(event_type), orjson.dumps(payload), orjson.dumps(metadata), id=identity)


def _id_of(text: str) -> UUID:
    """A UUIDv8 (RFC 9562) that the text decides."""
    digest = bytearray(hashlib.sha256(text.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))
