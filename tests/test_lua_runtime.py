"""The contract of hooks: what they return, what they see of the event, what they print and dispatch."""

from __future__ import annotations

import json
import math
import threading
import time

import pytest
from chunks import EVENT_ID, MAX_PAYLOAD, error, event, execute, outcomes, output, run, runtime

from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program
from hook_event_processor.run import Dispatched

_NOT_A_RESULT = "it returns nothing or true (and a message), or false and a message"


@pytest.mark.parametrize(
    ("returned", "outcome", "printed", "reason"),
    [
        ("", Outcome.CONTINUE, None, None),
        ("return nil", Outcome.CONTINUE, None, None),
        ("return true", Outcome.CONTINUE, None, None),
        ("return true, 'done'", Outcome.CONTINUE, b"done", None),
        ("return nil, 'done'", Outcome.CONTINUE, b"done", None),
        ("return true, 7", Outcome.CONTINUE, b"7", None),
        ("return false", Outcome.FAILED, None, b"the hook returned false"),
        ("return false, 'why'", Outcome.FAILED, None, b"why"),
        ("return 7", Outcome.REFUSED, None, f"the hook returned a number (7): {_NOT_A_RESULT}".encode()),
        ("return 'ok'", Outcome.REFUSED, None, f"the hook returned a string (ok): {_NOT_A_RESULT}".encode()),
        (
            "return {}",
            Outcome.REFUSED,
            None,
            f"the hook returned a table that is no known result: {_NOT_A_RESULT}".encode(),
        ),
        (
            "return true, {}",
            Outcome.REFUSED,
            None,
            f"the hook returned a table as its message: {_NOT_A_RESULT}".encode(),
        ),
    ],
)
def test_what_a_hook_returns_decides(
    returned: str, outcome: Outcome, printed: bytes | None, reason: bytes | None
) -> None:
    result = execute(returned)
    assert (outcomes(result), result.outputs, result.errors) == ([outcome], [printed], [reason])


def test_what_was_printed_comes_before_the_message() -> None:
    assert output(execute("print('first') return true, 'last'")) == "first\nlast"
    result = execute("print('first') return false, 'why'")
    assert (result.outputs, result.errors) == ([b"first"], [b"why"])


def test_a_raised_error_names_file_and_line_and_no_internal_frame() -> None:
    text = (
        "local hook = {}\nlocal function inner(event)\n  local x = event.data.missing\n  return x.y\nend\n"
        "function hook.execute(event)\n  inner(event)\nend\nreturn hook"
    )
    result = run(text, name="notify")
    assert outcomes(result) == [Outcome.FAILED]
    assert error(result) == (
        "notify.lua:4: attempt to index a nil value (local 'x')\nstack traceback:\n"
        "\tnotify.lua:4: in upvalue 'inner'\n\tnotify.lua:7: in function <notify.lua:6>"
    )


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        ("return {", Outcome.REFUSED, "hook.lua:1: unexpected symbol near <eof>"),
        ("local x = \n= 1", Outcome.REFUSED, "hook.lua:2: unexpected symbol near '='"),
        ("return 5", Outcome.FAILED, "the hook's file returns a number, not a table"),
        ("error('at the top')", Outcome.FAILED, "hook.lua:1: at the top"),
        ("return {}", Outcome.FAILED, "attempt to call a nil value (field 'execute')"),
    ],
)
def test_a_file_that_is_no_hook_fails_every_event(text: str, outcome: Outcome, reason: str) -> None:
    result = run(text, event(), event())
    assert outcomes(result) == [outcome] * 2
    assert reason in error(result)


def test_a_filter_decides_whether_it_runs() -> None:
    text = (
        "return { filter = function(e) return e.data.n == 1 end,"
        " execute = function(e) print('ran') e.dispatch('a.b', {}) end }"
    )
    result = run(text, event('{"n": 1}'), event('{"n": 2}'))
    assert outcomes(result) == [Outcome.CONTINUE, Outcome.FILTERED]
    assert result.outputs == [b"ran", None]
    assert list(result.dispatched) == [0]


def test_a_filter_that_raises_is_a_failure() -> None:
    assert "hook.lua:1: no" in error(run("return { filter = function() error('no') end, execute = print }"))


def test_durations_are_each_runs_own() -> None:
    body = "if event.data.n == 1 then local t = os.clock() + 0.05 while os.clock() < t do end end"
    durations = execute(body, event(), event('{"n": 1}'), event()).durations
    assert len(durations) == 3
    assert durations[1] >= 0.03
    assert 0 < durations[0] < durations[1]
    assert 0 < durations[2] < durations[1]


