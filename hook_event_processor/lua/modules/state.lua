-- state: what a hook remembers between its runs; values keep their types.
--   get(key [, default]), set(key, value [, ttl]), delete(key), exists(key), keys([prefix]),
--   incr(key [, by [, ttl]]) -> number, compare_and_swap(key, expected, new [, ttl]) -> boolean,
--   lock(name, ttl [, {wait}]) -> true | false, reason, unlock(name), with_lock(name, ttl, function [, {wait}])
--   shared(name) -> the same over keys that the hooks of a stack share
--   A lock that the run holds already is taken again for ttl seconds at least; with_lock then leaves it to the run.
-- A ttl is a number of seconds, or {ttl = seconds}. Without the database: nil, reason.
local parts = ...
local call, json = parts.call, parts.json
local encode, decode = json.encode, json.decode
local error, pairs, pcall, tostring, type = error, pairs, pcall, tostring, type
local math_type = math.type

-- Levels count from the function that is named: 3 is its caller when it calls these directly.
local function check_key(name, key, what)
  if type(key) ~= "string" then error("state." .. name .. " takes a " .. what .. ", not a " .. type(key), 3) end
end

-- The one option that there is, from a table.
local function option(name, options, known)
  for key in pairs(options) do
    if key ~= known then error("state." .. name .. ": unknown option " .. tostring(key) .. "; it takes " .. known, 4) end
  end
  return options[known]
end

local function ttl_of(name, ttl)
  if type(ttl) == "table" then ttl = option(name, ttl, "ttl") end
  if ttl ~= nil and not math_type(ttl) then
    error("state." .. name .. " takes a ttl in seconds, or {ttl = seconds}, not a " .. type(ttl), 3)
  end
  return ttl
end

local function text_of(value)
  if value == nil then return nil end
  return encode(value)
end

local function number_of(text, reason)
  if text == nil then return nil, reason end
  return decode(text)
end

local function over(shared)
  local state = {}

  function state.get(key, default)
    check_key("get", key, "key")
    local text, reason = call("state.get", shared, key)
    if text ~= nil then return decode(text) end
    if reason then return nil, reason end
    return default
  end

  function state.set(key, value, ttl)
    check_key("set", key, "key")
    if value == nil then error("state.set takes a value; state.delete removes a key, json.null stands for null", 2) end
    return call("state.set", shared, key, encode(value), ttl_of("set", ttl))
  end

  function state.delete(key)
    check_key("delete", key, "key")
    return call("state.delete", shared, key)
  end

  function state.exists(key)
    check_key("exists", key, "key")
    return call("state.exists", shared, key)
  end

  function state.keys(prefix)
    if prefix ~= nil then check_key("keys", prefix, "prefix") end
    return number_of(call("state.keys", shared, prefix or ""))
  end

  function state.incr(key, by, ttl)
    check_key("incr", key, "key")
    if by ~= nil and not math_type(by) then error("state.incr takes a number to add, not a " .. type(by), 2) end
    return number_of(call("state.incr", shared, key, encode(by or 1), ttl_of("incr", ttl)))
  end

  function state.compare_and_swap(key, expected, new, ttl)
    check_key("compare_and_swap", key, "key")
    local seconds = ttl_of("compare_and_swap", ttl)
    return call("state.compare_and_swap", shared, key, text_of(expected), text_of(new), seconds)
  end

  -- True, nil, and whether the run held it before; or nil or false, and a reason.
  local function lock(name, lock_name, ttl, options)
    if type(lock_name) ~= "string" then error("state." .. name .. " takes a lock's name, not a " .. type(lock_name), 3) end
    if not math_type(ttl) then error("state." .. name .. " takes a ttl in seconds, not a " .. type(ttl), 3) end
    local wait
    if options ~= nil then
      if type(options) ~= "table" then error("state." .. name .. " takes a table of options, not a " .. type(options), 3) end
      wait = option(name, options, "wait")
      if wait ~= nil and not math_type(wait) then error("state." .. name .. ": wait takes seconds, not a " .. type(wait), 3) end
    end
    return call("state.lock", shared, lock_name, ttl, wait or 0)
  end

  function state.lock(name, ttl, options)
    local had, reason = lock("lock", name, ttl, options)
    return had, reason
  end

  function state.unlock(name)
    check_key("unlock", name, "lock's name")
    return call("state.unlock", shared, name)
  end

  local function release(name, held, ok, ...)
    -- Not even this returns once the run is over: the lock then ends by itself.
    if not held then call("state.unlock", shared, name) end
    if not ok then error((...), 0) end
    return ...
  end

  function state.with_lock(name, ttl, f, options)
    if type(f) ~= "function" then error("state.with_lock takes a function, not a " .. type(f), 2) end
    local had, reason, held = lock("with_lock", name, ttl, options)
    if not had then return nil, reason end
    return release(name, held, pcall(f))
  end

  return state
end

local state = over(nil)

function state.shared(name)
  if type(name) ~= "string" then error("state.shared takes a name, not a " .. type(name), 2) end
  return over(name)
end

return state
