"""state: what hooks remember, with its types; atomic between threads; locks that end by themselves."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
import pytest
from chunks import error, event, execute, library, outcomes, output, runtime
from psycopg import Connection, Cursor
from psycopg.conninfo import make_conninfo
from running import add_hook, all_processed, insert, running
from test_doctor_server import needs_pgbouncer
from waiting import wait_for

from hook_event_processor.errors import StateRefused, StoreUnavailable
from hook_event_processor.event import Outcome
from hook_event_processor.lua.door import Call, Failed, Library, Services
from hook_event_processor.lua.loader import program
from hook_event_processor.policy import Grants
from hook_event_processor.run import ChunkResult
from hook_event_processor.settings import Settings
from hook_event_processor.store import state, state_locks
from hook_event_processor.store.database import Database
from hook_event_processor.store.embedded import EmbeddedServer
from hook_event_processor.store.session_pool import SessionPool
from hook_event_processor.store.state import Namespace
from ops.chaos import pooler as pgbouncer

OWN = Namespace("hook", "hook")


class Hooks:
    """Runs hooks on one library, as a processor's slots do."""

    def __init__(self, used: Library) -> None:
        self.library = used

    def run(self, body: str, name: str = "hook", stack: str | None = None, **options: Any) -> ChunkResult:
        text = (
            f'local state, json = require("state"), require("json")\nreturn {{execute = function(event)\n{body}\nend}}'
        )
        lua = runtime(library=self.library)
        timeout = options.pop("timeout", 5.0)
        return lua.run(program(text, name, stack), timeout, [event()], threading.Event())

    def said(self, body: str, **options: Any) -> str:
        return output(self.run(f"{body}\nreturn true", **options))


@pytest.fixture
def hooks(database: Database) -> Hooks:
    return Hooks(library(database))


def test_the_seeds_own_calls_work(hooks: Hooks) -> None:
    body = (
        'local last = state.get("last_scale_time") or 0\nlocal now = os.time()\n'
        'if now - last < 300 then return true, "Cooldown period active" end\n'
        'state.set("last_scale_time", now)\nreturn true, "scaled"'
    )
    assert [output(hooks.run(body)) for _ in range(2)] == ["scaled", "Cooldown period active"]


VALUES = [
    ("7", "7"),
    ("math.maxinteger", "9223372036854775807"),
    ("math.mininteger", "-9223372036854775808"),
    ("7.0", "7.0"),
    ("0.1", "0.1"),
    ("1e15", "1000000000000000.0"),
    ("2.0 ^ 60", "1152921504606846976.0"),
    ("1e300", "1e+300"),
    ("true", "true"),
    ("false", "false"),
    ("json.null", "null"),
    ('"é\\n\\"x\\" \\1"', '"é\\n\\"x\\" \\u0001"'),
    ('"\\\\u0000"', '"\\\\u0000"'),
    ("{}", "{}"),
    ("json.array({})", "[]"),
    ("{1, {a = {}, b = json.array({})}}", '[1,{"a":{},"b":[]}]'),
]


def test_values_keep_their_types(hooks: Hooks) -> None:
    for written, read in VALUES:
        body = f'state.set("k", {written}) print(json.encode(state.get("k")), state.exists("k"))'
        value, exists = hooks.said(body).rsplit("\t", 1)
        # Keys of objects have no order.
        assert (sorted(value), exists) == (sorted(read), "true")


def test_a_key_that_is_not_there_is_nil_or_the_default(hooks: Hooks) -> None:
    body = (
        'print(state.get("k"), state.get("k", 5), state.exists("k"), state.delete("k")) state.set("k", false)'
        'print(state.get("k", 5), state.delete("k"), state.delete("k"))'
    )
    assert hooks.said(body) == "nil\t5\tfalse\tfalse\nfalse\ttrue\tfalse"


