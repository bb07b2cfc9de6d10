"""The catalog: the event types that are known, those of the data beside it and those that people added.

A type that is not in it is as good as any other: the catalog explains types
and finds slips of the pen, and only a strict publisher refuses by it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from psycopg import Connection

from hook_event_processor.errors import EventRefused
from hook_event_processor.event import join_type, split_type
from hook_event_processor.store import event_types
from hook_event_processor.store.event_types import AddedType

OWN = "own"  # the category of the types that people added
FREE = "custom."  # types that begin so are everybody's own: being unknown is no slip
_FOLDER = "event_types"
_NEAR = 0.8  # how much of two names must be the same, as difflib counts it
_MOST_NEAR = 3


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a type's payload; `kind` is one of KINDS. An inferred one is likely, but nothing documents it."""

    name: str
    kind: str
    meaning: str
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type that is known.

    `origin` says how: documented (with its fields), declared (its name
    alone), emitted (by watchers or agents), named (as a watcher's, without
    fields), watched (what this product's watchers tell besides), product
    (this one's own) or added. The fields may also stand in
    an object of the payload, named `object`. `schema` is that of an added
    type; None for the others.
    """

    name: str
    category: str
    description: str
    origin: str
    fields: tuple[Field, ...] = ()
    object: str = ""
    schema: Any = None

    def payload_schema(self) -> Any:
        """A JSON Schema for its payload. That of a type of the data asks for nothing, but checks what it knows."""
        return _schema_of(self) if self.schema is None else self.schema


@dataclass(frozen=True, slots=True)
class Category:
    """A category with its types, in the order in which they are listed."""

    name: str
    title: str
    description: str
    types: tuple[EventType, ...]


# What a field holds, in the words of JSON Schema.
KINDS: Mapping[str, tuple[str, ...]] = {
    "string": ("string",),
    "integer": ("integer",),
    "number": ("number",),
    "boolean": ("boolean",),
    "array": ("array",),
    "object": ("object",),
    "time": ("string", "number"),  # RFC 3339, or Unix seconds
    "duration": ("string", "number"),  # 2m30s, or seconds
    "quantity": ("string", "number"),  # with a unit, or without
    "any": (),
}


@lru_cache(maxsize=1)
def categories() -> tuple[Category, ...]:
    """The categories of the data, by name; read once."""
    folder = files("hook_event_processor") / _FOLDER
    return tuple(
        _read(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".toml")
    )


def _read(name: str, text: str) -> Category:
    content = tomllib.loads(text)
    types = tuple(
        EventType(
            type_name,
            name,
            entry["description"],
            entry.get("origin", "documented"),
            tuple(_read_fields(entry, content["fields"])),
            entry.get("object", content.get("object", "")),
        )
        for type_name, entry in content["types"].items()
    )
    return Category(name, content["title"], content["description"], types)


def _read_fields(entry: Mapping[str, Any], known: Mapping[str, str]) -> Iterable[Field]:
    for key in ("fields", "inferred"):
        for name in entry.get(key, ()):
            kind, meaning = known[name].split(": ", 1)
            yield Field(name, kind, meaning, inferred=key == "inferred")


@lru_cache(maxsize=1)
def _built_in() -> Mapping[str, EventType]:
    return {known.name: known for category in categories() for known in category.types}


def known(connection: Connection | None) -> dict[str, EventType]:
    """Every known type by its name; without a connection, those of the data alone."""
    types = dict(_built_in())
    if connection is not None:
        for added in event_types.all_types(connection):
            types[added.type] = _added(added, types.get(added.type))
    return types


def _added(added: AddedType, replaced: EventType | None) -> EventType:
    category = replaced.category if replaced else OWN
    return EventType(
        added.type, category, added.description, "added", tuple(_fields_of(added.schema)), schema=added.schema
    )


def canonical(event_type: str) -> str:
    """The name under which the catalog has a type: a/b is a.b. Raises EventRefused for what is no type."""
    return join_type(*split_type(event_type))


def nearest(event_type: str, names: Iterable[str] | None = None) -> list[str]:
    """The known types that are most like this one, best first; of those of the data unless `names` are given."""
    known_names = list(_built_in() if names is None else names)
    try:
        wanted = canonical(event_type).casefold()
    except EventRefused:
        wanted = event_type.strip("./ ").casefold()
    folded = {name.casefold(): name for name in known_names}
    if wanted in folded:
        return [folded[wanted]]
    near = [folded[name] for name in difflib.get_close_matches(wanted, folded, _MOST_NEAR, _NEAR)]
    # task.failed, not stack.failed, for task.faild.
    near = [name for name in near if name.casefold().startswith(wanted.split(".")[0] + ".")] or near
    # cpu_high, or cpu-high, for system.cpu_high.
    plain = wanted.replace("-", "_").replace(".", "_")
    near += [name for name in known_names if name not in near and plain in _short_forms(name.casefold())]
    return near[:_MOST_NEAR]


def _short_forms(name: str) -> tuple[str, str]:
    return name.split(".", 1)[-1], name.replace(".", "_")


def without_action(event_type: str) -> str | None:
    """What to say of a source and a dot, such as task., which is no event's type; None of all others."""
    source, dot, action = event_type.partition(".")
    if not source or not dot or action or "/" in source:
        return None
    return f"the event type {event_type} has no action: did you mean {event_type}*?"


def unknown(event_type: str, names: Iterable[str]) -> str:
    """What to say of a type that is not among these names, in one sentence."""
    near = nearest(event_type, names)
    adding = " ('hep catalog' lists what is, 'hep catalog add' adds yours)"
    hint = f": did you mean {' or '.join(near)}?" if near else adding
    return f"the event type {event_type} is not in the catalog{hint}"


def _schema_of(known_type: EventType) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for known_field in known_type.fields:
        kinds = KINDS[known_field.kind]
        # What is only likely refuses nothing. null stands for a value that there is not.
        if kinds and not known_field.inferred:
            properties[known_field.name] = {"type": [*kinds, "null"]}
    schema = {"type": "object", "properties": properties}
    if not known_type.object:
        return schema
    flat = {**properties, known_type.object: {**schema, "type": ["object", "null"]}}
    own = properties.get(known_type.object)
    if own is not None:
        flat[known_type.object]["type"] = [*own["type"], "object"]
    return {"type": "object", "properties": flat}


def _fields_of(schema: Any) -> Iterable[Field]:
    """The fields that a JSON Schema names at its top, as far as they can be told."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    for name, part in (properties if isinstance(properties, dict) else {}).items():
        part = part if isinstance(part, dict) else {}
        kind = part.get("type", "any")
        words = kind if isinstance(kind, list) else [kind]
        yield Field(name, " or ".join(map(str, words)), str(part.get("description") or part.get("title") or ""))
