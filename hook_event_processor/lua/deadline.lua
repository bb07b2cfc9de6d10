-- The deadline of a run, in wall time: checked every few instructions, and
-- raised again until nothing of the run is left that could catch it.
local bridge = ...
local error, create, sethook, type = error, coroutine.create, debug.sethook, type
local now, time = bridge.now, os.time

-- One instruction can take milliseconds, on megabytes or when memory is short:
-- a run of which that is known is checked far more often.
local INSTRUCTIONS <const>, FEW <const> = 1000, 100
local SLOW <const> = 0.25 -- seconds between looks that tell of such a run
local LARGE <const> = 1024 * 1024 -- bytes of a string that do
-- Bytes that are worth a look before C works on them.
local LONG <const> = 16 * 1024
-- Checks between two looks at the clock, which takes the interpreter's lock:
-- more and more of them in a run that computes for long, while they are
-- quick. os.time takes none, and brings the next look forward.
local CHECKS <const>, MAX_CHECKS <const> = 10, 160
local OFTEN <const> = 0.005 -- seconds between looks
local WORTH_COLLECTING_KB <const> = 512
local EXPIRED <const> = "the run took longer than it may"

local deadline = { EXPIRED = EXPIRED }
local HUGE <const> = math.huge
local ends_at, expired = HUGE, false
local checks, checks_left, second, looked_at = CHECKS, 0, 0, HUGE
local heavy = false -- whether the run is known to work on megabytes

local function is_over()
  local at = now()
  if at - looked_at > OFTEN then
    checks = CHECKS
  elseif checks < MAX_CHECKS then
    checks = checks * 2
  end
  checks_left, second, looked_at = checks, time(), at
  -- Not `>`: a cancelled run is told that it is infinitely late.
  return expired or at >= ends_at
end

local function check()
  checks_left = checks_left - 1
  if checks_left > 0 and not expired and time() == second then return end
  local before = looked_at
  if not is_over() then
    heavy = heavy or looked_at - before > SLOW
    return
  end
  expired = true
  -- From now on every instruction of this coroutine raises again.
  sethook(check, "", 1)
  error(EXPIRED, 0)
end

-- The check of a coroutine that was not heavy when it was last looked at.
local function light_check()
  check()
  if heavy then sethook(check, "", FEW) end
end

function deadline.arm(at)
  ends_at, expired, heavy = at, false, false
  -- What lies before the run says nothing of it.
  checks, checks_left, looked_at = CHECKS, CHECKS, HUGE
end

function deadline.is_expired() return expired end

function deadline.ends_at() return ends_at end

-- Whether the run has gone on for long enough for a look at the clock.
function deadline.looked() return looked_at < HUGE end

-- Called after whatever may have swallowed the error, and before whatever leaves Lua.
function deadline.refuse_expired()
  if expired then error(EXPIRED, 0) end
end

-- The same with a look at the clock: before a C function that may take long,
-- and after any error that was caught. The check can be what failed: it needs
-- room on the stack, which a hook can have used up to the last frame.
function deadline.look()
  if is_over() then
    expired = true
    error(EXPIRED, 0)
  end
end

-- The same once a second at most, where looks would be too many. A coroutine
-- can end before its first check: so nobody gets far by making many of them.
function deadline.glance()
  if expired or time() ~= second then deadline.look() end
end

-- `f`, whose first argument can be a long string that it reads to its end.
function deadline.by_size(f)
  return function(s, ...)
    if type(s) == "string" and #s > LONG then deadline.look() end
    return f(s, ...)
  end
end

-- Called with a string that C has just made.
function deadline.made(s)
  if #s > LONG then
    deadline.look()
    if #s > LARGE and not heavy then
      heavy = true
      sethook(check, "", FEW)
    end
  end
  return s
end

-- Waits for a number of seconds; raises at the deadline instead of returning.
function deadline.wait(seconds)
  deadline.refuse_expired()
  -- What it holds while it waits is taken from all: no garbage, then.
  if collectgarbage("count") > WORTH_COLLECTING_KB then collectgarbage() end
  local left = ends_at - now()
  local slept = bridge.sleep(seconds < left and seconds or left)
  if slept == nil then error("not enough memory", 0) end
  if not slept or seconds >= left then
    expired = true
    error(EXPIRED, 0)
  end
  looked_at = HUGE
end

-- Hooks of the debug library are per coroutine: each new one is given the check.
function deadline.watched(f)
  deadline.glance()
  local co = create(f)
  if heavy then sethook(co, check, "", FEW) else sethook(co, light_check, "", INSTRUCTIONS) end
  return co
end

-- Before a coroutine goes on that was made when the run was not heavy yet.
function deadline.rewatch(co)
  deadline.glance()
  if heavy then sethook(co, check, "", FEW) end
end

return deadline
