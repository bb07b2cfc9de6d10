-- Runs a spec beside a hook: lists its tests, and runs one of them, with the
-- hook in a sandbox of its own and mocks in place of what reaches outside.
local runner, parts = ...
local bridge, current, deadline, json, run = parts.bridge, parts.current, parts.deadline, parts.json, parts.run
local library, output, sandbox, take_dispatched = parts.library, parts.output, parts.sandbox, parts.take_dispatched
local error, ipairs, next, pairs, pcall, rawequal = error, ipairs, next, pairs, pcall, rawequal
local tonumber, tostring, type = tonumber, tostring, type
local resume, running, status, yield = coroutine.resume, coroutine.running, coroutine.status, coroutine.yield
local char, find, gsub, match, pack_bytes, sub = string.char, string.find, string.gsub, string.match, string.pack, string.sub
local getinfo, setupvalue, traceback = debug.getinfo, debug.setupvalue, debug.traceback
local pack, unpack, math_type = table.pack, table.unpack, math.type
local PG_EPOCH <const> = 946684800
local MAX_MESSAGE <const>, MAX_TESTS <const> = 8000, 2000
local FIELDS <const> = current.FIELDS
local RUN = {} -- what a test yields to have the hook run
local OUTCOMES = { a = "continue", b = "filtered", c = "failed", d = "timeout", e = "memory", f = "refused" }
local OPTIONS = { metadata = "table", stack = "string", resource = "string", resource_id = "string", id = "string", params = "table" }
OPTIONS.agent_id, OPTIONS.session_id, OPTIONS.correlation_id = "string", "string", "string"
OPTIONS.priority, OPTIONS.attempt, OPTIONS.timestamp = "number", "number", "number"
local IN_METADATA = { "stack", "agent_id", "session_id", "correlation_id" }

local complain, positioned = parts.file("../workshop/lua/complain")
local inspect = parts.file("../workshop/lua/inspect", json.null)
local function is_module(name)
  if parts.modules[name] or find(name, "^lib%.") then return true end
  return find(name, "^%l+$") and pcall(parts.load_module, name)
end
local mocks = parts.file("../workshop/lua/mocks", complain, json, is_module)

local test -- the coroutine of the spec
local expected -- what was said of the last expectation that did not hold
local broken -- the same, of one inside of a mock

local function fail(reason)
  expected = positioned(reason)
  if running() ~= test then broken = broken or expected end
  error(expected, 0)
end
local expect = parts.file("../workshop/lua/expect", inspect, json.null, fail)

-- The hook runs with the spec's mocks in its environment.
local new_environment = sandbox.environment
local in_hook = false
function sandbox.environment()
  local env = new_environment()
  if in_hook then env.require = mocks.require(env.require) end
  return env
end

-- A message is what the runner itself adds to the output.
local take, message = output.take, nil
function output.take(last)
  message = last
  return take(last)
end

-- The event's ten values, as current.lua names them.
local function event_type(text)
  if type(text) ~= "string" or not find(text, "^[^./]") then complain("spec.run takes an event type first, such as task.failed, not " .. inspect(text)) end
  local source, action = match(text, "^([^/]*)/(.*)$")
  if not source then source, action = match(text, "^([^.]*)%.?(.*)$") end
  return source, action
end

local function checked(options)
  if options == nil then return {} end
  if type(options) ~= "table" then complain("spec.run takes a table of the event's other fields last, not a " .. type(options)) end
  for name, item in pairs(options) do
    local kind = OPTIONS[name]
    if not kind then complain("spec.run: unknown field " .. tostring(name) .. " of the event") end
    if type(item) ~= kind then complain("spec.run: " .. name .. " takes a " .. kind .. ", not " .. inspect(item)) end
  end
  return options
end

local function metadata_of(options)
  local metadata = {}
  for name, item in pairs(options.metadata or {}) do
    metadata[name] = item
  end
  for _, name in ipairs(IN_METADATA) do
    if options[name] then metadata[name] = options[name] end
  end
  return json.encode(metadata)
