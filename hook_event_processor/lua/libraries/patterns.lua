-- How long a subject may be for a pattern: a C function that backtracks cannot
-- be interrupted, so what could take minutes is refused before it starts.
--
-- A quantified item multiplies the work only where its split is ambiguous:
-- where what follows it may begin with a character that the item matches too.
-- `(%d+)/(%d+)` has no such item, `(.-)%s*$` has two.
local byte, find, sub, char = string.byte, string.find, string.sub, string.char
local MAX_STEPS <const> = 1e12
local MAX_CACHED <const> = 500

-- The set of characters that an item such as `a`, `.`, `%d` or `[^x]` matches: a table by byte.
local function members(item)
  local set = {}
  for code = 0, 255 do
    if find(char(code), "^" .. item) then set[code] = true end
  end
  return set
end

local function overlaps(a, b)
  for code in next, a do
    if b[code] then return true end
  end
  return false
end

-- Where the item at `i` ends (exclusive). Malformed patterns are left to string.find's own error.
local function item_end(pattern, i)
  local c = sub(pattern, i, i)
  if c == "%" then return i + 2 end
  if c ~= "[" then return i + 1 end
  i = i + 1
  if sub(pattern, i, i) == "^" then i = i + 1 end
  repeat
    if i > #pattern then return i end
    i = i + (sub(pattern, i, i) == "%" and 2 or 1)
  until sub(pattern, i, i) == "]"
  return i + 1
end

local function parse(pattern)
  local items, i = {}, 1
  local anchored = byte(pattern, 1) == 94
  if anchored then i = 2 end
  while i <= #pattern do
    local c, two = sub(pattern, i, i), sub(pattern, i, i + 1)
    if c == "(" or c == ")" then
      i = i + 1
    elseif c == "$" and i == #pattern then
      items[#items + 1] = { last = true }
      i = i + 1
    elseif two == "%b" or find(two, "^%%%d") then
      -- Both may read to the end of the subject, and match more than one character.
      items[#items + 1] = { long = true }
      i = i + (two == "%b" and 4 or 2)
    elseif two == "%f" then
      i = item_end(pattern, i + 2)
    else
      local stop = item_end(pattern, i)
      local quantifier = find(sub(pattern, stop, stop), "^[*+?-]") and sub(pattern, stop, stop)
      items[#items + 1] = { set = members(sub(pattern, i, stop - 1)), quantifier = quantifier or nil }
      i = stop + (quantifier and 1 or 0)
    end
  end
  return items, anchored
end

-- Whether what may follow item `k` can begin with a character of that item.
local function ambiguous(items, k)
  for j = k + 1, #items do
    local item = items[j]
    if item.last or item.long or overlaps(items[k].set, item.set) then return true end
    if not item.quantifier or item.quantifier == "+" then return false end
  end
  return false
end

-- The exponent of the subject's length in the worst case.
local function degree(pattern)
  local items, anchored = parse(pattern)
  local ambiguities, scans = 0, 0
  for k, item in ipairs(items) do
    if item.long then
      ambiguities = ambiguities + 1
    elseif item.quantifier and item.quantifier ~= "?" then
      scans = 1
      if ambiguous(items, k) then ambiguities = ambiguities + 1 end
    end
  end
  return (anchored and 0 or 1) + (ambiguities > 0 and ambiguities or scans)
end

local limits, cached = {}, 0

-- The longest subject, in bytes, that `pattern` may be matched against.
return function(pattern)
  local limit = limits[pattern]
  if not limit then
    local exponent = degree(pattern)
    limit = exponent <= 1 and math.huge or MAX_STEPS ^ (1 / exponent) // 1
    if cached >= MAX_CACHED then
      limits, cached = {}, 0
    end
    limits[pattern], cached = limit, cached + 1
  end
  return limit
end
