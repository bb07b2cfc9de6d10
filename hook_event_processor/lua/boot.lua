-- Puts the runtime together; returns the runner. `source(name)` gives a file's text.
local source, bridge, limits = ...

local function file(name, ...) return assert(load(source(name), "=(processor)", "t"))(...) end

local run = { effectful = false, named = {} } -- what the current run may do
local deadline = file("deadline", bridge)
local longest_subject = file("libraries/patterns")
local sandbox = file(
  "sandbox",
  deadline,
  file("libraries/string", deadline, longest_subject),
  file("libraries/table", deadline),
  file("libraries/coroutine", deadline)
)
local json, lazy, decode_jsonb = file("modules/json", sandbox.is_frozen)
sandbox.seal(json.null)
local current = file("current", json, lazy, decode_jsonb)
local output = file("output")
local event, take_dispatched = file("modules/event", json, current, limits)
current.provide_dispatch(event.dispatch)
local log = sandbox.freeze(file("modules/log", output), "log")
local modules = {
  event = sandbox.freeze(event, "event"),
  json = sandbox.freeze(json, "json"),
  log = log,
  slog = log,
  time = sandbox.freeze(file("modules/time", bridge, deadline, run), "time"),
}
return file("runner", bridge, limits, deadline, sandbox, output, current, take_dispatched, modules, run)
