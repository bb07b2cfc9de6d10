"""What passes between a hook and the library's Python functions."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import Any

import pytest
from chunks import error, execute, library, outcomes, output, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua import door
from hook_event_processor.lua.door import Call, Failed, Function, Library, Misused
from hook_event_processor.lua.room import ROOM_BYTES
from hook_event_processor.lua.runtime import Runtime


class _Pretended(Library):
    """A library with one function of the test's, called as env.get."""

    def __init__(self, function: Function) -> None:
        super().__init__(library()._services)
        self._only = function

    def function(self, name: bytes) -> Function:
        return self._only if name == b"env.get" else super().function(name)


def _within(run: Any, **options: Any) -> Runtime:
    return runtime(library=_Pretended(Function(run, **options)))


def _runs(body: str, run: Any, **options: Any) -> Any:
    return execute(f'local get = require("env").get\n{body}', within=_within(run, **options))


def test_values_come_back_as_they_are() -> None:
    result = _runs('return true, tostring(get("x"))', lambda _, name, *__: b"\xc3\xa9" + name)
    assert output(result) == "éx"


def test_an_expected_failure_is_nil_and_a_reason() -> None:
    def fail(*_: Any) -> None:
        raise Failed("there is no such thing")

    assert output(_runs('local v, why = get("x") return true, tostring(v) .. why', fail)) == "nilthere is no such thing"


def test_misuse_is_an_error_at_the_hooks_line() -> None:
    def misuse(*_: Any) -> None:
        raise Misused("env.get takes a name")

    assert error(_runs('\n\nget("x")', misuse)).startswith("hook.lua:")
    assert "env.get takes a name" in error(_runs('get("x")', misuse))


def test_a_fault_of_the_library_is_the_runs_error_and_no_python_object() -> None:
    def fault(*_: Any) -> None:
        raise ZeroDivisionError("inside")

    result = _runs('local ok, why = pcall(get, "x") return true, type(why) .. ": " .. why', fault)
    assert "string: " in output(result)
    assert "ZeroDivisionError" in output(result)


def test_nothing_is_called_once_the_run_is_over() -> None:
    calls = []

    def late(call: Call, *_: Any) -> None:
        calls.append(call.left)
        call.cancelled.wait(call.left + 0.05)

    text = 'local get = require("env").get\nwhile true do pcall(get, "x") end'
    result = execute(text, within=_within(late, waits=True), timeout=0.2)
    assert outcomes(result) == [Outcome.TIMEOUT]
    assert len(calls) == 1


def test_a_result_beyond_the_memory_fails_the_run_and_not_the_process() -> None:
    lua = runtime(4 * 2**20, _Pretended(Function(lambda *_: b"x" * (6 * 2**20))))
    result = execute('local a = require("env").get("x") local b = a .. "y" return true, "no"', within=lua)
    assert outcomes(result) == [Outcome.MEMORY]


def test_a_result_beyond_the_limit_is_a_failure() -> None:
    result = _runs('local v, why = get("x") return true, why', lambda *_: b"x" * (door.MAX_RESULT_BYTES + 1))
    assert "bytes: at most" in output(result)


@pytest.mark.parametrize("top_level", ['require("env").get("x")', 'local v = require("env").get("x", "y")'])
def test_nothing_is_called_while_a_file_is_read(top_level: str) -> None:
    from hook_event_processor.errors import HookRefused
    from hook_event_processor.lua.loader import read_definition

    with pytest.raises(HookRefused, match="while its file is read"):
        read_definition(f"{top_level}\nreturn {{ execute = function() end }}", "hook.lua")


def test_a_call_that_waits_gives_its_turn_at_memory_back() -> None:
    """Two runtimes that have room for one at a time: the one that waits does not hold the other up."""
    from hook_event_processor.lua.memory import MemoryBudget

    budget = MemoryBudget(2 * 32 * 2**20 - 2**20, 32 * 2**20)
    entered, release = threading.Event(), threading.Event()

    def wait(*_: Any) -> bool:
        entered.set()
        return release.wait(10)

    waiting = Runtime(32 * 2**20, 100_000, budget, _Pretended(Function(wait, waits=True)))
    other = Runtime(32 * 2**20, 100_000, budget)
    thread = threading.Thread(target=lambda: execute('require("env").get("x")', within=waiting))
    thread.start()
    try:
        assert entered.wait(10)
        started = perf_counter()
        assert outcomes(execute("return true", within=other)) == [Outcome.CONTINUE]
        assert perf_counter() - started < 5
    finally:
        release.set()
        thread.join(10)


def test_results_share_room_that_they_give_back_when_they_are_handed_over() -> None:
    lua = _within(lambda call, size, *_: b"x" * 10 if call.hold(int(size)) else b"no room")
    total = str(ROOM_BYTES)
    text = f"return true, get('{total}') .. get('{total}') .. get('{ROOM_BYTES + 1}')"
    result = execute(f'local get = require("env").get\n{text}', within=lua)
    assert output(result) == "x" * 20 + "no room"
