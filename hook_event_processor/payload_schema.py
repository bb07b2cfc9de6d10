"""JSON Schema (Draft 2020-12) for payloads: no schema may reach the network, or hang whoever publishes by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import re2
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from hook_event_processor.errors import TypeRefused
from hook_event_processor.schema_fault import sentence

MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 64
CHECK_SECONDS = 2.0
_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MOST_FAULTS = 20  # are looked at to find the one that says most
_TOO_DEEP = f"the schema is nested deeper than {MAX_DEPTH} levels"
# Where schemas stand within a schema: by names, in a list, or as they are.
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_WITH_SCHEMAS = _BY_NAME | {
    *("prefixItems", "anyOf", "oneOf", "allOf"),
    *("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames"),
}
_REFERENCES = ("$ref", "$dynamicRef")
# jsonschema finds out what other keywords have seen with expressions of
# Python's, and without end where two references stand side by side.
_REFUSED = {
    "unevaluatedProperties": "additionalProperties",
    "unevaluatedItems": "items",
    "$id": "$defs and a $ref such as #/$defs/NAME",
    "$anchor": "$defs and a $ref such as #/$defs/NAME",
    "$dynamicAnchor": "$defs and a $ref such as #/$defs/NAME",
}


class TooLong(Exception):
    """A payload takes longer to check than a publisher may wait."""


class PayloadSchema:
    """A JSON Schema that is sound and within bounds. Raises TypeRefused for any other."""

    def __init__(self, schema: Any) -> None:
        if not isinstance(schema, dict | bool):
            raise TypeRefused('the schema is not a JSON object: write {"type": "object", ...}')
        size = _size(schema)
        if size > MAX_SCHEMA_BYTES:
            raise TypeRefused(f"the schema has {size:,} bytes: at most {MAX_SCHEMA_BYTES:,} are taken")
        _check_depth(schema)
        _check_parts(schema)
        _check_keywords(schema)
        # An explicit registry: the default one fetches what a reference names.
        self._validator = _BoundedValidator(schema, registry=Registry())

    def fault(self, payload: Any) -> str | None:
        """What is wrong with the payload, where, and what would be right; None when nothing is.

        `payload` is as JSON gives it. Raises TypeRefused when the schema
        cannot be followed to an end: it refers to what is not there, or to
        itself, or takes longer than CHECK_SECONDS.
        """
        token = _ENDS_AT.set(perf_counter() + CHECK_SECONDS)
        try:
            found = best_match(islice(self._validator.iter_errors(payload), _MOST_FAULTS))
        except TooLong:
            raise TypeRefused(f"the schema takes longer than {CHECK_SECONDS:g} s to check this payload") from None
        except RecursionError:
            raise TypeRefused("the schema refers to itself without end, or the payload is nested too deeply") from None
        except Unresolvable as fault:
            raise TypeRefused(f"the schema refers to {fault.ref!r}, which it does not hold") from None
        finally:
            _ENDS_AT.reset(token)
        return None if found is None else sentence(found)


_ENDS_AT: ContextVar[float] = ContextVar("ends_at")


def _size(schema: Any) -> int:
    try:
        return len(json.dumps(schema, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        raise TypeRefused("the schema is not valid Unicode: it holds half of a surrogate pair") from None
    except RecursionError:
        raise TypeRefused(_TOO_DEEP) from None


def _check_depth(schema: Any) -> None:
    level = [schema]
    for _ in range(MAX_DEPTH):
        level = [part for whole in level for part in _parts(whole)]
    if level:
        raise TypeRefused(_TOO_DEEP)


def _parts(whole: Any) -> Iterable[Any]:
    return whole.values() if isinstance(whole, dict) else whole if isinstance(whole, list) else ()


def _check_parts(schema: Any) -> None:
    """Refuse what no check may meet: keywords without bounds, references to elsewhere, patterns that are not RE2's."""
    places: set[str] = set()
    references: list[tuple[str, str, str]] = []
    remaining = [("#", schema)]
    while remaining:
        place, part = remaining.pop()
        places.add(place)
        if isinstance(part, dict):
            _check_refused(part, place)
            _check_patterns(part, place)
            references += ((place, keyword, part[keyword]) for keyword in _REFERENCES if keyword in part)
            remaining += ((f"{place}/{way}", subschema) for way, subschema in _subschemas(part))
    for place, keyword, reference in references:
        # Only where a schema stands: anything else was not checked to be one.
        if not isinstance(reference, str) or unquote(reference) not in places:
            raise TypeRefused(
                f"the schema's {place} has the {keyword} {str(reference)[:80]!r}:"
                " it takes a place in the schema itself, such as #/$defs/name"
            )


