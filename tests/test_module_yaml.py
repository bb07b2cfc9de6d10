"""yaml: reading YAML 1.2, writing what every reader understands, and documents made to exhaust."""

from __future__ import annotations

import json
import random
import time
from functools import cache
from typing import Any

import pytest
import yaml
from chunks import error, event, library, output, runtime
from chunks import execute as execute_within

from hook_event_processor.lua.runtime import Runtime
from hook_event_processor.run import ChunkResult

_START = "local yaml, json = require('yaml'), require('json')\n"


@cache
def _runtime() -> Runtime:
    return runtime(library=library())


def execute(body: str, *events: list[object]) -> ChunkResult:
    return execute_within(_START + body, *events, within=_runtime())


def _at_once(body: str, *events: list[object]) -> ChunkResult:
    """Run it; no more than a second of a processor may go into it."""
    began = time.process_time()
    result = execute(body, *events)
    assert time.process_time() - began < 1
    return result


def _decoded(text: str, function: str = "decode") -> Any:
    """What a hook gets for the text, by way of JSON."""
    read = f"local value, reason = yaml.{function}(event.data.text) assert(not reason, reason)"
    body = read + " return true, json.encode(value)"
    return json.loads(output(execute(body, event(json.dumps({"text": text})))))


def _reason(text: str, function: str = "decode") -> str:
    """Why the text cannot be read."""
    body = f"local value, reason = yaml.{function}(event.data.text) assert(value == nil) return true, reason"
    return output(_at_once(body, event(json.dumps({"text": text}))))


def _encoded(value: object) -> str:
    body = "return true, yaml.encode(event.data)"
    return output(execute(body, event(json.dumps(value))))


_COMPOSE = """\
# what people write
version: "3.8"
x-defaults: &defaults
  restart: always
  environment: {DEBUG: no, LEVEL: info}
services:
  web:
    <<: *defaults
    image: nginx:1.25   # with a comment
    restart: never
    ports: [ "80:80", 8080 ]
    command: |
      first
      second
    description: >-
      folded
      text
  empty:
"""


def test_a_document_as_people_write_it() -> None:
    defaults = {"restart": "always", "environment": {"DEBUG": "no", "LEVEL": "info"}}
    assert _decoded(_COMPOSE) == {
        "version": "3.8",
        "x-defaults": defaults,
        "services": {
            "web": defaults
            | {
                "restart": "never",
                "image": "nginx:1.25",
                "ports": ["80:80", 8080],
                "command": "first\nsecond\n",
                "description": "folded text",
            },
            "empty": None,
        },
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("[null, ~, '', Null]", [None, None, "", None]),
        ("12", 12),
        ("-7", -7),
        ("0", 0),
        ("0755", "0755"),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("9223372036854775807", 2**63 - 1),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1e400", "1e400"),
        (".inf", ".inf"),
        ("12:30:00", "12:30:00"),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T13:35:11Z", "2026-11-21T13:35:11Z"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("!!float 12", 12.0),
        ("!!int 12", 12),
        ("'12'", "12"),
        ("[]", []),
        ("{}", {}),
        ("{a: [], b: {}}", {"a": [], "b": {}}),
        ("1: a\ntrue: b", {"1": "a", "true": "b"}),
        ("? a\n: b", {"a": "b"}),
        ("&a x: *a", {"x": "x"}),
        ("a: &a {x: 1}\nb: [*a, *a]", {"a": {"x": 1}, "b": [{"x": 1}] * 2}),
        ("a: &a {x: 1}\nb: {<<: [*a, {x: 2, y: 2}]}", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
        ("'<<': x", {"<<": "x"}),
        (r'"\u00e4\n\0"', "ä\n\0"),
        ("\ufeffa: b", {"a": "b"}),
        ("--- a\n...\n", "a"),
    ],
)
def test_values(text: str, value: object) -> None:
    found = _decoded(text)
    assert found == value
    assert type(found) is type(value)


def test_null_and_the_empty_text_are_json_null() -> None:
    assert output(execute("return yaml.decode('a:').a == json.null and yaml.decode('') == json.null, 'same'")) == "same"


