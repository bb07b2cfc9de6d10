-- time: time.now() -> seconds since 1970, with a fraction; time.sleep(seconds).
local parts = ...
local bridge, deadline, run = parts.bridge, parts.deadline, parts.run
local error, tonumber = error, tonumber

local time = {}

function time.now() return bridge.unix_time() end

function time.sleep(seconds)
  local wait = tonumber(seconds)
  if not wait or wait ~= wait or wait < 0 then error("time.sleep takes a number of seconds", 2) end
  -- A pure run holds a transaction open; that it waits nowhere is known from its text.
  if not run.effectful then error("time.sleep must stand in the hook's text by that name", 2) end
  deadline.wait(wait)
end

return time
