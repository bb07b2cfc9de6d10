"""The hooks of the load, stored as `hep hook add` stores them."""

from __future__ import annotations

from psycopg import Connection

_FRAME = """\
local hook = {{ name = "{name}", event_type = "{event_type}" }}
{body}
return hook
"""
_PLAIN = """
function hook.execute(event)
  if event.data.n == nil then error("no number") end
  return true, "event " .. event.data.n
end
"""
_DISPATCHES = """
function hook.execute(event)
  event.dispatch("chaos.child", { n = event.data.n })
end
"""
_FLAKY = """
function hook.execute(event)
  if event.attempt == 1 then error("not at the first attempt") end
end
"""
_HTTP = """
local http, env = require("http"), require("env")
function hook.execute(event)
  event.dispatch("chaos.child", {{ n = event.data.n }})
  local response, reason = http.post("{url}/" .. event.data.n .. "/" .. env.get("CHAOS_LABEL"), {{ body = "" }})
  if response == nil then return false, reason end
  return response.status_code == 200, "status " .. response.status_code
end
"""
_FILE = """
local file, time = require("file"), require("time")
local function note(word, n)
  local written, reason = file.append("effects", string.format("%s %d %.3f\\n", word, n, time.now()))
  if not written then error(reason) end
end
function hook.execute(event)
  note("begun", event.data.n)
  time.sleep(0.1)
  note("ended", event.data.n)
end
"""


def add_hooks(connection: Connection, url: str) -> None:
    """Store the hooks of every kind of event; `url` is the ledger's HTTP server."""
    add_hook(connection, "plain", "chaos.plain", _PLAIN)
    add_hook(connection, "parent", "chaos.parent", _DISPATCHES)
    add_hook(connection, "child", "chaos.child", _PLAIN)
    add_hook(connection, "steady", "chaos.flaky", _DISPATCHES)
    add_hook(connection, "flaky", "chaos.flaky", _FLAKY)
    add_hook(connection, "http", "chaos.http", _HTTP.format(url=url))
    add_hook(connection, "file", "chaos.file", _FILE)


def add_hook(connection: Connection, name: str, event_type: str, body: str, *, timeout_seconds: float = 30.0) -> None:
    """Store one hook; `body` sets hook.execute."""
    text = _FRAME.format(name=name, event_type=event_type, body=body)
    connection.execute(
        "WITH hook AS (INSERT INTO hooks (name, event_types, timeout_seconds) VALUES (%s, %s, %s) RETURNING id)"
        " INSERT INTO hook_versions (hook_id, version, source_text, sha256) SELECT id, 1, %s, '' FROM hook",
        (name, [event_type], timeout_seconds, text),
    )