def test_sleeping_is_effectful_and_counts() -> None:
    started = time.perf_counter()
    result = execute("require('time').sleep(0.1)")
    assert outcomes(result) == [Outcome.CONTINUE]
    assert result.durations[0] >= 0.1
    assert time.perf_counter() - started < 5


def test_a_run_whose_time_is_up_before_it_begins_is_a_timeout() -> None:
    """On a machine that stood still, or as it is given up: no failure of the processor, and the next run is well."""
    lua = runtime()
    given_up = threading.Event()
    given_up.set()
    assert outcomes(lua.run(program("return {}", "hook"), 5.0, [event()], given_up)) == [Outcome.TIMEOUT]
    assert outcomes(execute("", timeout=0.0, within=runtime())) == [Outcome.TIMEOUT]
    assert output(execute("print('well')", within=lua)) == "well"


def test_sleeping_past_the_deadline_is_a_timeout() -> None:
    started = time.perf_counter()
    assert outcomes(execute("pcall(require('time').sleep, 60)", timeout=0.2)) == [Outcome.TIMEOUT]
    assert time.perf_counter() - started < 5


def test_the_time_now() -> None:
    assert math.isclose(float(output(execute("return true, require('time').now()"))), time.time(), abs_tol=60)


# The event.

_FIELDS = (
    "id type source action resource resource_id timestamp attempt priority stack correlation_id agent_id session_id"
)


def _fields(*events: list[object]) -> dict[str, object]:
    body = "local t = {} for k, v in pairs(event) do t[k] = v end return true, require('json').encode(t)"
    found: dict[str, object] = json.loads(output(execute(body, *events)))
    return found


def test_a_hook_sees_every_field_of_the_event() -> None:
    metadata = '{"correlation_id": "c1", "agent_id": "a1", "session_id": "s1", "stack": "production"}'
    seen = _fields(event('{"task_name": "build"}', metadata, attempt=2, priority=3))
    assert seen == {
        "id": EVENT_ID,
        "type": "task.failed",
        "source": "task",
        "action": "failed",
        "resource": "task",
        "resource_id": "build",
        "timestamp": "2000-01-01T00:00:00.000000Z",
        "data": {"task_name": "build"},
        "metadata": json.loads(metadata),
        "stack": "production",
        "attempt": 2,
        "priority": 3,
        "correlation_id": "c1",
        "agent_id": "a1",
        "session_id": "s1",
    }


def test_what_the_metadata_leaves_open_comes_from_the_payload() -> None:
    seen = _fields(event('{"stack": "staging", "agent_id": "a2"}', '{"stack": null}'))
    assert (seen["stack"], seen["agent_id"]) == ("staging", "a2")
    assert "session_id" not in seen
    assert seen["correlation_id"] == EVENT_ID


def test_a_type_without_an_action() -> None:
    assert output(execute("return true, event.type", event(source="startup", action=""))) == "startup"


@pytest.mark.parametrize(
    ("microseconds", "timestamp"),
    [
        (0, "2000-01-01T00:00:00.000000Z"),
        (1, "2000-01-01T00:00:00.000001Z"),
        (-1, "1999-12-31T23:59:59.999999Z"),
        (845_596_800_123_456, "2026-10-18T00:00:00.123456Z"),
        (2**63 - 1, "infinity"),
        (-(2**63), "-infinity"),
    ],
)
def test_timestamps_are_utc_with_microseconds(microseconds: int, timestamp: str) -> None:
    assert output(execute("return true, event.timestamp", event(microseconds=microseconds))) == timestamp


@pytest.mark.parametrize(
    ("source", "payload", "path"),
    [
        ("task", {"task_name": "build"}, "task.task_name"),
        ("task", {"task": {"task_name": "build"}}, "task.task_name"),
        ("task", {"task": {"task_name": "build"}}, "task_name"),
        ("task", {"task_name": "build"}, "task_name"),
        ("system", {"resource": {"current": "build"}}, "resource.current"),
        ("system", {"current": "build"}, "resource.current"),
        ("deploy", {"deploy": {"version": "build"}}, "deploy.version"),
        ("agent", {"agent": {"name": "build"}}, "agent.name"),
    ],
)
def test_a_payload_of_either_shape_answers_both(source: str, payload: object, path: str) -> None:
    assert output(execute(f"return true, event.data.{path}", event(json.dumps(payload), source=source))) == "build"


def test_the_shape_adds_nothing_to_the_payload() -> None:
    body = (
        "local keys = {} for k in pairs(event.data) do keys[#keys + 1] = k end"
        " return true, table.concat(keys, ',') .. tostring(event.data.nothing) .. tostring(event.data.task.nothing)"
    )
    assert output(execute(body, event('{"n": 1}'))) == "nnilnil"
    assert output(execute("return true, tostring(event.data.task)", event("{}"))) == "nil"


