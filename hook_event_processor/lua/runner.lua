-- Runs one hook for a chunk of events, each in a fresh environment, and
-- returns what came of them as arrays.
local bridge, limits, deadline, sandbox, output, current, take_dispatched, library, run = ...
local concat, error, find, match, type, tostring = table.concat, error, string.find, string.match, type, tostring
local resume, yield = coroutine.resume, coroutine.yield
local setupvalue, traceback, load = debug.setupvalue, debug.traceback, load
local now, confine, utf8_len, gsub, math_type = bridge.now, bridge.confine, utf8.len, string.gsub, math.type
local status, rep, sub, table_unpack = coroutine.status, string.rep, string.sub, table.unpack
local next, pcall, rawequal = next, pcall, rawequal

local DONE = {} -- what the runner itself yields; a hook cannot
local FILTERED = {}
local OUT_OF_MEMORY <const> = "not enough memory"
local MAX_ERROR <const> = 20000 -- bytes; what is stored is shorter
local RESERVE <const> = 4096 -- bytes that are given up to report that there are no more
local MAX_REMEMBERED <const> = 1000 -- bytes of a text that was checked
-- The clock takes the interpreter's lock: runs much shorter than this are timed together.
local TOGETHER_SECONDS <const>, MAX_TOGETHER <const> = 0.0002, 32

-- One letter for each outcome, as in event.OUTCOMES.
local CONTINUE <const>, FILTER <const>, FAILED <const> = "a", "b", "c"
local TIMEOUT <const>, MEMORY <const>, REFUSED <const> = "d", "e", "f"

local this_main, this_event -- of the run that begins
local reserve

-- What was set for this hook, over the defaults in its table.
local function set_params(hook)
  local params = type(hook.params) == "table" and hook.params or {}
  for name, item in next, current.decode(run.params) do
    params[name] = item
  end
  hook.params = params
end

local function attempt()
  local main, event = this_main, this_event
  local hook = main()
  if type(hook) ~= "table" then error("the hook's file returns a " .. type(hook) .. ", not a table", 0) end
  if run.params then set_params(hook) end
  local filter = hook.filter
  if filter ~= nil and not filter(event) then return FILTERED end
  return hook.execute(event)
end

-- The coroutine that hooks run in: it has the check, the runner outside has
-- none. While it waits it holds nothing of the last run.
local function serve()
  while true do
    yield(DONE, attempt())
  end
end

local server

-- Frames of the runner itself, and what C adds to them, say nothing to a hook's author.
local function trimmed(trace)
  trace = gsub(trace, "\n[^\n]*%(processor%)[^\n]*", "")
  trace = gsub(trace, "\n\t%(%.%.%.tail calls%.%.%.%)", "")
  trace = gsub(trace, "\n\t%[C%]: in function 'error'", "")
  return (gsub(trace, "\nstack traceback:$", ""))
end

-- Never by tostring: a __tostring would run here, where nothing interrupts it.
local function readable(message)
  if type(message) == "string" then return (gsub(sub(message, 1, MAX_ERROR), "\0", "\u{FFFD}")) end
  return math_type(message) and tostring(message) or "a " .. type(message) .. " was raised"
end

-- What was wrong, and where the run had got to.
local function located(message) return trimmed(traceback(server, readable(message))) end

local function failure(message)
  if deadline.is_expired() then
    -- A run that has filled its memory, too, leaves no room to say where.
    local ok, text = pcall(located, message)
    return TIMEOUT, nil, ok and text or message
  end
  if message == OUT_OF_MEMORY then return MEMORY, nil, message end
  return FAILED, nil, located(message)
end

local function refused(what)
  return REFUSED, nil, "the hook returned " .. what .. ": it returns nothing or true (and a message), or false and a message"
end

local function judge(result, message)
  -- Never by ==: an __eq would run here, where nothing interrupts it.
  if rawequal(result, FILTERED) then return FILTER end
  if message ~= nil and type(message) ~= "string" then
    if not math_type(message) then return refused("a " .. type(message) .. " as its message") end
    message = tostring(message)
  end
  if result == nil or result == true then return CONTINUE, message end
  if result == false then return FAILED, nil, message and sub(message, 1, MAX_ERROR) or "the hook returned false" end
  if type(result) == "table" then return refused("a table that is no known result") end
  return refused("a " .. type(result) .. " (" .. sub(tostring(result), 1, 40) .. ")")
end

local function outcome(ok, token, result, message)
  if not ok then
    local code, text, reason = failure(token)
    server = nil
    return code, text, reason
  end
  if not rawequal(token, DONE) then
    server = nil
    return FAILED, nil, "attempt to yield from outside a coroutine"
  end
  return judge(result, message)
end

local last_checked -- text, which often comes again

-- What PostgreSQL cannot store fails this run, and no other; of one that failed by itself it is dropped.
local function checked(code, text, reason)
  if text and text ~= last_checked then
    if find(text, "\0", 1, true) or not utf8_len(text) then
      if code ~= CONTINUE and code ~= FILTER then return code, nil, reason end
      return FAILED, nil, "the output is not text: it holds a NUL byte or is not UTF-8"
    end
    last_checked = #text <= MAX_REMEMBERED and text or nil
  end
  return code, text, reason
