-- decode(text) -> value, or nil and a reason; made for the form that PostgreSQL
-- gives jsonb ({"key": 1, "list": [1, 2]}, without exponents), in which a few
-- steps of known length read each member. What has another form, or strings
-- with a backslash, goes to `decode_any`, and so does all that is wrong.
local null, arrays, decode_any = ...
local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local error, pcall, tonumber = error, pcall, tonumber
local HUGE <const>, MAX_DEPTH <const> = math.huge, 1024
local OTHER <const> = "another form"

local object, array -- forward

-- The value at `i` that begins with the byte `c`, and where what follows it begins.
local function value(s, i, c, depth)
  if c == 34 then
    local stop = find(s, '"', i + 1, true)
    return sub(s, i + 1, stop - 1), stop + 1
  elseif c == 123 then
    return object(s, i + 1, depth + 1)
  elseif c == 91 then
    return array(s, i + 1, depth + 1)
  elseif c == 116 then
    return true, i + 4
  elseif c == 102 then
    return false, i + 5
  elseif c == 110 then
    return null, i + 4
  end
  local digits = match(s, "^-?%d+%.?%d*", i)
  local n = tonumber(digits)
  if n == HUGE or n == -HUGE then error(OTHER, 0) end
  return n, i + #digits
end

-- From behind the brace on.
function object(s, i, depth)
  if depth > MAX_DEPTH then error(OTHER, 0) end
  local t = {}
  if byte(s, i) == 125 then return t, i + 1 end
  while true do
    local stop = find(s, '"', i + 1, true)
    local colon, space, c = byte(s, stop + 1, stop + 3)
    if colon ~= 58 or space ~= 32 then error(OTHER, 0) end
    local key = sub(s, i + 1, stop - 1)
    if c == 34 then
      i = find(s, '"', stop + 4, true)
      t[key] = sub(s, stop + 4, i - 1)
      i = i + 1
    else
      t[key], i = value(s, stop + 3, c, depth)
    end
    local quote
    c, space, quote = byte(s, i, i + 2)
    if c == 125 then return t, i + 1 end
    if c ~= 44 or space ~= 32 or quote ~= 34 then error(OTHER, 0) end
    i = i + 2
  end
end

-- From behind the bracket on.
function array(s, i, depth)
  if depth > MAX_DEPTH then error(OTHER, 0) end
  local t, n = {}, 0
  local c, space = byte(s, i), nil
  if c == 93 then
    arrays[t] = true
    return t, i + 1
  end
  while true do
    n = n + 1
    t[n], i = value(s, i, c, depth)
    c, space = byte(s, i, i + 1)
    if c == 93 then return t, i + 1 end
    if c ~= 44 or space ~= 32 then error(OTHER, 0) end
    i = i + 2
    c = byte(s, i)
  end
end

return function(s)
  if not find(s, "\\", 1, true) then
    local ok, found, stop = pcall(value, s, 1, byte(s), 0)
    if ok and stop > #s then return found end
  end
  return decode_any(s)
end