end

local function id_bytes(id)
  local hex = gsub(id or "0198c0de-0000-7000-8000-000000000001", "-", "")
  if not find(hex, "^%x+$") or #hex ~= 32 then complain("spec.run: id takes a UUID, not " .. inspect(id)) end
  return (gsub(hex, "%x%x", function(pair) return char(tonumber(pair, 16)) end))
end

local function object(value)
  if value == nil then return "{}" end
  if type(value) ~= "table" then complain("spec.run takes a table as the event's data, not a " .. type(value)) end
  return next(value) == nil and "{}" or json.encode(value)
end

-- A test that passes for events that the hook never gets would say nothing.
local function check_type(text, source, action)
  local patterns = parts.call("spec.runs_for", source, action)
  if patterns then complain("the hook does not run for " .. text .. ": its event_type is " .. patterns) end
end

local function fields(text, data, options)
  local source, action = event_type(text)
  check_type(text, source, action)
  local seconds = (options.timestamp or bridge.unix_time()) - PG_EPOCH
  return {
    id_bytes(options.id),
    source,
    action,
    options.resource or "",
    options.resource_id or "",
    pack_bytes(">i8", seconds * 1000000 // 1),
    object(data),
    metadata_of(options),
    math_type(options.attempt) == "integer" and options.attempt or 1,
    math_type(options.priority) == "integer" and options.priority or 5,
  }
end

-- spec.run, as the test calls it.
local function run_hook(text, data, options)
  if running() ~= test then complain("spec.run can be called in a test and in before_each, not in a coroutine or a mock") end
  options = checked(options)
  broken = nil
  local result = yield(RUN, { fields = fields(text, data, options), params = options.params and object(options.params) })
  if broken then error(broken, 0) end
  return result
end

local function dispatched_events(list)
  local events = {}
  for i, item in ipairs(list and list[1] and list[1][2] or {}) do
    events[i] = { type = item[1], data = json.decode(item[2]), stack = item[3], priority = item[4], delay = item[5], id = item[6] }
  end
  return events
end

local hook, hook_timeout -- the hook's unit, and seconds
local spec, spec_env, ends_at

-- What follows is the spec's again: its modules, its globals, its time.
local function back_to_spec()
  library.allow(spec)
  sandbox.enter(spec_env)
  library.begin()
  run.params = nil
  bridge.confine(true)
  deadline.arm(ends_at)
end

local function perform(request)
  take_dispatched()
  local said = take()
  local left = ends_at - bridge.now()
  mocks.begin()
  message, in_hook = nil, true
  hook.params = request.params
  local codes, dispatched, seconds, text, reason = runner.run(hook, hook_timeout < left and hook_timeout or left, 1, unpack(request.fields, 1, FIELDS))
  in_hook = false
  back_to_spec()
  output.reset()
  if said then output.add(said) end
  return {
    ok = codes == "a" or codes == "b",
    outcome = OUTCOMES[codes],
    filtered = codes == "b",
    message = message,
    output = text or "",
    error = reason or nil,
    dispatched = dispatched_events(dispatched),
    calls = mocks.calls(),
    duration_ms = seconds * 1000,
  }
end

local tests, path -- what the spec's text declares, and the describes around it

local function declare(name, f, what)
  if type(name) ~= "string" or type(f) ~= "function" then complain(what .. " takes a name and a function") end
  if not tests then complain(what .. " stands at the top of the file or in describe, not in a test") end
end

local function describe(name, f)
  declare(name, f, "describe")
  local outer = path
  path = { name = name, outer = outer, before = {}, after = {} }
  f()
  path = outer
end

local function it(name, f)
  declare(name, f, "it")
  if #tests >= MAX_TESTS then complain("more than " .. MAX_TESTS .. " tests in one spec") end
  tests[#tests + 1] = { name = name, path = path, f = f, line = getinfo(f, "S").linedefined }
end

local function each(list, what)
  return function(f)
    if type(f) ~= "function" then complain(what .. " takes a function") end
    if not tests then complain(what .. " stands at the top of the file or in describe, not in a test") end
    local functions = path[list]
    functions[#functions + 1] = f
  end
end

local function environment()
  local env = new_environment()
  env.describe, env.it, env.expect, env.mock = describe, it, expect, mocks.set
  env.before_each, env.after_each = each("before", "before_each"), each("after", "after_each")
  env.spec = sandbox.freeze({ run = run_hook }, "spec")
  return env
end

-- All functions before a test, the outermost first; those after it, the innermost first.
local function around(block, list)
  local functions = {}
  while block do
    for i = #block[list], 1, -1 do
      functions[#functions + 1] = block[list][i]
    end
    block = block.outer
  end
  return functions
end

local function call_test(found)
  local before = around(found.path, "before")
  for i = #before, 1, -1 do
    before[i]()
  end
  local ok, reason = pcall(found.f)
  for _, after in ipairs(around(found.path, "after")) do
    after()
  end
  if not ok then error(reason, 0) end
end

local function read_and_call(main, index)
  tests, path = {}, { before = {}, after = {} }
  main()
  local found = tests
  tests, path = nil, nil
  if index then call_test(found[index]) end
  return found
end

-- Runs the coroutine of the spec; whenever it asks for it, the hook.
local function drive(index)
  local answer = pack(resume(test, spec.main, index))
  while answer[1] and status(test) ~= "dead" do
    if not rawequal(answer[2], RUN) then return false, "attempt to yield from outside a coroutine" end
    answer = pack(resume(test, perform(answer[3])))
  end
  return answer[1], answer[2]
end

local function trimmed(trace)
  trace = gsub(trace, "\n[^\n]*%(processor%)[^\n]*", "")
  trace = gsub(gsub(trace, "\n\t%[C%]:[^\n]*", ""), "\n\t%(%.%.%.tail calls%.%.%.%)", "")
  return (gsub(trace, "\nstack traceback:$", ""))
end

local function readable(reason)
  if deadline.is_expired() then return deadline.EXPIRED end
  if type(reason) ~= "string" then return math_type(reason) and tostring(reason) or "a " .. type(reason) .. " was raised" end
  return sub(reason, 1, MAX_MESSAGE)
end

local function begin(unit, hook_unit, timeouts)
  spec, hook, hook_timeout, spec_env = unit, hook_unit, timeouts.hook, environment()
  expected, broken = nil, nil
  ends_at = bridge.now() + timeouts.test
  output.reset()
  back_to_spec()
  setupvalue(unit.main, 1, spec_env)
  test = deadline.watched(read_and_call)
end

local function protected(index)
  local done, ok, reason = pcall(drive, index)
  if not done then
    ok, reason = false, ok
  elseif not ok and type(reason) == "string" and reason ~= expected then
    reason = trimmed(traceback(test, sub(reason, 1, MAX_MESSAGE)))
  end
  bridge.confine(false)
  return ok, ok and reason or readable(reason)
end

-- The tests of a spec: a list of names, of the describes around it from the
-- outermost on and its own, or nil and why there is none.
function runner.list_tests(unit, hook_unit, hook_seconds, test_seconds)
  begin(unit, hook_unit, { hook = hook_seconds, test = test_seconds })
  local ok, found = protected(nil)
  if not ok then return nil, found end
  local list = {}
  for i, entry in ipairs(found) do
    local names, block = { entry.name }, entry.path
    while block and block.name do
      names[#names + 1] = block.name
      block = block.outer
    end
    list[i] = { line = entry.line, names = names }
  end
  return list
end

-- Runs one test: whether it passed, why not, and what it printed.
function runner.run_test(unit, hook_unit, hook_seconds, test_seconds, index)
  begin(unit, hook_unit, { hook = hook_seconds, test = test_seconds })
  local ok, reason = protected(index)
  return ok, not ok and reason or false, take() or false
end