def test_several_documents_are_a_list() -> None:
    assert _decoded("a: 1\n---\n- b\n---\n", "decode_all") == [{"a": 1}, ["b"], None]
    assert _decoded("", "decode_all") == []
    assert _decoded("&a x", "decode_all") == ["x"]
    expected = "yaml.decode: the text holds several documents: yaml.decode_all returns them as a list"
    assert _reason("a\n---\nb") == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: b: c", "line 1: mapping values are not allowed in this context"),
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there twice"),
        ("a:\n  - b\n  <<: 1", "line 3: did not find expected '-' indicator"),
        ("<<: 1", "line 1: << takes a mapping, or a list of mappings"),
        ("<<: {a: 1}\n<<: {a: 1}", "line 2: the key '<<' stands there twice"),
        ("a: &n 5\n*n : b", "line 2: the key *n stands for no text: write it out, or quote it at its anchor"),
        ("[a]: b", "line 1: a key is a text, a number or a word, not a list or mapping"),
        ("a: *b", "line 1: the alias *b stands for nothing before it"),
        ("--- &a x\n--- *a", "line 2: the alias *a stands for nothing before it"),
        ("!!int x", "line 1: !!int 'x': no such value, or an unknown tag"),
        ("a\0b", "control characters are not allowed"),
        (r'"\ud800"', "line 1: found invalid Unicode character escape code"),
        ("a: [", "line 2: did not find expected node content"),
    ],
)
def test_what_cannot_be_read_is_a_reason_with_its_line(text: str, reason: str) -> None:
    found = _reason(text, "decode_all")
    assert found.startswith("yaml.decode_all: ")
    assert reason in found


def test_bytes_that_are_no_text() -> None:
    body = "local value, reason = yaml.decode('a\\xff') return value == nil, reason"
    assert output(execute(body)) == "yaml.decode: the text is not UTF-8"


# Documents made to exhaust, or to do more than be read.


def _laughs() -> str:
    lines = ["a: &a [lol,lol,lol,lol,lol,lol,lol,lol,lol]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]")
    return "\n".join(lines)


EXHAUSTING = {
    "a billion laughs": (_laughs(), "line 5: more than 10000 values, aliases written out"),
    "a quadratic blow-up": (
        f"a: &a {'x' * 50_000}\nb: [{','.join(['*a'] * 1000)}]",
        "more than 1048576 bytes of text, aliases written out",
    ),
    "merges that repeat": (
        "a: &a {" + ",".join(f"k{i}: 1" for i in range(900)) + "}\n" + "b: {<<: [" + ",".join(["*a"] * 99) + "]}",
        "more than 10000 values",
    ),
    "a list in itself": ("&a [*a]", "the alias *a stands for nothing before it, or for what it stands in"),
    "deep lists": ("[" * 50_000, "line 1: nested deeper than 100"),
    "deep lists in blocks": ("- " * 50_000, "line 1: nested deeper than 100"),
    "deep mappings": ("{a: " * 25_000, "line 1: nested deeper than 100"),
    "deep keys": ("? " * 50_000, "a key is a text"),
    "many values": ("[" + "1," * 40_000 + "1]", "more than 10000 values"),
    "many keys": ("{" + ",".join(f"a{i}" for i in range(12_000)) + "}", "more than 10000 values"),
    "many anchors": ("".join(f"- &a{i} x\n" for i in range(10_001)), "more than 10000 values"),
    "an open quote": ("'" * 90_001, "found unexpected end of stream"),
    "a Python object": ("!!python/object/apply:os.system [id]", "the tag !!python/object/apply:os.system is unknown"),
    "a Python name": ("!!python/name:os.system x", "unknown tag"),
    "a tag of its own": ("!Ref {a: 1}", "the tag !Ref is unknown"),
}


@pytest.mark.parametrize("name", EXHAUSTING)
def test_a_document_made_to_exhaust_is_refused_at_once(name: str) -> None:
    text, reason = EXHAUSTING[name]
    assert reason in _reason(text)


def test_a_text_is_bounded() -> None:
    body = "local value, reason = yaml.decode(('#'):rep(131073)) return value == nil, reason"
    assert output(execute(body)) == "yaml.decode takes a text of at most 131072 bytes, not 131073"


@pytest.mark.parametrize("text", ["#\n" * 45_000, " " * 90_000, "a: |\n" + "\n" * 45_000, '"' + "\\n" * 44_000 + '"'])
def test_long_texts_of_little_take_no_time(text: str) -> None:
    body = "local value, reason = yaml.decode(event.data.text) assert(not reason, reason)"
    output(_at_once(body, event(json.dumps({"text": text}))))


# Writing.