@pytest.mark.parametrize("payload", ["[1, 2]", "7", '"text"', "null", "true"])
def test_a_payload_need_not_be_an_object(payload: str) -> None:
    body = "return true, require('json').encode(event.data) .. tostring(event.stack)"
    assert output(execute(body, event(payload))).replace(",", ", ") == payload + "nil"


def test_a_payload_that_cannot_be_read_fails_only_where_it_is_read() -> None:
    assert output(execute("return true, event.type .. event.id", event("{broken"))) == "task.failed" + EVENT_ID
    assert "the event's payload cannot be read: invalid JSON" in error(execute("return event.data", event("{broken")))


def test_the_events_own_table_can_be_written_to() -> None:
    assert output(execute("event.note = 'x' event.data.note = 'y' return true, event.note .. event.data.note")) == "xy"


def test_an_unknown_field_is_nil() -> None:
    assert output(execute("return true, tostring(event.nothing)")) == "nil"


# Dispatching.


def _dispatched(body: str, *events: list[object]) -> list[Dispatched]:
    result = execute(body, *events)
    assert outcomes(result) == [Outcome.CONTINUE], result.errors
    return result.dispatched[0]


@pytest.mark.parametrize("dispatch", ["event.dispatch", "require('event').dispatch", "require 'event'.dispatch"])
def test_both_ways_to_dispatch(dispatch: str) -> None:
    found = _dispatched(f"assert({dispatch}('custom.deployed', {{ version = 'v2', list = {{ 1, 2 }} }}) == true)")
    assert [(item.type, json.loads(item.data)) for item in found] == [
        ("custom.deployed", {"version": "v2", "list": [1, 2]})
    ]
    assert (found[0].stack, found[0].priority, found[0].delay, found[0].id) == (None, None, None, None)


def test_the_options_of_a_dispatch() -> None:
    options = f"{{ stack = 'production', priority = 2, delay = 1.5, id = '{EVENT_ID.upper()}' }}"
    (found,) = _dispatched(f"event.dispatch('custom', {{}}, {options})")
    assert found == Dispatched("custom", b"{}", "production", 2, 1.5, EVENT_ID.upper())


def test_data_may_be_left_out_and_may_be_the_events_own() -> None:
    found = _dispatched("event.dispatch('a.b') event.dispatch('a.c', event.data)", event('{"n": [1, null, {}]}'))
    assert [item.data for item in found] == [b"{}", b'{"n":[1,null,{}]}']


def test_a_failed_run_has_dispatched_nonetheless() -> None:
    """The original's pipeline dispatches deploy.failed, and then raises."""
    result = execute("event.dispatch('deploy.failed', {}) error('rollback')", event(), event())
    assert outcomes(result) == [Outcome.FAILED] * 2
    assert {index: len(items) for index, items in result.dispatched.items()} == {0: 1, 1: 1}


REFUSED_DISPATCHES = {
    "no type": ("nil, {}", "event.dispatch takes an event type, not a nil"),
    "an empty type": ("'', {}", "the event type is written source.action"),
    "a type without a source": ("'.failed', {}", "the event type is written source.action"),
    "a long type": ("('x'):rep(256), {}", "in at most 255 bytes of UTF-8"),
    "a type with NUL": ("'a\\0b', {}", "the event type is written source.action"),
    "a type that is no text": ("'a\\xff', {}", "the event type is written source.action"),
    "data that is no table": ("'a.b', 'text'", "event.dispatch takes a table as data, not a string"),
    "a function in the data": ("'a.b', { f = print }", "a function has no form in JSON"),
    "data that is no text": ("'a.b', { s = '\\xff' }", "the data is not UTF-8"),
    "a key that is no text": ("'a.b', { ['\\xff'] = 1 }", "the data is not UTF-8"),
    "NUL in the data": ("'a.b', { s = 'x\\0' }", "the data holds a NUL character (\\u0000)"),
    "NUL after a backslash": ("'a.b', { s = '\\\\\\0' }", "the data holds a NUL character (\\u0000)"),
    "NUL in a key": ("'a.b', { ['\\0'] = 1 }", "the data holds a NUL character (\\u0000)"),
    "large data": (f"'a.b', {{ s = ('x'):rep({MAX_PAYLOAD}) }}", f"bytes of JSON: at most {MAX_PAYLOAD}"),
    "options that are no table": ("'a.b', {}, 1", "event.dispatch takes a table of options, not a number"),
    "an unknown option": ("'a.b', {}, { prio = 1 }", "unknown option prio; it takes stack, priority, delay, id"),
    "priority 0": ("'a.b', {}, { priority = 0 }", "priority takes 1 (first) to 10 (last)"),
    "priority 11": ("'a.b', {}, { priority = 11 }", "priority takes 1 (first) to 10 (last)"),
    "priority 1.5": ("'a.b', {}, { priority = 1.5 }", "priority takes 1 (first) to 10 (last)"),
    "a negative delay": ("'a.b', {}, { delay = -1 }", "delay takes a number of seconds"),
    "no number as delay": ("'a.b', {}, { delay = 0/0 }", "delay takes a number of seconds"),
    "an endless delay": ("'a.b', {}, { delay = math.huge }", "delay takes a number of seconds"),
    "a text as delay": ("'a.b', {}, { delay = '5' }", "delay takes a number of seconds"),
    "a number as stack": ("'a.b', {}, { stack = 5 }", "stack takes a name"),
    "a stack that is long": ("'a.b', {}, { stack = ('x'):rep(1001) }", "stack takes a name of at most 1000 bytes"),
    "a stack in the data that is long": ("'a.b', { stack = ('x'):rep(1001) }", "stack takes a name of at most 1000"),
    "a stack with NUL": ("'a.b', {}, { stack = 'a\\0' }", "stack takes a name"),
    "a stack that is no text": ("'a.b', {}, { stack = '\\xff' }", "stack takes a name"),
    "an id that is none": ("'a.b', {}, { id = 'x' }", "id takes a UUID"),
}


