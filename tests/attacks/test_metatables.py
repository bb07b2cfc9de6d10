"""Attacks through metatables: nothing that a hook writes into one, early or late, gets past the deadline."""

from __future__ import annotations

import pytest
from chunks import error, execute, outcomes

from hook_event_processor.event import Outcome

# Each key keeps the next one, in tables that come in another order.
_CHAIN = (
    "local mt, n, all = {}, 20000, {} for i = 1, n do all[i] = setmetatable({}, mt) end"
    " local key = {} local first = key"
    " for i = 1, n do local new = {} all[i * 7919 % n + 1][key] = new key = new end key = nil"
)

REFUSED = {
    "weak keys that are set late": (
        f"{_CHAIN} mt.__mode = 'k' while true do local _ = ('x'):rep(1000000) end",
        "a hook cannot have weak tables (__mode)",
    ),
    "weak keys by rawset": ("local mt = {} setmetatable({}, mt) rawset(mt, '__mode', 'k')", "weak tables"),
    "weak keys under a computed name": ("local mt = {} setmetatable({}, mt) mt['__mo' .. 'de'] = 'k'", "weak tables"),
    "weak keys before their use": ("setmetatable({}, { __mode = 'v' })", "weak tables"),
    "a finalizer": ("setmetatable({}, { __gc = function() end })", "finalizers (__gc)"),
    "a finalizer that is set late": (
        "local mt = {} setmetatable({}, mt) mt.__gc = function() end setmetatable({}, mt)",
        "finalizers (__gc)",
    ),
    "a finalizer in the metatable of a metatable": (
        "local mt = {} setmetatable({}, mt) setmetatable(mt, { __gc = function() end })",
        "finalizers (__gc)",
    ),
    "a table that is called through itself": (
        "local mt = {} local t = setmetatable({}, mt) mt.__call = t t()",
        "__call takes a function, not a table",
    ),
    "the same by a table that was a function first": (
        "local mt = { __call = print } local t = setmetatable({}, mt) mt.__call = t t()",
        "__call takes a function, not a table",
    ),
    "the same by rawset": (
        "local mt = { __call = print } local t = setmetatable({}, mt) rawset(mt, '__call', t) t()",
        "__call takes a function, not a table",
    ),
    "calls through a chain of tables": (
        "local t = print for _ = 1, 100000 do t = setmetatable({}, { __call = t }) end t()",
        "__call takes a function, not a table",
    ),
    "a library as a metatable": ("setmetatable({}, string)", "a table of the library cannot be a metatable"),
    "the payload as a metatable": ("setmetatable({}, event.data)", "a table of the library cannot be a metatable"),
    "a protected metatable": (
        "local t = setmetatable({}, { __metatable = 'locked' }) setmetatable(t, {})",
        "cannot change a protected metatable",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_at_the_hooks_line(name: str) -> None:
    body, reason = REFUSED[name]
    text = error(execute(body, timeout=5))
    assert reason in text
    assert "(processor)" not in text


def test_a_name_of_megabytes_is_none() -> None:
    """C copies a __name for each mention of the value."""
    body = "return true, tostring(setmetatable({}, { __name = ('x'):rep(1000) })):sub(1, 6)"
    assert execute(body).outputs == [b"table:"]


ORDINARY = {
    "a class": """
        local C = {} C.__index = C
        function C.new(x) return setmetatable({ x = x }, C) end
        function C:get() return self.x end
        assert(C.new(1):get() == 1 and getmetatable(C.new(1)) == C and C.__index == C)""",
    "what is added to a class after its first instance": """
        local C = {} C.__index = C
        local a = setmetatable({ x = 1 }, C)
        function C:late() return 9 end
        C.__add = function(p, q) return p.x + q.x end
        C.__tostring = function() return "C" end
        assert(a:late() == 9 and a + a == 2 and tostring(a) == "C")
        C.__index = function(_, key) return key end
        assert(a.other == "other")""",
    "a class that inherits and is called": """
        local C = { get = function(self) return self.x end } C.__index = C
        local make = function(class, x) return setmetatable({ x = x }, class) end
        local D = setmetatable({}, { __index = C, __call = make })
        D.__index = D
        assert(D(5):get() == 5 and getmetatable(D(5)) == D and getmetatable(D).__index == C)""",
    "a table that is its own metatable": """
        local P = {} setmetatable(P, P)
        P.__call = function() return "called" end P.__index = function(_, key) return key end
        assert(P() == "called" and P.foo == "foo" and getmetatable(P) == P)""",
    "a metatable's fields by pairs, rawget and rawset": """
        local mt = { __index = {}, __len = function() return 3 end, other = 1 } local t = setmetatable({}, mt)
        local n = 0 for _ in pairs(mt) do n = n + 1 end
        assert(n == 3 and rawget(mt, "__len")() == 3 and rawget(mt, "other") == 1)
        rawset(mt, "__len", function() return 4 end)
        assert(#t == 4)""",
    "a metatable that is taken off and put on": """
        local mt = {} local t = setmetatable({}, mt)
        setmetatable(mt, { __index = { k = 2 } }) assert(mt.k == 2)
        setmetatable(mt, nil) assert(mt.k == nil and getmetatable(mt) == nil)
        setmetatable(t, nil) assert(getmetatable(t) == nil)""",
    "a protected class that is a metatable too": """
        local R = setmetatable({}, { __metatable = "locked", __call = function() return 3 end })
        R.__index = { y = 4 }
        assert(setmetatable({}, R).y == 4 and getmetatable(R) == "locked" and R() == 3)
        assert(not pcall(setmetatable, R, nil))""",
    "__newindex, __eq and __close": """
        local log = {}
        local t = setmetatable({}, { __newindex = function(_, key, item) log[key] = item end })
        t.x = 1 assert(log.x == 1 and rawget(t, "x") == nil)
        local mt = { __eq = function() return true end } assert(setmetatable({}, mt) == setmetatable({}, mt))
        do local _ <close> = setmetatable({}, { __close = function() log.closed = true end }) end
        assert(log.closed)""",
    "__newindex of the metatable of a metatable": """
        local log, mt = {}, {} setmetatable({}, mt)
        setmetatable(mt, { __newindex = log }) mt.x = 1 assert(log.x == 1)
        setmetatable(mt, { __newindex = function(t, key, item) rawset(t, key, item + 1) end }) mt.y = 1
        assert(mt.y == 2)""",
    "arguments that are none": """
        assert(not pcall(setmetatable, 1, {}) and not pcall(setmetatable, {}, 1) and not pcall(setmetatable))
        assert(getmetatable({}) == nil and getmetatable(1) == nil and getmetatable("") == false)""",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_metatables_work_as_in_lua(name: str) -> None:
    assert outcomes(execute(ORDINARY[name])) == [Outcome.CONTINUE], execute(ORDINARY[name]).errors


_EQUAL_TO = "local odd = setmetatable({{}}, {{ __eq = function() {} end }}) "


@pytest.mark.parametrize("equal", ["return true", "while true do end", "error('why')"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return odd", "the hook returned a table that is no known result"),
        ("coroutine.yield(odd, true, 'forged')", "attempt to yield from outside a coroutine"),
    ],
)
def test_what_a_run_gives_back_is_not_compared_by_its_own_function(equal: str, body: str, said: str) -> None:
    result = execute(_EQUAL_TO.format(equal) + body, timeout=1)
    assert said in error(result)
    assert outcomes(result) in [[Outcome.REFUSED], [Outcome.FAILED]]
