"""JSON Schema for payloads: what it says of faults, and attacks on whoever checks by it."""

from __future__ import annotations

import socket
from time import perf_counter
from typing import Any

import pytest

from hook_event_processor.errors import TypeRefused
from hook_event_processor.payload_schema import CHECK_SECONDS, MAX_SCHEMA_BYTES, PayloadSchema


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"properties": {"a": schema}}
    return schema


@pytest.mark.parametrize(
    ("schema", "payload", "fault"),
    [
        ({"type": "object"}, 5, "the payload is 5: it takes an object"),
        ({"properties": {"a": {"type": ["string", "null"]}}}, {"a": 1}, "payload.a is 1: it takes a string"),
        ({"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", 1]}, "payload.a[1] is 1: it takes a string"),
        ({"required": ["a"]}, {}, "payload.a is missing"),
        ({"properties": {"a": {"enum": ["x", 1]}}}, {"a": 2}, 'payload.a is 2: it takes one of "x", 1'),
        ({"properties": {"a": {"const": "x"}}}, {"a": 2}, 'payload.a is 2: it takes "x" alone'),
        (
            {"properties": {"a": {"pattern": "^x+$"}}},
            {"a": "xy"},
            'payload.a is "xy": it takes text that matches "^x+$"',
        ),
        ({"properties": {"a": {"maximum": 9}}}, {"a": 10}, "payload.a is 10: it takes at most 9"),
        ({"properties": {"a": {"multipleOf": 0.5}}}, {"a": 0.7}, "payload.a is 0.7: it takes a multiple of 0.5"),
        ({"properties": {"a": {"multipleOf": 0.01}}}, {"a": 19.99}, None),
        ({"properties": {"a": {"multipleOf": 0.1}}}, {"a": 0.3}, None),
        ({"properties": {"a": {"multipleOf": 1e-308}}}, {"a": 1e308}, None),
        (
            {"properties": {"a": {"multipleOf": 10**400}}},
            {"a": 0.5},
            f"payload.a is 0.5: it takes a multiple of {'1' + 56 * '0'}...",
        ),
        ({"properties": {"a": {"multipleOf": 2}}}, {"a": True, "b": "x"}, None),
        (
            {"properties": {"a": {"uniqueItems": True}}},
            {"a": [1, 1.0]},
            "payload.a is [1, 1.0]: it takes each item once",
        ),
        ({"properties": {"a": False}}, {"a": 1}, "payload.a is 1: nothing may stand there"),
        (
            {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}},
            {"a": []},
            "payload.a is []: it takes a string or an integer",
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/a~1b"}}, "$defs": {"a/b": {"minLength": 2}}},
            {"a": "x"},
            'payload.a is "x": it takes at least 2 characters',
        ),
        (
            {"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False},
            {"x-a": "1", "y": 1},
            "payload.y is not a field of this type: no other fields are taken",
        ),
        ({"patternProperties": {"^x-": {"type": "string"}}}, {"x-a": 1}, "payload.x-a is 1: it takes a string"),
        ({"additionalProperties": {"type": "integer"}}, {"a": "x"}, 'payload.a is "x": it takes an integer'),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, True, [1], {"b": 1}]}, None),
        ({"format": "date-time"}, "yesterday", None),
        (True, {"a": 1}, None),
    ],
)
def test_a_fault_names_the_place_and_what_would_be_right(schema: Any, payload: Any, fault: str | None) -> None:
    assert PayloadSchema(schema).fault(payload) == fault


def test_a_fault_is_short_however_large_the_value() -> None:
    fault = PayloadSchema({"properties": {"a" * 1_000: {"type": "string"}}}).fault({"a" * 1_000: [0] * 10_000})
    assert fault is not None
    assert len(fault) < 400


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "not a JSON object"),
        ({"type": "strin"}, 'schema.type is "strin": it takes one of "array"'),
        ({"properties": 5}, "schema.properties is 5: it takes an object"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "Draft 2020-12 is taken"),
        ({"$ref": "#/$defs/missing"}, "has the $ref '#/$defs/missing'"),
        ({"$ref": "#/enum/0", "enum": [{"type": 5}]}, "it takes a place in the schema itself"),
        ({"$ref": "#/properties", "properties": {"type": {}}}, "it takes a place in the schema itself"),
        ({"properties": {"properties": {"unevaluatedProperties": False}}}, "use additionalProperties"),
        ({"unevaluatedProperties": False}, "use additionalProperties"),
        ({"pattern": "(?<=a)b"}, "no regular expression of RE2"),
        ({"pattern": "\ud800"}, "half of a surrogate pair"),
        ({"pattern": "("}, "no regular expression of RE2"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, "at most 65,536 are taken"),
        (_nested(100), "deeper than 64 levels"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(TypeRefused) as refusal:
        PayloadSchema(schema)
    assert reason in str(refusal.value)


def test_properties_may_have_the_names_of_keywords() -> None:
    names = ("$ref", "$id", "unevaluatedProperties", "pattern")
    schema = PayloadSchema({"properties": {name: {"type": "integer"} for name in names}})
    assert schema.fault(dict.fromkeys(names, 1)) is None
    assert schema.fault({"$ref": "x"}) == 'payload.$ref is "x": it takes an integer'
    # What is no schema, but a value, may hold anything.
    assert PayloadSchema({"const": {"$ref": "http://example.com"}}).fault({"$ref": "http://example.com"}) is None


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef"])
def test_attack_a_reference_to_the_network(keyword: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/schema"
        for schema in ({keyword: url}, {"$id": url, "properties": {"a": {keyword: "other"}}}):
            with pytest.raises(TypeRefused, match="it takes a place in the schema itself"):
                PayloadSchema(schema)
        assert PayloadSchema({"$id": url, "properties": {"a": {keyword: "#"}}}).fault({"a": {}}) is None
        with pytest.raises(TimeoutError):
            listening.accept()


def _doubling(levels: int) -> dict[str, Any]:
    definitions: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{levels}": True}}


def test_attack_references_that_double_at_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hook_event_processor.payload_schema.CHECK_SECONDS", 0.2)
    schema = PayloadSchema(_doubling(40))
    with pytest.raises(TypeRefused, match=r"longer than 0\.2 s"):
        schema.fault({})
    assert CHECK_SECONDS <= 2


def test_attack_a_schema_that_refers_to_itself() -> None:
    for schema in ({"$ref": "#"}, {"allOf": [{"$ref": "#"}]}):
        with pytest.raises(TypeRefused, match="refers to itself without end"):
            PayloadSchema(schema).fault({})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^(a+)+$"}}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": True},
        {"patternProperties": {"^(a|aa)+$": {}}, "additionalProperties": {"type": "string"}},
    ],
)
def test_attack_a_pattern_that_backtracks(schema: dict[str, Any]) -> None:
    text = "a" * 5_000 + "!"
    began = perf_counter()
    PayloadSchema(schema).fault({"a": text, text: text})
    assert perf_counter() - began < 1  # a backtracking engine would take years


def test_attack_many_items_that_must_differ() -> None:
    schema = PayloadSchema({"properties": {"a": {"uniqueItems": True}}})
    began = perf_counter()
    assert schema.fault({"a": [{"n": n} for n in range(20_000)]}) is None
    assert perf_counter() - began < 2  # each with each would take minutes
