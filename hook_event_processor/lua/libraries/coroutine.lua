-- The coroutine library, in which every coroutine keeps the deadline.
local deadline = ...
local error, look, refuse_expired, rewatch = error, deadline.look, deadline.refuse_expired, deadline.rewatch
local close, resume, status = coroutine.close, coroutine.resume, coroutine.status

local function after_call(ok, ...)
  if ok then refuse_expired() else look() end
  return ok, ...
end

local safe_coroutine = {
  create = deadline.watched,
  isyieldable = coroutine.isyieldable,
  running = coroutine.running,
  status = status,
  yield = coroutine.yield,
}

function safe_coroutine.resume(co, ...)
  if status(co) == "suspended" then rewatch(co) end
  return after_call(resume(co, ...))
end

-- One that died of an error may have died in a check, which is off from then
-- on: its __close functions would run where nothing can interrupt them.
function safe_coroutine.close(co)
  refuse_expired()
  if status(co) == "dead" then return true end
  if status(co) == "suspended" then rewatch(co) end
  return after_call(close(co))
end

local function result_of_wrap(ok, ...)
  refuse_expired()
  if ok then return ... end
  error((...), 0)
end

-- Not coroutine.wrap: it closes a failed coroutine by itself.
function safe_coroutine.wrap(f)
  local co = deadline.watched(f)
  return function(...)
    if status(co) == "suspended" then rewatch(co) end
    return result_of_wrap(resume(co, ...))
  end
end

return safe_coroutine