def test_keys_are_listed_by_prefix(hooks: Hooks) -> None:
    body = (
        'for _, key in ipairs({"b_2", "a", "b_1", "b%", "é"}) do state.set(key, 1) end\n'
        'print(json.encode(state.keys()), json.encode(state.keys("b_")), json.encode(state.keys("none")))'
    )
    assert hooks.said(body) == '["a","b%","b_1","b_2","é"]\t["b_1","b_2"]\t[]'


def test_a_key_is_gone_when_its_time_is_over(hooks: Hooks, connection: Connection) -> None:
    hooks.said('state.set("k", 1, 60) state.set("t", 1, {ttl = 60}) state.set("for good", 1)')
    assert hooks.said('print(state.get("k"))') == "1"
    connection.execute("UPDATE hook_state SET expires_at = now() WHERE expires_at IS NOT NULL")
    body = 'print(state.get("k"), state.exists("k"), state.delete("k"), json.encode(state.keys()), state.incr("t"))'
    assert hooks.said(body) == 'nil\tfalse\tfalse\t["for good"]\t1'
    assert connection.execute("SELECT expires_at FROM hook_state WHERE key = 't'").fetchone() == (None,)


def test_a_counter_counts_from_nothing_and_keeps_its_time(hooks: Hooks, connection: Connection) -> None:
    body = (
        'print(state.incr("n"), state.incr("n", 2), state.incr("n", -5), state.incr("n", 0.5), state.get("n"))'
        'print(state.incr("window", 1, 60), state.incr("window", 1, 3600))'
    )
    assert hooks.said(body) == "1\t3\t-2\t-1.5\t-1.5\n1\t2"
    left = connection.execute("SELECT expires_at - now() < '61 s' FROM hook_state WHERE key = 'window'").fetchone()
    assert left == (True,)


def test_a_counter_never_begins_beyond_its_range(database: Database, connection: Connection) -> None:
    """Neither as a new key, nor as one whose time is over, nor in a dry run."""
    for hooks in (Hooks(library(database)), Hooks(library(database, lambda _: None))):
        state.put(connection, OWN, "expired", "1", 60)
        connection.execute("UPDATE hook_state SET expires_at = now()")
        for key in ("new", "expired"):
            for by in ("1e300", "-1e300", "2.0 ^ 63 + 2048"):
                said = error(hooks.run(f'state.incr("{key}", {by})'))
                assert f"the key '{key}' would go beyond what a 64-bit integer holds" in said
        least = "-9223372036854775808\t-9223372036854775807"
        assert hooks.said('print(state.incr("new", math.mininteger), state.incr("new", 1))') == least
        connection.execute("DELETE FROM hook_state")


def test_compare_and_swap_changes_only_what_is_as_expected(hooks: Hooks) -> None:
    body = (
        'local swap = state.compare_and_swap\nprint(swap("k", nil, {a = 1, b = {2}}), swap("k", nil, 2))\n'
        'print(swap("k", {a = 1}, 3), swap("k", {b = {2}, a = 1}, 3), state.get("k"))\n'
        'print(swap("k", 4, nil), swap("k", 3, nil), state.exists("k"), swap("k", nil, nil), swap("k", 3, 4))'
    )
    assert hooks.said(body) == "true\tfalse\nfalse\ttrue\t3\nfalse\ttrue\tfalse\ttrue\tfalse"


def test_namespaces_are_apart(hooks: Hooks) -> None:
    """A hook's own keys are its own; shared ones are those of its stack."""
    body = 'state.set("k", "{0}") state.shared("team").set("k", "shared {0}")'
    for name, stack in (("a", None), ("b", None), ("a", "production")):
        hooks.said(body.format(f"{name} {stack}"), name=name, stack=stack)
    read = 'print(state.get("k"), state.shared("team").get("k"), state.shared("other").get("k"))'
    assert hooks.said(read, name="a") == "a None\tshared b None\tnil"
    assert hooks.said(read, name="b") == "b None\tshared b None\tnil"
    assert hooks.said(read, name="a", stack="production") == "a production\tshared a production\tnil"


