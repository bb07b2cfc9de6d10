-- Evaluates what is typed at the prompt: one environment for all of it, with
-- every module as a global, and the limits of a hook for each input.
local runner, parts = ...
local bridge, deadline, library, modules = parts.bridge, parts.deadline, parts.library, parts.modules
local output, run, sandbox, take_dispatched = parts.output, parts.run, parts.sandbox, parts.take_dispatched
local load, pcall, select, type = load, pcall, select, type
local getmetatable, setmetatable = debug.getmetatable, debug.setmetatable
local concat, pack = table.concat, table.pack
local find, gsub = string.find, string.gsub
local resume, status, traceback = coroutine.resume, coroutine.status, debug.traceback
local CHUNK <const> = "=input"

local _, pretty = parts.file("../workshop/lua/inspect", parts.json.null)
local env, unit

-- `all`: a unit that names the modules that there are, each loaded when it is
-- first asked for; then the values of the event that all inputs belong to.
function runner.open(all, ...)
  parts.current.begin({ ... })
  parts.current.set(1)
  unit = { effectful = true, named = {}, libraries = {} }
  env = sandbox.environment()
  local globals, require = getmetatable(env).__index, env.require
  local function module(name)
    if not all.named[name] then return nil end
    parts.load_module(name)
    unit.named[name] = true
    return modules[name]
  end
  env.require = function(name) return module(name) or require(name) end
  setmetatable(env, {
    __index = function(_, name)
      local known = globals[name]
      if known == nil then known = module(name) end
      return known
    end,
    __metatable = false,
  })
end

local function shown(...)
  local count = select("#", ...)
  local values = pack(...)
  for i = 1, count do
    values[i] = pretty(values[i])
  end
  return count > 0 and concat(values, ", ", 1, count) or nil
end

local function compiled(text)
  local main = load("return " .. text, CHUNK, "t", env)
  if main then return main end
  return load(text, CHUNK, "t", env)
end

local function readable(co, reason)
  if deadline.is_expired() then return deadline.EXPIRED end
  if type(reason) ~= "string" then return "a " .. type(reason) .. " was raised" end
  local trace = gsub(traceback(co, reason), "\n[^\n]*%(processor%)[^\n]*", "")
  trace = gsub(gsub(trace, "\n\t%[C%]:[^\n]*", ""), "\n\tinput:%d+: in upvalue 'main'", "")
  return (gsub(gsub(trace, "\n\t%(%.%.%.tail calls%.%.%.%)", ""), "\nstack traceback:$", ""))
end

local function evaluate(main)
  local co = deadline.watched(function() return shown(main()) end)
  local ok, result = resume(co)
  if not ok then return false, readable(co, result) end
  if status(co) ~= "dead" then return false, "attempt to yield from outside a coroutine" end
  return true, result
end

-- Whether the text was evaluated, its values or why not, what it printed, and
-- the events that it dispatched; nil for a text that goes on.
function runner.evaluate(text, seconds)
  local main, reason = compiled(text)
  if not main then
    if find(reason, "near <eof>$") then return nil end
    return false, reason, false, false
  end
  library.allow(unit)
  sandbox.enter(env)
  library.begin()
  run.params = nil
  output.reset()
  deadline.arm(bridge.now() + seconds)
  bridge.confine(true)
  local done, ok, result = pcall(evaluate, main)
  bridge.confine(false)
  local dispatched = take_dispatched()
  if not done then ok, result = false, ok end
  return ok, result or false, output.take() or false, dispatched or false
end
