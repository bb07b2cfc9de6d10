-- Runs a spec beside a hook: lists its tests, and runs one of them, with the
-- hook in a sandbox of its own and mocks in place of what reaches outside.
local runner, parts = ...
local bridge, current, deadline, json, run = parts.bridge, parts.current, parts.deadline, parts.json, parts.run
local library, output, sandbox, take_dispatched = parts.library, parts.output, parts.sandbox, parts.take_dispatched
local error, ipairs, pcall, rawequal, tostring, type = error, ipairs, pcall, rawequal, tostring, type
local resume, running, status, yield = coroutine.resume, coroutine.running, coroutine.status, coroutine.yield
local find, gsub, sub, math_type = string.find, string.gsub, string.sub, math.type
local setupvalue, traceback = debug.setupvalue, debug.traceback
local pack, unpack = table.pack, table.unpack
local MAX_MESSAGE <const> = 8000
local FIELDS <const> = current.FIELDS
local RUN = {} -- what a test yields to have the hook run
local OUTCOMES = { a = "continue", b = "filtered", c = "failed", d = "timeout", e = "memory", f = "refused" }

local function file(name, ...) return parts.file("../workshop/lua/" .. name, ...) end

local complain, positioned = file("complain")
local inspect = file("inspect", json.null)
local fields, checked, object = file("given_event", complain, inspect, json, parts.call, bridge.unix_time)
local declarations = file("declarations", complain)

local function is_module(name)
  if parts.modules[name] or find(name, "^lib%.") then return true end
  return find(name, "^%l+$") and pcall(parts.load_module, name)
end
local mocks = file("mocks", complain, json, is_module)

local test -- the coroutine of the spec
local expected -- what was said of the last expectation that did not hold
local broken -- the same, of one inside of a mock

local function fail(reason)
  expected = positioned(reason)
  if running() ~= test then broken = broken or expected end
  error(expected, 0)
end
local expect = file("expect", inspect, json.null, fail)

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

local function environment()
  local env = new_environment()
  env.describe, env.it, env.expect, env.mock = declarations.describe, declarations.it, expect, mocks.set
  env.before_each, env.after_each = declarations.before_each, declarations.after_each
  env.spec = sandbox.freeze({ run = run_hook }, "spec")
  return env
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
  test = deadline.watched(declarations.read_and_call)
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