MISUSED = [
    ("state.set({}, 1)", "state.set takes a key, not a table"),
    ('state.set("k")', "state.set takes a value; state.delete removes a key"),
    ('state.set("k", print)', "a function has no form in JSON"),
    ('state.set("k", 1, "5")', "state.set takes a ttl in seconds, or {ttl = seconds}, not a string"),
    ('state.set("k", 1, {time = 5})', "state.set: unknown option time; it takes ttl"),
    ('state.set("k", 1, 0)', "ttl takes a number of seconds, from 0.001 to 1e+09"),
    ('state.set("k", 1, 0/0)', "ttl takes a number of seconds"),
    ('state.set("k", "\\0")', "the value holds a NUL character"),
    ('state.set("k\\0", 1)', "the key holds a NUL character"),
    ('state.set("\\xff", 1)', "the key is not UTF-8"),
    ('state.set("k", "\\xff")', "the value is not UTF-8"),
    ('state.set("", 1)', "the key has 0 bytes: it takes 1 to 255"),
    ('state.get(("k"):rep(256))', "the key has 256 bytes: it takes 1 to 255"),
    ('state.set("k", ("v"):rep(65535))', "the value is 65537 bytes of JSON: at most 65536"),
    ('state.incr("k", "1")', "state.incr takes a number to add, not a string"),
    ('state.set("k", {}) state.incr("k")', "the key 'k' does not hold a number"),
    ('state.incr("m", math.maxinteger) state.incr("m")', "the key 'm' would go beyond what a 64-bit integer holds"),
    ("state.shared()", "state.shared takes a name, not a nil"),
    ('state.shared("").get("k")', "the name of a shared namespace has 0 bytes"),
    ("state.lock(1, 1)", "state.lock takes a lock's name, not a number"),
    ('state.lock("l")', "state.lock takes a ttl in seconds, not a nil"),
    ('state.lock("l", 1, {waits = 1})', "state.lock: unknown option waits; it takes wait"),
    ('state.lock("l", 1e9)', "ttl takes a number of seconds, from 0.001 to 604800"),
    ('state.lock("l", 1, {wait = -1})', "wait takes a number of seconds, from 0 to 1e+09"),
    ('state.with_lock("l", 1)', "state.with_lock takes a function, not a nil"),
    ("state.with_lock({}, 1, print)", "state.with_lock takes a lock's name, not a table"),
    ("state.get = print", "state.get cannot be set: libraries are frozen"),
]


def test_misuse_is_an_error_that_says_what_is_taken(hooks: Hooks) -> None:
    for called, reason in MISUSED:
        result = hooks.run(called)
        assert outcomes(result) == [Outcome.FAILED]
        assert reason in error(result)


def test_a_value_that_is_too_large_is_not_read(hooks: Hooks, connection: Connection) -> None:
    """Somebody has written it by SQL; a processor that read it would end."""
    large = "INSERT INTO hook_state (scope, name, key, value) VALUES ('hook', 'hook', 'big', to_jsonb(repeat('x', %s)))"
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute(large, (2_000_000,))
    connection.execute("ALTER TABLE hook_state DROP CONSTRAINT hook_state_value_size")
    connection.execute(large, (5_000_000,))
    told = "the key 'big' holds what is too large to be read: it can be deleted"
    for call in ('state.get("big")', 'state.exists("big")', 'state.incr("big")'):
        assert told in error(hooks.run(call))
    assert output(hooks.run('return true, tostring(state.delete("big"))')) == "true"


def test_a_value_that_is_as_large_as_it_may_be_comes_back(connection: Connection) -> None:
    """In digits its text is sixty times as long."""
    value = f"[{','.join(['1e308'] * 10_000)}]"
    assert len(value) < state.MAX_VALUE_BYTES
    namespace = Namespace("hook", "greet")
    state.put(connection, namespace, "key", value)
    held = state.get(connection, namespace, "key")
    assert held is not None
    assert json.loads(held) == [10**308] * 10_000
    state.put(connection, namespace, "key", f"[{','.join('1' * 32_000)}]")  # the most bytes in its row
    assert state.get(connection, namespace, "key") is not None


