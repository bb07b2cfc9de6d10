-- The coroutine library, in which every coroutine keeps the deadline.
local deadline = ...
local error, refuse_expired = error, deadline.refuse_expired

local function after_resume(...)
  refuse_expired()
  return ...
end

local safe_coroutine = {
  create = deadline.watched,
  isyieldable = coroutine.isyieldable,
  running = coroutine.running,
  status = coroutine.status,
  yield = coroutine.yield,
}

function safe_coroutine.resume(co, ...) return after_resume(coroutine.resume(co, ...)) end

-- After an error in a check, __close would run where no check can interrupt it.
function safe_coroutine.close(co)
  refuse_expired()
  return coroutine.close(co)
end

local function result_of_wrap(ok, ...)
  refuse_expired()
  if ok then return ... end
  error((...), 0)
end

-- Not coroutine.wrap: it closes a failed coroutine by itself.
function safe_coroutine.wrap(f)
  local co = deadline.watched(f)
  return function(...) return result_of_wrap(coroutine.resume(co, ...)) end
end

return safe_coroutine
