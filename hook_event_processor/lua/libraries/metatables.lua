-- Metatables of a hook's own. What Lua reads is a copy in here, and the hook's
-- table passes on what is written to it: so no field that the collector or a
-- call could spend minutes on can come in, then or later.
local error, getmetatable, next, rawget, rawset = error, getmetatable, next, rawget, rawset
local setmetatable, type = setmetatable, type
local MAX_NAME <const> = 255 -- bytes of __name, which C copies without being interruptible

local FORBIDDEN = {
  __gc = "a hook cannot have finalizers (__gc)",
  -- The collector can need minutes for chains through weak keys, and nothing interrupts it.
  __mode = "a hook cannot have weak tables (__mode)",
}
local EVENTS = {}
for _, names in next, {
  { "__index", "__newindex", "__call", "__tostring", "__name", "__metatable", "__pairs", "__close" },
  { "__len", "__eq", "__lt", "__le", "__concat", "__unm", "__add", "__sub", "__mul", "__div", "__mod", "__pow" },
  { "__idiv", "__band", "__bor", "__bxor", "__bnot", "__shl", "__shr" },
} do
  for _, name in next, names do
    EVENTS[name] = true
  end
end

-- A copy has `owner`, the hook's table, and `protected` for its __metatable. A
-- guard is the metatable of such an owner: it has `real`, the copy; `owner`,
-- the metatable that the hook gave to its table, or false; and `inherited`,
-- that one's copy.

local function put(copy, event, item, level)
  if event == "__metatable" then
    copy.protected = item
    return
  end
  -- Lua follows tables that are called through tables without an end.
  if event == "__call" and item ~= nil and type(item) ~= "function" then error("__call takes a function, not a " .. type(item), level) end
  if event == "__name" and (type(item) ~= "string" or #item > MAX_NAME) then item = nil end
  copy[event] = item
end

local function got(copy, event)
  if event == "__metatable" then return copy.protected end
  return copy[event]
end

local function inherit(guard, event)
  if event == "__index" or event == "__newindex" or event == "__metatable" or event == "__pairs" then return end
  guard[event] = guard.inherited and guard.inherited[event]
end

local function guard_index(t, key)
  local guard = getmetatable(t)
  local item = EVENTS[key] and got(guard.real, key)
  if item then return item end
  local index = guard.inherited and guard.inherited.__index
  if not index then return item or nil end
  if type(index) == "function" then return index(t, key) end
  return index[key]
end

-- Sets a field of a table with this guard that is no ordinary one; called by what the hook called.
local function set_event(t, guard, key, item)
  if FORBIDDEN[key] then error(FORBIDDEN[key], 3) end
  put(guard.real, key, item, 4)
  if guard.owner == t then inherit(guard, key) end
end

local function guard_newindex(t, key, item)
  local guard = getmetatable(t)
  if EVENTS[key] or FORBIDDEN[key] then
    set_event(t, guard, key, item)
    return
  end
  local newindex = guard.inherited and guard.inherited.__newindex
  if not newindex then
    rawset(t, key, item)
  elseif type(newindex) == "function" then
    newindex(t, key, item)
  else
    newindex[key] = item
  end
end

local function guard_pairs(t)
  local guard = getmetatable(t)
  local inherited = guard.inherited and guard.inherited.__pairs
  if inherited then return inherited(t) end
  local all = {}
  for key, item in next, t do
    all[key] = item
  end
  for event in next, EVENTS do
    all[event] = got(guard.real, event)
  end
  return next, all, nil
end

local function checked(metatable)
  for field, reason in next, FORBIDDEN do
    if rawget(metatable, field) ~= nil then error(reason, 5) end
  end
end

local copy_of -- forward

local function attach(guard, owner)
  guard.owner, guard.inherited = owner, owner and copy_of(owner)
  for event in next, EVENTS do
    inherit(guard, event)
  end
end

-- Makes the hook's table one that may be a metatable.
local function prepare(metatable, known)
  checked(metatable)
  local copy = { owner = metatable }
  for event in next, EVENTS do
    put(copy, event, rawget(metatable, event), 5)
  end
  local guard = { real = copy, __index = guard_index, __newindex = guard_newindex, __pairs = guard_pairs }
  setmetatable(metatable, guard)
  for event in next, EVENTS do
    rawset(metatable, event, nil)
  end
  attach(guard, known and known.owner or false)
  return copy
end

function copy_of(metatable)
  local known = getmetatable(metatable)
  if known == false then error("a table of the library cannot be a metatable", 3) end
  return known and known.real or prepare(metatable, known)
end

local metatables = {}

function metatables.get(value)
  local known = getmetatable(value)
  if not known or not known.owner then return known and nil end
  local protected
  if known.inherited then
    protected = known.inherited.protected
  else
    protected = known.protected
  end
  if protected ~= nil then return protected end
  return known.owner
end

function metatables.set(t, metatable)
  local known = type(t) == "table" and getmetatable(t)
  -- What is wrong with other arguments, C says.
  if known == false or metatable ~= nil and type(metatable) ~= "table" then return setmetatable(t, metatable) end
  if known and metatables.get(t) ~= known.owner and known.owner then error("cannot change a protected metatable", 2) end
  local copy = metatable and copy_of(metatable)
  -- Looked up again: a table can be its own metatable.
  local guard = getmetatable(t)
  if not (guard and guard.real) then return setmetatable(t, copy) end
  attach(guard, metatable or false)
  return t
end

-- rawset and rawget, for which a metatable's events are fields like others.
function metatables.rawset(t, key, item)
  if (EVENTS[key] or FORBIDDEN[key]) and type(t) == "table" then
    local known = getmetatable(t)
    if known and known.real then
      set_event(t, known, key, item)
      return t
    end
  end
  return rawset(t, key, item)
end

function metatables.rawget(t, key)
  local item = rawget(t, key)
  if item == nil and EVENTS[key] then
    local known = getmetatable(t)
    if known and known.real then return got(known.real, key) end
  end
  return item
end

return metatables