def test_the_number_of_keys_is_bounded(hooks: Hooks, connection: Connection) -> None:
    fill = (
        "INSERT INTO hook_state (scope, name, key, value, expires_at)"
        " SELECT 'hook', 'hook', 'k' || n, '1', %s FROM generate_series(1, 10000) AS n"
    )
    connection.execute(fill, (None,))
    for called in ('state.set("more", 1)', 'state.incr("more")', 'state.compare_and_swap("more", nil, 1)'):
        assert "the hook 'hook' holds 10,000 keys, as many as it may" in error(hooks.run(called))
    assert hooks.said('state.set("k1", 2) state.shared("x").set("k", 1) print(state.incr("k1"))') == "3"
    # Expired ones are in nobody's way.
    connection.execute("UPDATE hook_state SET expires_at = now() WHERE key <> 'k1'")
    assert hooks.said('state.set("more", 1) print(json.encode(state.keys()))') == '["k1","more"]'


def test_the_number_of_shared_namespaces_is_bounded(hooks: Hooks, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_state (stack, scope, name, key, value)"
        " SELECT stack, 'shared', 's' || n, 'k', '1' FROM generate_series(1, 100) AS n, (VALUES (''), ('production'))"
        " AS stacks (stack)"
    )
    for called in ('set("k", 1)', 'incr("k")', 'compare_and_swap("k", nil, 1)'):
        said = error(hooks.run(f'state.shared("more").{called}'))
        assert "the hooks of no stack have 100 shared namespaces with keys, as many as there may be" in said
    assert "the stack 'production' has 100" in error(hooks.run('state.shared("more").set("k", 1)', stack="production"))
    assert hooks.said('state.set("k", 1) state.shared("s1").set("new", 1) print(state.shared("s2").incr("k"))') == "2"
    connection.execute("UPDATE hook_state SET expires_at = now() WHERE name = 's50'")
    assert hooks.said('print(state.shared("more").set("k", 1))') == "true"


def _at_once(number: int, work: Any) -> list[Any]:
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(work, range(number)))


def test_counters_lose_nothing_between_threads(database: Database) -> None:
    """Sixteen threads on two libraries: as two processors."""
    both = [Hooks(library(database)) for _ in range(2)]
    _at_once(16, lambda n: both[n % 2].said('for i = 1, 25 do state.incr("n") end'))
    assert both[0].said('print(state.get("n"))') == "400"


def test_one_of_many_swaps_wins(hooks: Hooks) -> None:
    won = _at_once(12, lambda n: hooks.said(f'print(state.compare_and_swap("k", nil, {n}))'))
    assert sorted(won) == ["false"] * 11 + ["true"]


def test_one_of_many_has_the_lock(database: Database) -> None:
    both = [Hooks(library(database)) for _ in range(2)]
    had = _at_once(12, lambda n: both[n % 2].said('print(state.lock("l", 60))'))
    assert sorted(had) == ["false\tthe lock 'l' is held by another run"] * 11 + ["true\tnil"]


def test_with_lock_lets_one_in_at_a_time(hooks: Hooks) -> None:
    """A counter that is read and written in two steps loses nothing."""
    body = (
        'for i = 1, 5 do\n  assert(state.with_lock("l", 60, function()\n    local n = state.get("n", 0)\n'
        '    state.set("n", n + 1)\n    return true\n  end, {wait = 30}))\nend'
    )
    _at_once(6, lambda _: hooks.said(body, timeout=30))
    assert hooks.said('print(state.get("n"))') == "30"


