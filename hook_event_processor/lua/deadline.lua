-- The deadline of a run, in wall time: checked every few instructions, and
-- raised again until nothing of the run is left that could catch it.
local bridge = ...
local error, create, sethook, now = error, coroutine.create, debug.sethook, bridge.now

local INSTRUCTIONS <const> = 10000 -- between two looks at the clock: under 0.1 ms
local EXPIRED <const> = "the run took longer than it may"

local deadline = { EXPIRED = EXPIRED }
local ends_at, expired = math.huge, false

local function check()
  if not expired and now() <= ends_at then return end
  expired = true
  -- From now on every instruction of this coroutine raises again.
  sethook(check, "", 1)
  error(EXPIRED, 0)
end

function deadline.arm(at) ends_at, expired = at, false end

function deadline.is_expired() return expired end

-- Called after whatever may have swallowed the error, and before whatever leaves Lua.
function deadline.refuse_expired()
  if expired then error(EXPIRED, 0) end
end

-- Waits for a number of seconds; raises at the deadline instead of returning.
function deadline.wait(seconds)
  deadline.refuse_expired()
  local left = ends_at - now()
  if not bridge.sleep(seconds < left and seconds or left) or seconds >= left then
    expired = true
    error(EXPIRED, 0)
  end
end

-- Hooks of the debug library are per coroutine: each new one is given the check.
function deadline.watched(f)
  local co = create(f)
  sethook(co, check, "", INSTRUCTIONS)
  return co
end

return deadline
