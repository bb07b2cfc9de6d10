-- json: decode(text) -> value | nil, reason; encode(value) -> text.
-- What came in goes out again: null is json.null, an empty array stays an
-- array, and a 64-bit integer keeps every digit.
local is_frozen = ...
local byte, find, match, sub = string.byte, string.find, string.match, string.sub
local gsub, format = string.gsub, string.format
local concat, mathtype, utf8char = table.concat, math.type, utf8.char
local type, next, tonumber, tostring = type, next, tonumber, tostring
local rawget, rawlen, rawequal = rawget, rawlen, rawequal
local error, pcall, setmetatable = error, pcall, setmetatable
local HUGE, MAX_DEPTH = math.huge, 1024

-- Printed as "null", equal only to itself, and closed to changes.
local null = setmetatable({}, {
  __name = "json.null",
  __tostring = function() return "null" end,
  __newindex = function() error("json.null cannot be changed", 2) end,
  __metatable = false,
})

-- Tables that are arrays though they are empty. Weak: remembers nothing for longer than the hook does.
local arrays = setmetatable({}, { __mode = "k" })

-- The one table whose fields are worked out when they are read, and what reads all of them.
local lazy = {}

local value -- forward

local function fail(at, reason) error({ at = at, reason = reason }, 0) end

local function skip(s, i) return find(s, "[^ \n\r\t]", i) or #s + 1 end