def test_writing() -> None:
    value = {
        "name": "web",
        "ports": [80, {"from": 443, "to": [1, []]}, [1, 2]],
        "empty": {},
        "none": [],
        "nothing": None,
        "on": True,
        "ratio": 1.0,
        "text": "a: b # c",
        "lines": "first\n  second\n\nthird\n",
    }
    assert (
        _encoded(value)
        == """\
empty: {}
lines: |
  first
    second

  third
name: web
none: []
nothing: null
"on": true
ports:
  - 80
  - from: 443
    to:
      - 1
      - []
  - - 1
    - 2
ratio: 1.0
text: "a: b # c"
"""
    )


_TEXTS = ["", " ", "a", "a b", " a", "a ", "yes", "No", "null", "~", "true", "0755", "12", "1e3", "1.5", "-", "- a"]
_TEXTS += ["a: b", "a #b", "a:", "#a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "'a'", '"a"', "{a}", "[a]", "a,b"]
_TEXTS += [
    "?",
    "? a",
    "a?",
    "=",
    "<<",
    "---",
    "...",
    "2026-11-21",
    "12:30",
    "a\nb",
    "a\nb\n",
    "a\n\n",
    "\na",
    "a\n \nb",
]
_TEXTS += ["a\tb\nc", "a\n  b\n c", "\u0085", "\u2028x", "\ufeff", "\ufffe", "ä", "😀", "\x7f", "\x01", "\0", "a\\b"]
_TEXTS += [
    "Yes",
    "NULL",
    ".inf",
    "nan",
    "y",
    "n",
    "N",
    "0x1f",
    "1_0",
    "/a/b",
    "a@b.c",
    "x" * 500,
    "é\nb",
    "a\r\nb",
    "\r",
]
_TEXTS += [
    "a\n b",
    " a\nb",
    "a \nb ",
    "a\n\n\nb\n",
    "a\n  ",
    "a\n  \n",
    "a\n\n  \nb",
    "a\n---\nb",
    "a\n# b\n...",
    "-a",
    ".5",
    "+1",
    "_",
    "a+b",
    "a-",
]


def _any_value(chance: random.Random, depth: int = 0) -> object:
    kind = chance.randint(0, 9 if depth < 4 else 6)
    if kind <= 3:
        return chance.choice(_TEXTS)
    if kind <= 6:
        return chance.choice([None, True, False, 0, -1, 2**63 - 1, 0.5, 1e20, 1e-7, 3.0, -2.5e300])
    items = [_any_value(chance, depth + 1) for _ in range(chance.randint(0, 4))]
    return items if kind <= 8 else {chance.choice(_TEXTS): item for item in items}


def test_every_reader_reads_what_was_written() -> None:
    chance = random.Random(3)
    values = [*_TEXTS, *(_any_value(chance) for _ in range(300))]
    for value in values:
        written = _encoded([value])
        assert yaml.safe_load(written) == [value], written
        assert _decoded(written) == [value], written
    for text in _TEXTS:
        written = output(execute("return true, yaml.encode(event.data.text)", event(json.dumps({"text": text}))))
        assert yaml.safe_load(written) == text, written
        assert _decoded(written) == text, written


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("print", "yaml.encode: a function has no form in YAML"),
        ("0/0", "is not a number that JSON knows"),
        ("math.huge", "yaml.encode: inf is not a number that JSON knows"),
        ("{ 1, a = 2 }", "yaml.encode: a table has both list items and named fields"),
        ("{ 1, nil, 3 }", "yaml.encode: a list has holes; use json.null"),
        ("{ [true] = 1 }", "yaml.encode: a boolean cannot be a key"),
        ("{ [5] = 1, ['5'] = 2 }", "yaml.encode: two keys are written 5"),
        ("'\\xff'", "yaml.encode: a string is not UTF-8"),
        ("{ [('x'):rep(1001)] = 1 }", "yaml.encode: a key of 1001 bytes: at most 1000"),
    ],
)
def test_what_has_no_form_in_yaml_is_an_error(argument: str, reason: str) -> None:
    assert reason in error(execute(f"yaml.encode({argument})"))


def test_a_table_in_itself_is_an_error() -> None:
    assert "yaml.encode: nested deeper than 100, or in itself" in error(execute("local t = {} t.t = t yaml.encode(t)"))


def test_the_event_itself_can_be_written() -> None:
    assert yaml.safe_load(output(execute("return true, yaml.encode(event)", event('{"n": 1}'))))["data"] == {"n": 1}


@pytest.mark.parametrize("function", ["decode", "decode_all"])
def test_misuse_names_function_and_line(function: str) -> None:
    found = error(execute(f"local _ = yaml.{function}()"))
    assert found.startswith(f"hook.lua:4: yaml.{function} takes a string, not a nil")
