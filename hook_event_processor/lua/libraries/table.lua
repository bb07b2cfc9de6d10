-- The table library, bounded where a C function could not be interrupted.
local error, getmetatable, tonumber, tostring, type = error, getmetatable, tonumber, tostring, type
local MAX_LENGTH <const> = 10 * 1000 * 1000

-- A __len or an __index of the hook's own can claim any length at no cost.
local function bounded_length(t, name)
  if type(t) == "table" and getmetatable(t) ~= nil and #t > MAX_LENGTH then
    error(("table.%s: a length of %s is too much"):format(name, tostring(#t)), 3)
  end
end

local function bounded_range(first, last, name)
  if (tonumber(last) or 0) - (tonumber(first) or 1) > MAX_LENGTH then
    error(("table.%s: a range of more than %d"):format(name, MAX_LENGTH), 3)
  end
end

local safe_table = { pack = table.pack }

function safe_table.insert(t, ...)
  bounded_length(t, "insert")
  return table.insert(t, ...)
end

function safe_table.remove(t, ...)
  bounded_length(t, "remove")
  return table.remove(t, ...)
end

function safe_table.move(a, first, last, ...)
  bounded_range(first, last, "move")
  return table.move(a, first, last, ...)
end

function safe_table.unpack(t, first, last)
  bounded_range(first, last, "unpack")
  return table.unpack(t, first, last)
end

function safe_table.concat(t, separator, first, last)
  bounded_length(t, "concat")
  bounded_range(first, last, "concat")
  return table.concat(t, separator, first, last)
end

-- The comparison is always a Lua function, in which the check can interrupt.
function safe_table.sort(t, before)
  bounded_length(t, "sort")
  return table.sort(t, function(a, b)
    if before then return before(a, b) end
    return a < b
  end)
end

return safe_table