local ESCAPES = { [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t" }

local function codepoint(s, i)
  local hex = match(s, "^%x%x%x%x", i) or fail(i, "\\u without four hexadecimal digits")
  return tonumber(hex, 16)
end

-- From the quote at `i` on, a string that holds at least one backslash.
local function escaped(s, i)
  local parts, n, from = {}, 0, i + 1
  while true do
    local at = find(s, '["\\]', from)
    if not at then fail(i, "string without an end") end
    n = n + 1
    parts[n] = sub(s, from, at - 1)
    if byte(s, at) == 34 then return concat(parts), at + 1 end
    local c = byte(s, at + 1)
    n = n + 1
    if c == 117 then
      local code = codepoint(s, at + 2)
      from = at + 6
      if code >= 0xD800 and code <= 0xDBFF and sub(s, from, from + 1) == "\\u" then
        local low = codepoint(s, from + 2)
        if low >= 0xDC00 and low <= 0xDFFF then
          code, from = 0x10000 + (code - 0xD800) * 0x400 + (low - 0xDC00), from + 6
        end
      end
      if code >= 0xD800 and code <= 0xDFFF then fail(at, "half of a surrogate pair") end
      parts[n] = utf8char(code)
    else
      parts[n] = ESCAPES[c] or fail(at, "unknown escape")
      from = at + 2
    end
  end
end

-- Strings hold no control characters; most texts hold none at all.
local suspect = false

local function text(s, i)
  local j = find(s, '"', i + 1, true)
  if not j then fail(i, "string without an end") end
  local plain = sub(s, i + 1, j - 1)
  if find(plain, "\\", 1, true) then plain, j = escaped(s, i) else j = j + 1 end
  if suspect and find(sub(s, i, j - 1), "[\0-\31]") then fail(i, "a control character in a string") end
  return plain, j
end

local function number(s, i)
  -- The common case: an integer of few digits and what follows it, in one step.
  local _, after, plain = find(s, "^(-?[1-9]%d*)[,}%]]", i)
  if plain and #plain < 19 then return tonumber(plain), after end
  local digits = match(s, "^-?%d+", i) or fail(i, "a value was expected")
  local j = i + #digits
  local c = byte(s, j)
  if c == 46 or c == 101 or c == 69 then
    digits = match(s, "^-?%d+%.?%d*[eE]?[+-]?%d*", i)
    j = i + #digits
  end
  local n = tonumber(digits)
  if not n or find(digits, "^-?0%d") or find(digits, "%.$") or find(digits, "%.[eE]") then
    fail(i, "not a number: " .. sub(digits, 1, 40))
  end
  if n == HUGE or n == -HUGE then
    fail(i, "a number of " .. #digits .. " digits is out of range")
  end
  return n, j
end

-- A key with an escape, or with white space before its colon.
local function odd_key(s, i)
  if byte(s, i) ~= 34 then fail(i, "a key was expected") end
  local key
  key, i = text(s, i)
  i = skip(s, i)
  if byte(s, i) ~= 58 then fail(i, "a colon was expected") end
  return key, i + 1
end

local function object(s, i, depth)
  if depth > MAX_DEPTH then fail(i, "nested deeper than " .. MAX_DEPTH) end
  local t = {}
  i = i + 1
  if byte(s, i) ~= 34 then
    i = skip(s, i)
    if byte(s, i) == 125 then return t, i + 1 end
  end
  while true do
    -- The common key in one step.
    local _, stop, key = find(s, '^"([^"\\]*)": ?', i)
    if stop and not (suspect and find(key, "[\0-\31]")) then
      i = stop + 1
    else
      key, i = odd_key(s, i)
    end
    t[key], i = value(s, i, depth)
    local c, space, quote = byte(s, i, i + 2)
    if c == 44 and space == 32 and quote == 34 then
      i = i + 2
    else
      if c ~= 44 and c ~= 125 then
        i = skip(s, i)
        c = byte(s, i)
      end
      if c == 125 then return t, i + 1 end
      if c ~= 44 then fail(i, "a comma or } was expected") end
      i = skip(s, i + 1)
    end
  end
end

local function array(s, i, depth)
  if depth > MAX_DEPTH then fail(i, "nested deeper than " .. MAX_DEPTH) end
  local t, n = {}, 0
  i = skip(s, i + 1)
  if byte(s, i) == 93 then
    arrays[t] = true
    return t, i + 1
  end
  while true do
    n = n + 1
    t[n], i = value(s, i, depth)
    local c = byte(s, i)
    if c ~= 44 and c ~= 93 then
      i = skip(s, i)
      c = byte(s, i)
    end
    if c == 93 then return t, i + 1 end
    if c ~= 44 then fail(i, "a comma or ] was expected") end
    i = i + 1
    if byte(s, i) == 32 then i = i + 1 end
  end
end

local WORDS = { [116] = { "true", true }, [102] = { "false", false }, [110] = { "null", null } }

function value(s, i, depth)
  local c = byte(s, i)
  if c == 34 then return text(s, i) end
  if c == 123 then return object(s, i, depth + 1) end
  if c == 91 then return array(s, i, depth + 1) end
  local word = WORDS[c]
  if word then
    local j = i + #word[1]
    if sub(s, i, j - 1) ~= word[1] then fail(i, "a value was expected") end
    return word[2], j
  end
  if c == 32 or c == 10 or c == 13 or c == 9 then
    i = skip(s, i)
    c = byte(s, i)
    if c and c ~= 32 then return value(s, i, depth) end
  end
  if not c then fail(i, "the text ends too early") end
  return number(s, i)
end

local function whole(s)
  local v, i = value(s, 1, 0)
  if i <= #s then
    i = skip(s, i)
    if i <= #s then fail(i, "something follows the value") end
  end
  return v
end

local function decode(s)
  if type(s) ~= "string" then error("json.decode takes a string, not a " .. type(s), 2) end
  suspect = find(s, "%c") ~= nil
  local ok, v = pcall(whole, s)
  if ok then return v end
  if type(v) == "table" and v.at then return nil, "invalid JSON at byte " .. v.at .. ": " .. v.reason end
  error(v, 0)
end

local SHORT = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function control(c) return SHORT[c] or format("\\u%04x", byte(c)) end

local function quoted(s)
  if find(s, '[%c"\\]') then s = gsub(s, '[%c"\\]', control) end
  return '"' .. s .. '"'
end

local function float(n)
  if n ~= n or n == HUGE or n == -HUGE then error("json.encode: " .. n .. " is not a JSON number", 0) end
  -- A whole float with all its digits: what jsonb makes of an exponent comes back as an integer.
  if n % 1 == 0 and n >= -0x1p63 and n < 0x1p63 then return format("%.1f", n) end
  local s = format("%.15g", n)
  if tonumber(s) ~= n then s = format("%.17g", n) end
  -- A whole float stays a float.
  return find(s, "[.eE]") and s or s .. ".0"
end

local put -- forward

local function put_array(t, n, out, k, depth)
  out[k] = "["
  for i = 1, n do
    if i > 1 then
      k = k + 1
      out[k] = ","
    end
    k = put(t[i], out, k + 1, depth)
  end
  out[k + 1] = "]"
  return k + 1
end

local function put_object(t, out, k, depth)
  out[k] = "{"
  local separator = ""
  for key, item in next, t do
    local kind = type(key)
    if kind ~= "string" then
      if kind ~= "number" then error("json.encode: a " .. kind .. " cannot be a key", 0) end
      if rawget(t, tostring(key)) ~= nil then error("json.encode: two keys are written " .. key, 0) end
    end
    out[k + 1] = separator .. quoted(tostring(key)) .. ":"
    separator = ","
    k = put(item, out, k + 2, depth)
  end
  out[k + 1] = "}"
  return k + 1
end

local function put_table(t, out, k, depth)
  if depth > MAX_DEPTH then error("json.encode: nested deeper than " .. MAX_DEPTH .. ", or in itself", 0) end
  if rawequal(t, lazy.table) then lazy.read(t) end
  local n = rawlen(t)
  if n == 0 then
    if next(t) == nil then
      out[k] = arrays[t] and "[]" or "{}"
      return k
    end
    return put_object(t, out, k, depth)
  end
  local count = 0
  for key in next, t do
    count = count + 1
    if mathtype(key) ~= "integer" then error("json.encode: a table has both list items and named fields", 0) end
  end
  if count ~= n then error("json.encode: a list has holes; use json.null", 0) end
  return put_array(t, n, out, k, depth)
end

function put(v, out, k, depth)
  local kind = type(v)
  if kind == "string" then
    out[k] = quoted(v)
  elseif kind == "number" then
    out[k] = mathtype(v) == "integer" and format("%d", v) or float(v)
  elseif kind == "boolean" then
    out[k] = v and "true" or "false"
  elseif v == null then
    out[k] = "null"
  elseif kind == "table" then
    return put_table(v, out, k, depth + 1)
  else
    error("json.encode: a " .. kind .. " has no form in JSON", 0)
  end
  return k
end

local function encode(v)
  local out = {}
  local n = put(v, out, 1, 0)
  return n == 1 and out[1] or concat(out, "", 1, n)
end

-- Marks a table as an array, so that it is written as [] even when it is empty.
local function as_array(t)
  if type(t) ~= "table" then error("json.array takes a table, not a " .. type(t), 2) end
  -- Libraries outlive the run: not even this may be left in them.
  if is_frozen(t) then error("json.array takes a table of the hook's own", 2) end
  arrays[t] = true
  return t
end

return { decode = decode, encode = encode, null = null, array = as_array }, lazy, arrays