end

-- Nothing that the runs held stays.
local function forget(main)
  setupvalue(main, 1, nil)
  this_event = nil
  library.forget()
  current.clear()
  sandbox.forget()
end

-- The same for a run that left no room even to say so, or whose time was up before it began.
local function after_failure(main, reason)
  local code = reason == OUT_OF_MEMORY and MEMORY or reason == deadline.EXPIRED and TIMEOUT
  if not code then error(reason, 0) end
  forget(main)
  output.reset()
  return code, nil, reason
end

local function with_output(code, message, reason) return checked(code, output.take(message), reason) end

local function run_one(main, first)
  if not server then server = deadline.watched(serve) end
  library.begin()
  -- Nothing that the last run held may take the room of what follows.
  setupvalue(main, 1, sandbox.environment())
  this_event = nil
  this_main, this_event = main, current.set(first)
  return with_output(outcome(resume(server)))
end

local function print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do
    parts[i] = tostring(parts[i])
  end
  output.add(concat(parts, "\t"))
end
sandbox.provide("print", print)

local FIELDS = current.FIELDS

local runner = {}

-- A hook's text and what belongs to it, compiled; or nil and what is wrong.
-- Never bytecode. `libraries` are names and texts of shared code in turn.
function runner.compile(text, name, effectful, named, params, ...)
  local main, reason = load(text, "@" .. name, "t", {})
  if not main then return nil, reason end
  local unit = { main = main, effectful = effectful, named = {}, params = params, libraries = {} }
  for module in string.gmatch(named, "%S+") do
    unit.named[module] = true
  end
  local texts = { ... }
  for i = 1, #texts, 2 do
    local shared
    shared, reason = load(texts[i + 1], "@" .. texts[i] .. ".lua", "t", {})
    if not shared then return nil, reason end
    unit.libraries[texts[i]] = shared
  end
  return unit
end

-- Runs a compiled hook for `n` events of current.FIELDS arguments each, or for fewer
-- when memory runs out or the results are many bytes. Returns outcomes as
-- letters, a list of {index, dispatched} or false, and for each event its
-- duration in seconds, output and error (false: none).
function runner.run(unit, timeout, n, ...)
  local main = unit.main
  local codes, results, dispatched, size = {}, {}, false, 0
  local i, from, together, usual = 1, 1, 1, 0 -- the run; the first of those timed together, and how many at most

  local started

  local function time_runs()
    local ended = now()
    local each = (ended - started) / (i - from + 1)
    -- The clock was looked at: of these runs the last one took long.
    if i > from and deadline.looked() then each = usual < each and usual or each end
    for k = from, i - 1 do
      results[3 * k - 2] = each
    end
    results[3 * i - 2] = ended - started - each * (i - from)
    usual, started, from = each, ended, i + 1
    together = each < TOGETHER_SECONDS / MAX_TOGETHER and MAX_TOGETHER or TOGETHER_SECONDS // each
  end

  -- Whether the chunk goes on.
  local function note(code, text, reason)
    codes[i], results[3 * i - 1], results[3 * i] = code, text or false, reason or false
    local taken, bytes = take_dispatched()
    if taken then
      dispatched = dispatched or {}
      dispatched[#dispatched + 1] = { i, taken }
    end
    size = size + bytes + (text and #text or 0) + (reason and #reason or 0)
    local goes_on = i < n and code ~= MEMORY and size <= limits.results
    if i - from + 1 >= together or not goes_on or deadline.looked() then time_runs() end
    i = i + 1
    return goes_on
  end

  local function run_all()
    repeat
      deadline.arm(started + timeout)
    until not note(run_one(main, (i - 1) * FIELDS + 1))
  end

  library.allow(unit)
  run.params = unit.params
  current.begin({ ... })
  -- A failure of the runner itself can have left it in the middle of a run.
  output.reset()
  take_dispatched()
  if server and status(server) ~= "suspended" then server = nil end
  reserve = reserve or rep("x", RESERVE)
  confine(true)
  started = now()
  local ok, failed = pcall(run_all)
  if not ok then
    -- First of all, and without a call: a call takes memory.
    reserve, server, this_event = nil, nil, nil
    note(after_failure(main, failed))
  end
  forget(main)
  confine(false)
  return concat(codes), dispatched, table_unpack(results)
end

-- Why a text could not be described: what Lua says of any other error, its place first.
local function undescribed(co, message)
  if not deadline.is_expired() then return readable(message) end
  local place = match(trimmed(traceback(co)), "\n\t([^\n]-:%d+): ")
  return (place and place .. ": " or "") .. deadline.EXPIRED
end

-- Runs the text once and returns the table that it makes, for reading its fields.
function runner.describe(unit, timeout)
  library.allow(unit)
  deadline.arm(now() + timeout)
  library.begin()
  setupvalue(unit.main, 1, sandbox.environment())
  local co = deadline.watched(unit.main)
  confine(true)
  local ok, hook = resume(co)
  confine(false)
  if not ok then return nil, undescribed(co, hook) end
  if status(co) ~= "dead" then return nil, "attempt to yield from outside a coroutine" end
  return hook
end

return runner
