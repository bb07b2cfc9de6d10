-- How long a subject may be for a pattern: a C function that backtracks cannot
-- be interrupted, so what could take minutes is refused before it starts, and
-- the clock is looked at before what could take a millisecond.
--
-- A quantified item multiplies the work only where its split is ambiguous:
-- where what follows it may begin with a character that the item matches too.
-- `(%d+)/(%d+)` has no such item, `(.-)%s*$` has two.
-- Where all that follows can match nothing, or anything, there is no second try.
local byte, find, sub, char = string.byte, string.find, string.sub, string.char
local MAX_STEPS <const> = 2e9 -- a few seconds at most
local FEW_STEPS <const> = 3e5
local MAX_CACHED <const>, LONGEST_CACHED <const> = 500, 200 -- patterns and items; bytes of one
local MAX_LENGTH <const> = 64 * 1024 -- bytes of a pattern
local BYTES_A_STEP <const> = 4 -- a step is about as much work as comparing so many bytes

-- `find` called for what a key has not been seen with yet; bounded, since it outlives runs.
local function cached(find_out)
  local known, count = {}, 0
  return function(key)
    local found = known[key]
    if found then return found end
    found = find_out(key)
    if #key > LONGEST_CACHED then return found end
    if count >= MAX_CACHED then
      known, count = {}, 0
    end
    known[key], count = found, count + 1
    return found
  end
end

-- The set of characters that an item such as `a`, `.`, `%d` or `[^x]` matches: a table by byte.
local members = cached(function(item)
  local set, count = {}, 0
  if item == "$" then item = "%$" end
  for code = 0, 255 do
    if find(char(code), "^" .. item) then
      set[code], count = true, count + 1
    end
  end
  return { set = set, full = count == 256 }
end)

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

-- How many characters from `i` on stand for themselves, once each.
local function plain_length(pattern, i)
  local _, last = find(pattern, "^[%w_ ]+", i)
  if not last then return 0 end
  if find(pattern, "^[*+?-]", last + 1) then last = last - 1 end
  return last - i + 1
end

local function parse(pattern)
  local items, i = {}, 1
  local anchored = byte(pattern, 1) == 94
  if anchored then i = 2 end
  while i <= #pattern do
    local c, two = sub(pattern, i, i), sub(pattern, i, i + 1)
    local plain = plain_length(pattern, i)
    if plain > 1 then
      -- What comes before them depends on the first of them alone.
      items[#items + 1] = { set = members(c).set, bytes = plain }
      i = i + plain
    elseif c == "(" or c == ")" then
      i = i + 1
    elseif c == "$" and i == #pattern then
      items[#items + 1] = { last = true }
      i = i + 1
    elseif two == "%b" or find(two, "^%%%d") then
      -- Both may read to the end of the subject, and match more than one character.
      items[#items + 1] = { long = true }
      i = i + (two == "%b" and 4 or 2)
    elseif two == "%f" then
      local stop = item_end(pattern, i + 2)
      items[#items + 1] = { frontier = true, bytes = stop - i }
      i = stop
    else
      local stop = item_end(pattern, i)
      local quantifier = find(sub(pattern, stop, stop), "^[*+?-]") and sub(pattern, stop, stop) or nil
      local item = members(sub(pattern, i, stop - 1))
      -- A set is searched from its beginning for each character.
      local bytes = c == "[" and stop - i or quantifier and 0 or 1
      items[#items + 1] = { set = item.set, full = item.full, quantifier = quantifier, bytes = bytes }
      i = stop + (quantifier and 1 or 0)
    end
  end
  return items, anchored
end

-- Whether what follows item `k` matches wherever it begins.
local function is_certain(items, k)
  local anything = false
  for j = k + 1, #items do
    local item = items[j]
    if item.frontier then return false end
    if item.last then return anything end
    if item.long or not item.quantifier or item.quantifier == "+" then return false end
    if item.full and item.quantifier ~= "?" then anything = true end
  end
  return true
end

-- Whether what may follow item `k` can begin with a character of that item.
local function is_ambiguous(items, k)
  for j = k + 1, #items do
    local item = items[j]
    if item.last or item.long or item.frontier or overlaps(items[k].set, item.set) then return true end
    if not item.quantifier or item.quantifier == "+" then return false end
  end
  return false
end

-- The exponent of the subject's length in the worst case, and a factor.
local function cost(pattern)
  local items, anchored = parse(pattern)
  local ambiguities, scans, bytes = 0, 0, 0
  local factor = 1.0
  for k, item in ipairs(items) do
    bytes = bytes + (item.bytes or 1)
    if item.long then
      ambiguities = ambiguities + 1
    elseif item.quantifier and not is_certain(items, k) then
      local ambiguous = is_ambiguous(items, k)
      if item.quantifier == "?" then
        factor = ambiguous and factor * 2 or factor
      else
        scans = 1
        ambiguities = ambiguous and ambiguities + 1 or ambiguities
      end
    end
  end
  if bytes > BYTES_A_STEP then factor = factor * bytes / BYTES_A_STEP end
  return (anchored and 0 or 1) + (ambiguities > 0 and ambiguities or scans), factor
end

local function length(steps, factor, exponent)
  if factor > steps then return 0 end
  return exponent == 0 and math.huge or (steps / factor) ^ (1 / exponent) // 1
end

-- For a pattern: the `longest` subject, in bytes, that it may be matched
-- against, and from which length on that is `slow`.
return cached(function(pattern)
  if #pattern > MAX_LENGTH then return { longest = 0, slow = 0 } end
  local exponent, factor = cost(pattern)
  return { longest = length(MAX_STEPS, factor, exponent), slow = length(FEW_STEPS, factor, exponent) }
end)
