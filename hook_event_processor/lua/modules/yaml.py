"""yaml: YAML 1.2 as JSON text, in bounded time and size.

Scalars follow YAML's core schema (https://yaml.org/spec/1.2.2/#103-core-schema),
and what JSON has no form for stays the text that it is: dates, .inf, numbers
with leading zeros. Nothing is built from tags.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from hook_event_processor.lua.door import Call, Failed, Function, Services
from hook_event_processor.lua.masking import shortened

_MAX_TEXT_BYTES = 128 * 1024
_MAX_NODES = 10_000  # with what aliases repeat
_MAX_BYTES = 1024 * 1024  # of scalars, likewise
_MAX_DEPTH = 100
_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
_OTHER_BASE = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    word: value for value in (True, False) for word in (str(value), str(value).lower(), str(value).upper())
}
_MERGE = "<<"


class _Node(NamedTuple):
    """A value, with how many nodes and bytes it is when all aliases are written out."""

    value: Any
    nodes: int
    size: int


def functions(_: Services) -> Mapping[str, Function]:
    return {"yaml.decode": Function(decode), "yaml.decode_all": Function(decode_all)}


def decode(_: Call, text: bytes) -> bytes:
    """The only document as JSON text."""
    documents = _Documents("decode", text)
    value = next(documents, None)
    if next(documents, _Documents) is not _Documents:
        raise Failed("yaml.decode: the text holds several documents: yaml.decode_all returns them as a list")
    return documents.written(value)


def decode_all(_: Call, text: bytes) -> bytes:
    """All documents as a list in JSON text."""
    documents = _Documents("decode_all", text)
    return documents.written(list(documents))


class _Documents(Iterator[Any]):
    """The values of a text's documents. Raises Failed with the line of what is wrong."""

    def __init__(self, name: str, text: bytes) -> None:
        import yaml

        if len(text) > _MAX_TEXT_BYTES:
            raise Failed(f"yaml.{name} takes a text of at most {_MAX_TEXT_BYTES} bytes, not {len(text)}")
        self._name = name
        self._nodes = self._size = 0
        self._anchors: dict[str, _Node] = {}
        self._yaml = yaml
        try:
            # Slower where it is not C, but the same.
            self._parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise self._failed("the text is not UTF-8") from None
        except yaml.YAMLError as fault:
            raise self._failed(_reason(fault)) from None

    def __next__(self) -> Any:
        try:
            return self._document()
        except self._yaml.YAMLError as fault:
            raise self._failed(_reason(fault)) from None

    def written(self, value: Any) -> bytes:
        try:
            return orjson.dumps(value)
        except (TypeError, ValueError, orjson.JSONEncodeError):
            raise self._failed("a text holds what is no character") from None

    def _failed(self, reason: str) -> Failed:
        return Failed(f"yaml.{self._name}: {reason}")

    def _at(self, event: Any, reason: str) -> Failed:
        return self._failed(f"line {event.start_mark.line + 1}: {reason}")

    def _document(self) -> Any:
        event = self._next()
        while isinstance(event, (self._yaml.StreamStartEvent, self._yaml.DocumentEndEvent)):
            event = self._next()
        if event is None or isinstance(event, self._yaml.StreamEndEvent):
            raise StopIteration
        self._anchors.clear()
        return self._node(self._next(), 0).value

    def _next(self) -> Any:
        return self._parser.get_event()

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, self._yaml.AliasEvent):
            return self._alias(event)
        if isinstance(event, self._yaml.ScalarEvent):
            node = self._scalar(event)
        else:
            if depth >= _MAX_DEPTH:
                raise self._at(event, f"nested deeper than {_MAX_DEPTH}")
            is_list = isinstance(event, self._yaml.SequenceStartEvent)
            self._check_tag(event, "seq" if is_list else "map")
            node = self._list(depth + 1) if is_list else self._mapping(event, depth + 1)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _count(self, event: Any, nodes: int, size: int) -> None:
        self._nodes += nodes
        self._size += size
        if self._nodes > _MAX_NODES:
            raise self._at(event, f"more than {_MAX_NODES} values, aliases written out")
        if self._size > _MAX_BYTES:
            raise self._at(event, f"more than {_MAX_BYTES} bytes of text, aliases written out")

    def _alias(self, event: Any) -> _Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise self._at(event, f"the alias *{event.anchor} stands for nothing before it, or for what it stands in")
        self._count(event, node.nodes, node.size)
        return node

    def _scalar(self, event: Any) -> _Node:
        size = len(event.value)
        self._count(event, 1, size)
        return _Node(self._value(event), 1, size)

    def _value(self, event: Any) -> Any:
        if event.tag is None:
            return _plain(event.value) if event.implicit[0] else event.value
        if event.tag in ("!", _TAG + "str"):
            return event.value
        value = _plain(event.value)
        if event.tag.removeprefix(_TAG) not in _tags_of(value):
            given = f"{_short(event.tag)} {shortened(event.value, 40)!r}"
            raise self._at(event, f"{given}: no such value, or an unknown tag")
        return float(value) if event.tag == _TAG + "float" else value

    def _check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            raise self._at(event, f"the tag {_short(event.tag)} is unknown")

    def _list(self, depth: int) -> _Node:
        values = []
        nodes, size = 1, 0
        while not isinstance(event := self._next(), self._yaml.SequenceEndEvent):
            node = self._node(event, depth)
            values.append(node.value)
            nodes, size = nodes + node.nodes, size + node.size
        self._count(event, 1, 0)
        return _Node(values, nodes, size)

    def _mapping(self, start: Any, depth: int) -> _Node:
        values: dict[str, Any] = {}
        merged: dict[str, Any] | None = None
        nodes, size = 1, 0
        while not isinstance(event := self._next(), self._yaml.MappingEndEvent):
            key = self._key(event)
            node = self._node(self._next(), depth)
            nodes, size = nodes + node.nodes, size + node.size + len(key)
            merges = key == _MERGE and self._is_plain(event)
            if key in values or (merges and merged is not None):
                raise self._at(event, f"the key {shortened(key, 40)!r} stands there twice")
            if merges:
                merged = self._merged(event, node.value)
            else:
                values[key] = node.value
        self._count(start, 1, 0)
        # What the mapping says itself comes first, wherever << stands in it.
        return _Node(merged | values if merged else values, nodes, size)

    def _key(self, event: Any) -> str:
        if isinstance(event, self._yaml.AliasEvent):
            node = self._alias(event)
            if isinstance(node.value, str):
                return node.value
            if not isinstance(node.value, dict | list):
                raise self._at(
                    event, f"the key *{event.anchor} stands for no text: write it out, or quote it at its anchor"
                )
        if not isinstance(event, self._yaml.ScalarEvent):
            raise self._at(event, "a key is a text, a number or a word, not a list or mapping")
        self._count(event, 1, len(event.value))
        if event.anchor:
            self._anchors[event.anchor] = _Node(event.value, 1, len(event.value))
        return str(event.value)

    def _is_plain(self, event: Any) -> bool:
        return isinstance(event, self._yaml.ScalarEvent) and bool(event.implicit[0])

    def _merged(self, event: Any, value: Any) -> dict[str, Any]:
        sources = value if isinstance(value, list) else [value]
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            if not isinstance(source, dict):
                raise self._at(event, "<< takes a mapping, or a list of mappings")
            merged |= source
        return merged


def _plain(text: str) -> Any:
    """What a scalar without quotes stands for."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _INTEGER.match(text) and len(text) < 20 and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _OTHER_BASE.match(text) and len(text) < 24 and int(text, 0) < 2**63:
        return int(text, 0)
    if _FLOAT.match(text) and math.isfinite(number := float(text)):
        return number
    return text


def _tags_of(value: Any) -> tuple[str, ...]:
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("bool",)
    if isinstance(value, int):
        return ("int", "float")
    return ("float",) if isinstance(value, float) else ()


def _short(tag: str) -> str:
    return shortened("!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag, 40)


def _reason(fault: Exception) -> str:
    mark = getattr(fault, "problem_mark", None)
    reason = getattr(fault, "problem", None) or getattr(fault, "reason", None) or str(fault).splitlines()[0]
    return f"line {mark.line + 1}: {reason}" if mark else str(reason)