def test_with_lock_returns_what_the_function_does_and_releases(hooks: Hooks) -> None:
    assert hooks.said('print(state.with_lock("l", 60, function() return 1, nil, 3 end))') == "1\tnil\t3"
    raised = hooks.run('state.with_lock("l", 60, function() error("inside") end)')
    assert error(raised).startswith("hook.lua:3: inside")
    assert hooks.said('print(state.lock("l", 60))') == "true\tnil"
    assert hooks.said('print(state.with_lock("l", 60, print))') == "nil\tthe lock 'l' is held by another run"


def test_a_lock_is_waited_for_no_longer_than_told(hooks: Hooks, connection: Connection) -> None:
    hooks.said('state.lock("l", 60)')
    began = time.monotonic()
    assert hooks.said('print(state.lock("l", 60, {wait = 0.3}))').startswith("false")
    assert 0.3 <= time.monotonic() - began < 3
    connection.execute("UPDATE hook_state_locks SET expires_at = now() + interval '0.3 s'")
    assert hooks.said('print(state.lock("l", 60, {wait = 5}))') == "true\tnil"


def test_waiting_for_a_lock_ends_with_the_run(hooks: Hooks) -> None:
    hooks.said('state.lock("l", 60)')
    began = time.monotonic()
    assert outcomes(hooks.run('state.lock("l", 60, {wait = 50})', timeout=0.5)) == [Outcome.TIMEOUT]
    assert time.monotonic() - began < 5


def test_a_lock_that_ended_is_somebody_elses(hooks: Hooks, connection: Connection) -> None:
    """Its first owner can neither release nor keep it; whoever holds a lock can hold it for longer."""
    first = 'print(state.lock("l", 60), state.lock("l", 60))'
    assert hooks.said(first) == "true\ttrue\tnil"
    connection.execute("UPDATE hook_state_locks SET expires_at = now()")
    body = 'print(state.unlock("l")) state.lock("l", 60) print(state.unlock("l")) print(state.unlock("l"))'
    lost = "false\tthis run does not hold the lock 'l', or no longer"
    assert hooks.said(body) == f"{lost}\ntrue\n{lost}"


_LOCKS = "SELECT expires_at - now() > '3000 s' FROM hook_state_locks"


def test_a_lock_that_the_run_holds_already_stays_held(hooks: Hooks, connection: Connection) -> None:
    """Whichever of the two is for longer; what took it first releases it."""
    for before, within in ((3600, 1), (1, 3600)):
        hooks.said(f'state.lock("l", {before}) assert(state.with_lock("l", {within}, function() return true end))')
        assert connection.execute(_LOCKS).fetchall() == [(True,)]
        assert hooks.said('print(state.with_lock("l", 60, print))') == "nil\tthe lock 'l' is held by another run"
        connection.execute("DELETE FROM hook_state_locks")
    nested = (
        'print(state.with_lock("l", 60, function()\n'
        '  print(state.with_lock("l", 1, function() return "inner" end), pcall(state.with_lock, "l", 1, error))\n'
        '  state.shared("team").with_lock("l", 1, function() end)\n  return {0}\nend))'
    )
    assert hooks.said(nested.format('state.unlock("l")')) == "inner\tfalse\tnil\ntrue"
    assert hooks.said(nested.format('"outer"')) == "inner\tfalse\tnil\nouter"
    assert connection.execute(_LOCKS).fetchall() == []


def test_a_lock_that_an_attempt_left_is_not_held_by_the_next_one(hooks: Hooks, connection: Connection) -> None:
    """Though the event is the same."""
    endless = 'state.with_lock("l", 60, function() while true do end end)'
    assert outcomes(hooks.run(endless, timeout=0.3)) == [Outcome.TIMEOUT]
    again = 'print(state.with_lock("l", 60, function() return "done" end))'
    assert hooks.said(again) == "nil\tthe lock 'l' is held by another run"
    connection.execute("UPDATE hook_state_locks SET expires_at = now()")
    assert hooks.said(again) == "done"
    assert connection.execute(_LOCKS).fetchall() == []


