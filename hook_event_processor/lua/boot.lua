-- Puts the runtime together; returns the runner. `source(name)` gives a file's
-- text; `extension` is the file of what is added to the runner, if anything.
local source, bridge, limits, extension = ...

local function file(name, ...) return assert(load(source(name), "=(processor)", "t"))(...) end

local run = {} -- what the current chunk's text allows: effectful, named, libraries, params
local deadline = file("deadline", bridge)
local longest_subject = file("libraries/patterns")
local sandbox = file(
  "sandbox",
  deadline,
  file("libraries/metatables"),
  file("libraries/string", deadline, longest_subject),
  file("libraries/table", deadline),
  file("libraries/coroutine", deadline)
)
local json, lazy, arrays = file("modules/json", sandbox.is_frozen)
sandbox.seal(json.null)
local decode_jsonb = file("jsonb", json.null, arrays, json.decode)
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
}

-- Other modules are loaded when a hook's text first names them.
local call = file("door", bridge, deadline)
local parts = { bridge = bridge, call = call, current = current, deadline = deadline, json = json, run = run, seal = sandbox.seal }

local function load_module(name)
  if not modules[name] then modules[name] = sandbox.freeze(file("modules/" .. name, parts), name) end
end

local library = file("library", sandbox, modules, load_module, run)
local runner = file("runner", bridge, limits, deadline, sandbox, output, current, take_dispatched, library, run)
runner.null = json.null -- for who reads a hook's table

-- What the workshop adds: it runs specs and the prompt within the same limits.
if extension then
  parts.file, parts.sandbox, parts.output, parts.library = file, sandbox, output, library
  parts.load_module, parts.modules, parts.take_dispatched = load_module, modules, take_dispatched
  file(extension, runner, parts)
end
return runner
