"""Attacks on what lies between Lua and Python: objects, exceptions and values of any kind."""

from __future__ import annotations

import pytest
from chunks import execute, library, outcomes, output, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.door import Function
from hook_event_processor.lua.runtime import Runtime


def _with(**functions: Function) -> Runtime:
    """A runtime in which crypto's functions are these."""
    books = library()
    books._functions = {f"crypto.{name}".encode(): function for name, function in functions.items()}
    return runtime(library=books)


def _broken(*_: object) -> bytes:
    raise RuntimeError("inside")


def test_a_fault_of_the_library_is_a_text() -> None:
    """An exception is an object, which leads to frames, and those to everything."""
    body = "local ok, e = pcall(require('crypto').sha256, 'x') return true, type(e) .. ' ' .. tostring(e)"
    found = output(execute(body, within=_with(digest=Function(_broken))))
    assert found.startswith("string ")
    assert "the library failed: RuntimeError('inside')" in found


def test_only_plain_values_cross() -> None:
    """A function or a table would run or be read on Python's side, where no deadline is."""
    from hook_event_processor.lua.door import Misused, cross

    seen: list[object] = []

    def take(_: object, *arguments: object) -> None:
        seen.extend(arguments)

    lua = runtime()._lua
    for value in (lua.eval(b"print"), lua.eval(b"{}"), lua.eval(b"coroutine.create(print)")):
        with pytest.raises(Misused, match="a table or function stands where"):
            cross(Function(take), None, False, (value,))  # type: ignore[arg-type]
    assert seen == []


def test_python_objects_are_closed() -> None:
    """Should one ever get through: it has no attributes, and no items."""
    look = b"function(o, name) local ok, found = pcall(function() return o[name] end) return ok and found ~= nil end"
    reach = runtime()._lua.eval(look)
    for thing in (_broken, RuntimeError("x"), Function(_broken)):
        for name in (b"__globals__", b"__class__", b"run", b"args", b"__init__", b"with_traceback"):
            assert reach(thing, name) is False


@pytest.mark.parametrize("name", ["python", "_LOADED", "POBJECT"])
def test_the_bridges_own_module_is_not_there(name: str) -> None:
    assert outcomes(execute(f"assert({name} == nil)")) == [Outcome.CONTINUE]