@pytest.mark.parametrize("name", REFUSED_DISPATCHES)
def test_what_cannot_be_published_is_refused_at_once(name: str) -> None:
    arguments, reason = REFUSED_DISPATCHES[name]
    result = execute(f"event.dispatch({arguments})")
    assert reason in error(result)
    assert result.dispatched == {}


def test_an_escaped_backslash_before_u0000_is_no_nul() -> None:
    (found,) = _dispatched("event.dispatch('a.b', { s = '\\\\u0000' })")
    assert json.loads(found.data) == {"s": "\\u0000"}


def test_options_that_change_their_answers_are_read_once() -> None:
    body = """
    local asked = {}
    local liar = setmetatable({}, { __index = function(_, key)
      asked[key] = (asked[key] or 0) + 1
      return key == "stack" and (asked[key] == 1 and "production" or 5) or nil
    end })
    event.dispatch("a.b", {}, liar)
    """
    assert _dispatched(body)[0].stack == "production"


@pytest.mark.parametrize("pretence", ["", "event.metadata.depth = 0", "event.metadata = { depth = -100 }"])
def test_hooks_that_trigger_themselves_end_at_depth_16(pretence: str) -> None:
    body = f"{pretence} event.dispatch('a.b', {{}})"
    assert outcomes(execute(body, event("{}", '{"depth": 15}'))) == [Outcome.CONTINUE]
    assert "this event is already 16 dispatches deep" in error(execute(body, event("{}", '{"depth": 16}')))


def test_a_run_dispatches_at_most_a_thousand() -> None:
    body = "for _ = 1, 1001 do event.dispatch('a.b', {}) end"
    result = execute(body)
    assert "event.dispatch: more than 1000 events in one run" in error(result)
    assert len(result.dispatched[0]) == 1000


# Output.


def test_print_writes_as_lua_does() -> None:
    body = "print('a', 1, nil, true, 1.0) print() print(setmetatable({}, { __tostring = function() return 'x' end }))"
    assert output(execute(body)) == "a\t1\tnil\ttrue\t1.0\n\nx"


def test_log_lines_carry_their_level_and_fields() -> None:
    body = (
        "local log, slog = require('log'), require('slog')"
        " log.debug('d') log.info('i', { b = 2, a = 'x' }) log.warn(7) log.error('e', 'more') slog.info('s')"
    )
    assert output(execute(body)) == "DEBUG d\nINFO i a=x b=2\nWARN 7\nERROR e more\nINFO s"


def test_output_is_each_runs_own() -> None:
    body = "if event.data.n == 1 then print('one') error('x', 0) end"
    assert execute(body, event('{"n": 1}'), event()).outputs == [b"one", None]


# The runtime.


def test_a_runtime_keeps_few_programs() -> None:
    """Hooks come and go: what was compiled for them does not pile up."""
    lua = runtime()
    for number in range(400):
        execute(f"local x = '{number}' " + "local _ = { 1, 2, 3 } " * 100, within=lua)
    lua._lua.gccollect()
    assert lua.memory_used < 3 * 1024 * 1024


def test_a_fresh_runtime_is_small() -> None:
    lua = runtime()
    assert lua.memory_used < 256 * 1024
    execute("local t = {} for i = 1, 100000 do t[i] = {} end", within=lua)
    assert lua.memory_used < 2 * 1024 * 1024
