"""The names that hooks can use: globals, and the functions of each module, as the stubs declare them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

GLOBALS = frozenset(
    {"_G", "_VERSION", "assert", "collectgarbage", "error", "getmetatable", "ipairs", "next", "pairs", "pcall"}
    | {"print", "rawequal", "rawget", "rawlen", "rawset", "require", "select", "setmetatable", "tonumber"}
    | {"tostring", "type", "xpcall"}
    | {"coroutine", "debug", "math", "os", "string", "table", "utf8"}
)
SPEC_GLOBALS = frozenset({"describe", "it", "before_each", "after_each", "expect", "mock", "spec"})
# Lua's own that a hook has no use of, or may not have: what to write instead.
ABSENT: Mapping[str, str] = {
    "dofile": 'shared code is required: require("lib.name")',
    "io": 'files are read and written with require("file"), programs run with require("exec")',
    "load": "text is never run as code in a hook",
    "loadfile": 'shared code is required: require("lib.name")',
    "loadstring": "text is never run as code in a hook",
    "module": "a hook's file returns its table",
    "package": "require finds modules by itself",
    "setfenv": "it is not in Lua 5.4",
    "getfenv": "it is not in Lua 5.4",
    "unpack": "it is table.unpack in Lua 5.4",
}
_FILES = 'files are read and written with require("file")'
ABSENT_MEMBERS: Mapping[str, str] = {
    "os.execute": 'programs are run with require("exec")',
    "os.exit": "a run ends when its function returns",
    "os.getenv": 'variables are read with require("env")',
    "os.remove": _FILES,
    "os.rename": _FILES,
    "os.tmpname": _FILES,
}
# What there is of Lua's own libraries.
LUA_MEMBERS: Mapping[str, frozenset[str]] = {
    "coroutine": frozenset({"close", "create", "isyieldable", "resume", "running", "status", "wrap", "yield"}),
    "debug": frozenset({"traceback"}),
    "math": frozenset(
        {"abs", "acos", "asin", "atan", "ceil", "cos", "deg", "exp", "floor", "fmod", "huge", "log", "max"}
        | {"maxinteger", "min", "mininteger", "modf", "pi", "rad", "random", "randomseed", "sin", "sqrt", "tan"}
        | {"tointeger", "type", "ult"}
    ),
    "os": frozenset({"clock", "date", "difftime", "time"}),
    "string": frozenset(
        {"byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "pack", "packsize", "rep"}
        | {"reverse", "sub", "unpack", "upper"}
    ),
    "table": frozenset({"concat", "insert", "move", "pack", "remove", "sort", "unpack"}),
    "utf8": frozenset({"char", "charpattern", "codepoint", "codes", "len", "offset"}),
}
_FUNCTION = re.compile(r"^function (\w+)[.:](\w+)\(", re.MULTILINE)
_FIELD = re.compile(r"^(\w+)\.(\w+) = ", re.MULTILINE)


@cache
def members() -> Mapping[str, frozenset[str]]:
    """Module name -> the names in it."""
    found: dict[str, set[str]] = {}
    for stub in stubs():
        text = stubs()[stub]
        for owner, name in (*_FUNCTION.findall(text), *_FIELD.findall(text)):
            if owner == stub.removesuffix(".lua"):
                found.setdefault(owner, set()).add(name)
    return {module: frozenset(names) for module, names in found.items()}


@cache
def event_fields() -> frozenset[str]:
    """The fields of an event, as hooks get it."""
    declared = stubs()["hook.lua"].partition("---@class hep.Event\n")[2].partition("\n\n")[0]
    return frozenset(re.findall(r"^---@field (\w+)", declared, re.MULTILINE))


def completions(text: str) -> list[str]:
    """The names that begin so: globals and modules, and behind a dot what a module has."""
    owner, dot, begun = text.rpartition(".")
    names = members().get(owner, ()) if dot else GLOBALS | members().keys()
    return sorted(f"{owner}{dot}{name}" for name in names if name.startswith(begun))


@cache
def stubs() -> Mapping[str, str]:
    """File name -> text of the declarations for the Lua language server."""
    directory = files("hook_event_processor.workshop") / "stubs"
    return {path.name: path.read_text() for path in sorted(directory.iterdir(), key=str) if path.name.endswith(".lua")}
