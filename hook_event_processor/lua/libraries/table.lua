-- The table library, bounded where a C function could not be interrupted.
local deadline = ...
local error, getmetatable, select, tonumber, type = error, getmetatable, select, tonumber, type
local tointeger, made = math.tointeger, deadline.made
local MAX_RANGE <const> = 1000 * 1000
local LONG <const> = 10000

local safe_table = { pack = table.pack }

-- A table with a metatable can claim any length, and another one each time it
-- is asked: what C would loop over is looped over here, where the check is.
local function is_plain(t) return type(t) ~= "table" or getmetatable(t) == nil end

local function length(t) return tointeger(#t) or error("object length is not an integer", 3) end

local function position(at, low, high)
  at = tointeger(at)
  if not at or at < low or at > high then error("bad argument #2 (position out of bounds)", 3) end
  return at
end

function safe_table.insert(t, ...)
  if is_plain(t) then return table.insert(t, ...) end
  local n, count = length(t), select("#", ...)
  if count ~= 1 and count ~= 2 then error("wrong number of arguments to 'insert'", 2) end
  if count == 1 then
    t[n + 1] = (...)
    return
  end
  local at, item = ...
  at = position(at, 1, n + 1)
  for i = n + 1, at + 1, -1 do
    t[i] = t[i - 1]
  end
  t[at] = item
end

function safe_table.remove(t, at)
  if is_plain(t) then
    if at == nil then return table.remove(t) end
    return table.remove(t, at)
  end
  local n = length(t)
  at = at == nil and n or position(at, n == 0 and 0 or 1, n + 1)
  local item = t[at]
  for i = at, n - 1 do
    t[i] = t[i + 1]
  end
  t[at > n and at or n] = nil
  return item
end

function safe_table.concat(t, separator, first, last)
  if is_plain(t) then return made(table.concat(t, separator, first, last)) end
  local parts, n = {}, 0
  for i = first or 1, last or length(t) do
    n = n + 1
    parts[n] = t[i]
  end
  return made(table.concat(parts, separator, 1, n))
end

-- Each step can lead through a thousand tables.
local function moved(a, first, last, to, b)
  to, b = tointeger(to), b == nil and a or b
  if not (first and last and to) then error("bad argument to 'move' (number has no integer representation)", 3) end
  local step, from, stop = 1, first, last
  if b == a and to > first and to <= last then
    step, from, stop = -1, last, first
  end
  for i = from, stop, step do
    b[to + i - first] = a[i]
  end
  return b
end

function safe_table.move(a, first, last, ...)
  local range = (tonumber(last) or 0) - (tonumber(first) or 1)
  if range > MAX_RANGE then error("table.move: a range of more than " .. MAX_RANGE, 2) end
  if range > LONG then deadline.look() end
  if is_plain(a) and is_plain((select(2, ...))) then return table.move(a, first, last, ...) end
  return moved(a, tointeger(first), tointeger(last), ...)
end

function safe_table.unpack(t, first, last)
  if is_plain(t) then return table.unpack(t, first, last) end
  local parts, n = {}, 0
  for i = first or 1, last or length(t) do
    n = n + 1
    if n > MAX_RANGE then error("table.unpack: too many results to unpack", 2) end
    parts[n] = t[i]
  end
  return table.unpack(parts, 1, n)
end

-- The comparison is always a Lua function, in which the check can interrupt.
function safe_table.sort(t, before)
  return table.sort(t, function(a, b)
    if before then return before(a, b) end
    return a < b
  end)
end

return safe_table