def _subschemas(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas within this one, each with the way to it as a JSON Pointer (RFC 6901)."""
    for keyword in _WITH_SCHEMAS.intersection(schema):
        value = schema[keyword]
        if keyword in _BY_NAME and isinstance(value, dict):
            for name, subschema in value.items():
                yield f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", subschema
        elif isinstance(value, list):
            for index, subschema in enumerate(value):
                yield f"{keyword}/{index}", subschema
        else:
            yield keyword, value


def _check_refused(part: Mapping[str, Any], place: str) -> None:
    for keyword, instead in _REFUSED.items():
        if keyword in part and not (keyword == "$id" and place == "#"):
            raise TypeRefused(f"the schema's {place} has {keyword}, which is not taken: use {instead}")


def _check_patterns(part: Mapping[str, Any], place: str) -> None:
    patterns = part.get("patternProperties")
    for pattern in [part.get("pattern"), *(patterns if isinstance(patterns, dict) else ())]:
        if isinstance(pattern, str):
            _check_pattern(pattern, place)


def _check_pattern(pattern: str, where: str) -> None:
    try:
        _regex(pattern)
    except re2.error as fault:
        reason = fault.args[0].decode() if isinstance(fault.args[0], bytes) else str(fault)
        raise TypeRefused(
            f"the schema's {where} has the pattern {pattern[:80]!r}, which is no regular expression of RE2: {reason}"
        ) from None


def _check_keywords(schema: Any) -> None:
    draft = schema.get("$schema", _DRAFT) if isinstance(schema, dict) else _DRAFT
    if draft not in (_DRAFT, f"{_DRAFT}#"):
        raise TypeRefused(f"the schema is written for {str(draft)[:80]!r}: Draft 2020-12 is taken ({_DRAFT})")
    try:
        # Formats are notes here, as in the draft: the checker of patterns would be Python's.
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as fault:
        raise TypeRefused(f"the schema is not valid: {sentence(fault, 'the schema')}") from None


_Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


def _bounded(keyword: _Keyword) -> _Keyword:
    """The keyword's check, which ends when the time is up."""

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterable[ValidationError] | None:
        _keep_time()
        return keyword(validator, value, instance, schema)

    return check


def _keep_time() -> None:
    if perf_counter() > _ENDS_AT.get():
        raise TooLong


@lru_cache(maxsize=1024)
def _regex(pattern: str) -> Callable[[str], object]:
    """RE2: time that is linear in the text, whatever the pattern."""
    options = re2.Options()
    options.log_errors = False
    search: Callable[[str], object] = re2.compile(pattern, options).search
    return search


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _regex(pattern)(instance):
        yield ValidationError("the pattern does not match")


def _properties(
    validator: Any, properties: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for name, subschema in properties.items():
        if name in instance:
            if subschema is False:  # jsonschema's own does not say where
                yield ValidationError("not allowed", path=[name], instance=instance[name])
            else:
                yield from validator.descend(instance[name], subschema, path=name, schema_path=name)


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        _keep_time()
        search = _regex(pattern)
        for name, value in instance.items():
            if search(name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    searches = [_regex(pattern) for pattern in schema.get("patternProperties", ())]
    known = schema.get("properties", {})
    for name, value in instance.items():
        _keep_time()
        if name not in known and not any(search(name) for search in searches):
            if allowed is False:
                yield ValidationError("not a field", path=[name])
            else:
                yield from validator.descend(value, allowed, path=name)


def _multiple_of(validator: Any, divisor: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    # As they are written, not as floats: 19.99 is a multiple of 0.01.
    if validator.is_type(instance, "number") and Fraction(repr(instance)) % Fraction(repr(divisor)):
        yield ValidationError("not a multiple")


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    # As texts, each compared once: comparing each with each would take hours for a large list.
    if wanted and validator.is_type(instance, "array") and len(set(map(_as_text, instance))) < len(instance):
        yield ValidationError("an item stands there twice")


def _as_text(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """The value with whole floats as integers: to JSON Schema 1.0 is 1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


_OWN: Mapping[str, _Keyword] = {
    "properties": _properties,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
}
_BoundedValidator = extend(  # type: ignore[no-untyped-call] # jsonschema has no type for it
    Draft202012Validator,
    {name: _bounded(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OWN}.items()},
)
