"""Random texts, tables and values through the loader and the bridge: each is read or refused, and no more."""

from __future__ import annotations

import threading
import time

from chunks import event, execute, outcomes, run, runtime
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hook_event_processor.errors import HookRefused
from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program, read_definition
from hook_event_processor.run import ChunkResult

_quick = settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
_LUA = runtime()
_WORDS = (
    "return hook local function end { } ( ) [ ] = , . : ; .. ... # - + == ~= < and or not nil true false"
    " if then else"
    " while do for in repeat until goto :: x y event execute = name timeout priority 1 0x7f 1e400 'a' [[b]] \"\\0\" --"
    " require 'json' require(\"time\") setmetatable string rep error pcall coroutine wrap yield print self _ENV _G"
)
_TOKENS = st.sampled_from(_WORDS.split())
_TEXTS = st.text(max_size=60) | st.lists(_TOKENS, max_size=40).map(" ".join) | st.binary(max_size=40).map(repr)
_SCALARS = st.one_of(
    st.just("nil"), st.just("true"), st.just("0/0"), st.just("1/0"), st.just("-1/0"), st.just("math.mininteger"),
    st.just("print"), st.just("coroutine.create(print)"), st.just("{}"), st.just("('x'):rep(100000)"),
    st.integers(-(2**63) + 1, 2**63 - 1).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.binary(max_size=12).map(lambda raw: "'" + "".join(f"\\{byte:03d}" for byte in raw) + "'"),
)  # fmt: skip
_NAMES = (
    "name description event_type source action stack priority timeout retry params requires execute filter __index x"
)
_KEYS = st.sampled_from([*_NAMES.split(), "[1]", "[true]", "[1.5]", "['\\0']", "[{}]", "[print]", "['\\255']"])
_LUA_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: "{" + ",".join(items) + "}")
        | st.lists(st.tuples(_KEYS, inner), max_size=4).map(lambda fields: _table(fields))
    ),
    max_leaves=8,
)


def _table(fields: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{key} = {value}" for key, value in fields) + "}"


def _read(text: str) -> None:
    try:
        definition = read_definition(text, "hook.lua")
    except HookRefused as refusal:
        reason = str(refusal)
    else:
        reason = ""
        assert "\0" not in f"{definition.name}{definition.description}{definition.stack}{definition.event_types}"
    assert len(reason) < 20_000


def _is_whole(result: ChunkResult) -> None:
    """What came of one run can be stored."""
    assert len(result.codes) == len(result.outputs) == len(result.errors) == 1
    for text in (result.outputs[0], result.errors[0]):
        assert text is None or "\0" not in text.decode()


@_quick
@given(text=_TEXTS)
def test_any_text_is_a_hook_or_is_refused(text: str) -> None:
    _read(text)


@_quick
@given(fields=st.lists(st.tuples(_KEYS, _LUA_VALUES), max_size=5), runs=st.booleans())
@example(fields=[("event_type", "{{('x'):rep(100000)}}")], runs=True)
@example(fields=[("priority", "('x'):rep(100000)")], runs=True)
def test_any_table_is_a_definition_or_is_refused(fields: list[tuple[str, str]], runs: bool) -> None:
    _read(f"return {_table([*fields, ('execute', 'function() end')] if runs else fields)}")


def test_a_key_of_megabytes_is_refused_at_once() -> None:
    started = time.process_time()
    _read("return { [('x'):rep(4000000)] = 1, execute = print }")
    assert time.process_time() - started < 3


@_quick
@given(text=_TEXTS)
def test_any_text_runs_or_fails(text: str) -> None:
    _is_whole(run(text, within=_LUA, timeout=1.0))


@_quick
@given(value=_LUA_VALUES, second=_LUA_VALUES)
def test_any_value_is_returned_raised_logged_and_dispatched(value: str, second: str) -> None:
    for body in (
        f"return {value}, {second}",
        f"error({value}, {second})",
        f"print({value}, {second})",
        f"require('log').info({value}, {second})",
        f"event.dispatch({value}, {second})",
        f"event.dispatch('a.b', {value}, {second})",
        f"event.dispatch('a.b', {{}}, {{ stack = {value}, priority = {second}, delay = {value}, id = {second} }})",
        f"return true, require('json').encode({value})",
        f"require('json').decode({value})",
        f"require({value})",
        f"require('time').sleep({value} and -1)",
        f"local mt = {value} setmetatable(type(mt) == 'table' and mt or {{}}, {second})",
        f"table.unpack({value}, {second}) string.rep({value}, {second})",
    ):
        _is_whole(execute(body, within=_LUA, timeout=1.0))


@_quick
@given(payload=st.text('{}[]",:0123456789.eE+-tfn\\u ', max_size=60), metadata=st.text(max_size=10))
def test_any_payload_is_read_or_fails_its_event(payload: str, metadata: str) -> None:
    result = execute(
        "return true, tostring(event.data) .. tostring(event.stack)", event(payload, metadata), within=_LUA
    )
    assert outcomes(result)[0] in (Outcome.CONTINUE, Outcome.FAILED)


@_quick
@given(pattern=st.text("a.%*+-?[]^$()bfs1", max_size=14), length=st.integers(0, 3000))
def test_any_pattern_ends(pattern: str, length: int) -> None:
    quoted = pattern.replace("]]", "]] .. ']]' .. [[")
    text = f"local s = ('ab'):rep({length}) pcall(string.find, s, [[{quoted} ]]:sub(1, -2))"
    hook = program(f"return {{ execute = function() {text} end }}", "hook")
    _is_whole(_LUA.run(hook, 5.0, [event()], threading.Event()))