def test_with_lock_releases_what_the_run_held_no_longer(
    hooks: Hooks, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it never heard of having, or of being rid of: that would last until its time is over."""
    once = 'print(state.with_lock("l", 60, function() return "done" end))'
    assert hooks.said(f'state.lock("l", 0.01) require("time").sleep(0.1) {once}') == "done"
    assert connection.execute(_LOCKS).fetchall() == []

    def lost(*_: Any) -> bool:
        monkeypatch.undo()
        raise StoreUnavailable("the database did not answer in time")

    def taken_and_lost(*arguments: Any) -> bool:
        monkeypatch.undo()
        return state_locks.take(*arguments) and lost()

    monkeypatch.setattr(state_locks, "take", taken_and_lost)
    assert hooks.said(f"{once} {once}") == "nil\tthe database did not answer in time\ndone"
    assert connection.execute(_LOCKS).fetchall() == []
    monkeypatch.setattr(state_locks, "release", lost)
    assert hooks.said(f"{once} {once}") == "done\ndone"
    assert connection.execute(_LOCKS).fetchall() == []


def test_the_number_of_locks_is_bounded(hooks: Hooks, connection: Connection) -> None:
    connection.execute(
        "INSERT INTO hook_state_locks (scope, name, lock, owner, expires_at)"
        " SELECT 'hook', 'hook', 'l' || n, gen_random_uuid(), now() + '1 h' FROM generate_series(1, 1000) AS n"
    )
    assert "the hook 'hook' has 1,000 locks, as many as it may" in error(hooks.run('state.lock("more", 60)'))
    assert hooks.said('print(state.lock("l1", 60))').startswith("false")
    connection.execute("UPDATE hook_state_locks SET scope = 'shared', name = 's' || lock")
    assert "what the hooks of the stack share has 1,000 locks" in error(hooks.run('state.shared("x").lock("more", 60)'))
    connection.execute("UPDATE hook_state_locks SET scope = 'hook', name = 'hook'")
    connection.execute("UPDATE hook_state_locks SET expires_at = now()")
    assert hooks.said('print(state.lock("more", 60))') == "true\tnil"


def test_a_lock_that_is_released_while_it_is_asked_for_is_not_one_too_many(
    connection: Connection, database: Database
) -> None:
    mine, others = uuid4(), uuid4()
    with database.session("holder") as holder:

        class Racing:
            """Another owner has the lock for each attempt, and none has it after that."""

            def execute(self, statement: str, values: Mapping[str, object]) -> Cursor:
                attempt = "INSERT" in statement
                if attempt:
                    assert state_locks.take(holder, OWN, "l", others, 60)
                done = connection.execute(statement, values)
                if attempt:
                    assert state_locks.release(holder, OWN, "l", others)
                return done

        assert not state_locks.take(cast(Connection, Racing()), OWN, "l", mine, 60)
    assert state_locks.take(connection, OWN, "l", mine, 60)


def test_what_has_expired_is_removed(connection: Connection) -> None:
    for key, ttl in (("old", 60.0), ("new", 60.0), ("for good", None)):
        state.put(connection, OWN, key, "1", ttl)
    connection.execute("UPDATE hook_state SET expires_at = now() - interval '1 s' WHERE key = 'old'")
    connection.execute(
        "INSERT INTO hook_state_locks (scope, name, lock, owner, expires_at)"
        " VALUES ('hook', 'hook', 'l', gen_random_uuid(), now())"
    )
    assert state.remove_expired(connection) is False
    assert connection.execute("SELECT key FROM hook_state ORDER BY key").fetchall() == [("for good",), ("new",)]
    assert connection.execute("SELECT FROM hook_state_locks").fetchall() == []


def test_a_processor_removes_what_has_expired(database: Database, connection: Connection, tmp_path: Path) -> None:
    """And its hooks remember from one event to the next."""
    state.put(connection, OWN, "old", "1", 60.0)
    connection.execute("UPDATE hook_state SET expires_at = now()")
    add_hook(connection, "counts", "a.b", 'return {execute = function() require("state").incr("n") end}')
    with running(database, tmp_path):
        insert(connection, "a.b", count=20)
        wait_for(lambda: all_processed(connection), 10)
        wait_for(lambda: connection.execute("SELECT FROM hook_state WHERE key = 'old'").rowcount == 0, 10)
    assert state.get(connection, Namespace("hook", "counts"), "n") == b"20"


def test_a_lost_database_is_nil_and_a_reason(server: EmbeddedServer) -> None:
    hooks = Hooks(library(Database(make_conninfo(server.conninfo, port=1))))
    began = time.monotonic()
    for call in ('state.get("k", 5)', 'state.set("k", 1)', 'state.with_lock("l", 1, print)'):
        # A tenth of its time is left to the run, to say so.
        assert hooks.said(f"print({call})", timeout=3) == "nil\tthe database cannot be reached in time"
    assert time.monotonic() - began < 10


def test_sessions_that_the_server_ended_are_replaced(hooks: Hooks, connection: Connection) -> None:
    hooks.said('state.set("k", 1)')
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE '% state'"
    ).fetchall()
    assert ended == [(True,)]
    assert hooks.said('print(state.get("k"))') == "1"


def test_sessions_say_their_role_and_are_few(database: Database, hooks: Hooks, connection: Connection) -> None:
    _at_once(16, lambda _: hooks.said('state.incr("n")'))
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hook-event-processor state'"
    ).fetchone()
    assert row is not None
    assert 1 <= row[0] <= 8


def test_a_server_that_does_not_answer_is_not_waited_for(database: Database, connection: Connection) -> None:
    """Neither when a row is locked, nor when the statement itself takes long."""
    pool = SessionPool(database, "tests", 2)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="did not answer in time"), pool.session(0.4) as session:
        session.execute("SELECT pg_sleep(30)")
    with connection.transaction():
        connection.execute("LOCK TABLE hook_state")
        functions = Library(Services(Settings(home=Path("/nonexistent"), conninfo=None), database))
        call = Call("hook", None, Grants(), threading.Event(), print, ends_at=time.perf_counter() + 0.5)
        with pytest.raises(Failed, match="the database did not answer in time"):
            functions.function(b"state.get").run(call, None, b"k")
    assert time.monotonic() - began < 5
    pool.close()


@needs_pgbouncer
def test_a_session_that_a_pooler_lends_on_has_no_limit_of_ours(database: Database, reachable_path: Path) -> None:
    """Lanes and the rest of the processor get the sessions of hooks' state and secrets, too."""
    place = reachable_path / "lent"
    place.mkdir(mode=0o755)
    with pgbouncer.pooler(place, database.conninfo, "transaction") as between:
        lent = Database(between.conninfo, database.schema)
        pool = SessionPool(lent, "tests", 1)
        told = "SELECT pg_backend_pid(), current_setting('statement_timeout')"
        with pool.session(0.6) as session:
            inside = session.execute(told).fetchone()
        with lent.session("tests") as other:
            outside = other.execute(told).fetchone()
        pool.close()
    assert inside is not None
    assert inside[1] == "500ms"
    assert outside == (inside[0], "0")


def test_what_is_begun_with_a_session_is_undone_when_it_fails(database: Database, connection: Connection) -> None:
    pool = SessionPool(database, "tests", 1)

    def put_and_fail() -> None:
        with pool.session(5) as session:
            state.put(session, OWN, "k", '"text"')
            state.increase(session, OWN, "k", "1")

    with pytest.raises(StateRefused):
        put_and_fail()
    with pool.session(5) as session:
        assert state.get(session, OWN, "k") is None
        state.put(session, OWN, "k", "2")
    assert state.get(connection, OWN, "k") == b"2"
    pool.close()


def test_a_frozen_server_process_is_given_up(database: Database) -> None:
    pool = SessionPool(database, "tests", 1)
    with pool.session(5) as session:
        frozen = session.info.backend_pid
    os.kill(frozen, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not answer in time"), pool.session(0.5) as session:
            session.execute("SELECT 1")
        assert time.monotonic() - began < 3
    finally:
        os.kill(frozen, signal.SIGCONT)
    with pool.session(5) as session:
        assert session.info.backend_pid != frozen
    pool.close()


def test_a_dry_run_shows_what_it_would_write_and_reads_it_back(database: Database, connection: Connection) -> None:
    state.put(connection, OWN, "kept", "1")
    state.put(connection, OWN, "n", "5")
    shown: list[str] = []
    hooks = Hooks(library(database, shown.append))
    body = (
        'state.set("new", {1, 2}, 60) state.delete("kept") state.shared("team").set("k", "v")\n'
        'print(state.incr("n", 2), json.encode(state.get("new")), state.exists("kept"), json.encode(state.keys()))\n'
        'print(state.with_lock("l", 60, function() return state.compare_and_swap("n", 7, 8) end), state.get("n"))'
    )
    assert hooks.said(body) == '7\t[1,2]\tfalse\t["n","new"]\ntrue\t8'
    assert shown == [
        "state.set: 'new', [1,2], ttl 60",
        "state.delete: 'kept'",
        "state.shared('team').set: 'k', \"v\"",
        "state.incr: 'n', 2, now 7",
        "state.lock: 'l', ttl 60",
        "state.set: 'n', 8",
        "state.unlock: 'l'",
    ]
    rows = connection.execute("SELECT key, value FROM hook_state ORDER BY key").fetchall()
    assert rows == [("kept", 1), ("n", 5)]
    assert connection.execute("SELECT FROM hook_state_locks").fetchall() == []


def test_a_dry_run_of_a_lock_that_is_held_already_leaves_it_held() -> None:
    shown: list[str] = []
    hooks = Hooks(library(None, shown.append))
    nested = (
        'print(state.with_lock("l", 60, function()\n  state.with_lock("l", 1, function() print("inner") end)\n'
        '  return state.unlock("l")\nend))'
    )
    assert hooks.said(nested) == "inner\ntrue"
    assert shown == ["state.lock: 'l', ttl 60", "state.lock: 'l', ttl 1, held already", "state.unlock: 'l'"]


def test_a_dry_run_refuses_what_a_real_one_would(database: Database) -> None:
    hooks = Hooks(library(database, lambda _: None))
    assert "at most 65536" in error(hooks.run('state.set("k", ("v"):rep(65535))'))
    assert "does not hold a number" in error(hooks.run('state.set("k", {}) state.incr("k")'))
    for called in ('get("%s")', 'exists("%s")', 'delete("%s")', 'incr("%s")', 'unlock("%s")', 'lock("%s", 1)'):
        assert "is not UTF-8" in error(hooks.run("state." + called % "\\255"))
        assert "holds a NUL character" in error(hooks.run("state." + called % "a\\0"))
        assert "it takes 1 to 255" in error(hooks.run("state." + called % ""))
    for called in ('set("k", 1, -1)', 'incr("k", 1, 0)', 'lock("l", 1e9)', 'compare_and_swap("k", nil, 1, -1)'):
        assert "ttl takes a number of seconds" in error(hooks.run(f"state.{called}"))
    assert "the name of a shared namespace has 0 bytes" in error(hooks.run('state.shared("").keys()'))


def test_a_dry_run_needs_no_database() -> None:
    hooks = Hooks(library(None, lambda _: None))
    assert hooks.said('state.set("k", 1) print(state.get("k"), state.get("x"), state.incr("n"))') == "1\tnil\t1"
    assert "there is no database here" in output(
        execute('local state = require("state") print(state.get("k")) return true', within=runtime(library=library()))
    )
