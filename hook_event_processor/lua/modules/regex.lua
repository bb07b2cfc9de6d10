-- regex: regular expressions of RE2 (https://github.com/google/re2/wiki/Syntax),
-- whose time is proportional to the text's length. Positions are in bytes,
-- from 1, as in the string library.
local parts = ...
local call = parts.call
local error, math_type, select, tointeger, tostring, type = error, math.type, select, math.tointeger, tostring, type
local gmatch, gsub, pack, sub, unpack = string.gmatch, string.gsub, table.pack, string.sub, string.unpack
local MAX_ESCAPED <const> = 4096 -- bytes, as of a pattern

local function check(text, pattern, name)
  if type(text) ~= "string" then error("regex." .. name .. " takes a string as its text, not a " .. type(text), 3) end
  if type(pattern) ~= "string" then error("regex." .. name .. " takes a string as its pattern, not a " .. type(pattern), 3) end
end

local regex = {}

-- regex.test(text, pattern) -> whether the pattern matches anywhere in it.
function regex.test(text, pattern)
  check(text, pattern, "test")
  return call("regex.test", text, pattern)
end

local function captures(names, ...)
  if not names then return nil, (...) end
  local groups = pack(select(2, ...))
  groups[0], groups.n = (...), nil
  for index, name in gmatch(names, "(%d+)=([^;]+)") do
    groups[name] = groups[tointeger(index)]
  end
  return groups
end

-- regex.match(text, pattern) -> captures: [0] the match, [1] and on its groups,
-- named groups by their names, too; nil without a match.
function regex.match(text, pattern)
  check(text, pattern, "match")
  return captures(call("regex.match", text, pattern))
end

-- regex.find(text, pattern [, init]) -> where the first match from init on begins and ends, or nil.
function regex.find(text, pattern, init)
  check(text, pattern, "find")
  if init == nil then init = 1 end
  if math_type(init) ~= "integer" then error("regex.find takes a whole number as its start, not " .. tostring(init), 2) end
  if init < 0 then init = #text + init + 1 end
  return call("regex.find", text, pattern, init < 1 and 1 or init)
end

-- regex.gsub(text, pattern, replacement [, n]) -> the text with its matches (the
-- first n) replaced, and how many there were. In the replacement %0 stands for
-- the match, %1 to %9 for its groups and %% for %, as in string.gsub.
function regex.gsub(text, pattern, replacement, n)
  check(text, pattern, "gsub")
  if type(replacement) ~= "string" then error("regex.gsub takes a string as its replacement, not a " .. type(replacement), 2) end
  if n ~= nil and math_type(n) ~= "integer" then error("regex.gsub takes a whole number of replacements, not " .. tostring(n), 2) end
  return call("regex.gsub", text, pattern, replacement, n)
end

-- regex.split(text, pattern) -> the list of what stands between its matches.
function regex.split(text, pattern)
  check(text, pattern, "split")
  local spans, reason = call("regex.split", text, pattern)
  if not spans then return nil, reason end
  local pieces, n, at = {}, 0, 1
  while at <= #spans do
    local first, last
    first, last, at = unpack("<I4I4", spans, at)
    n = n + 1
    pieces[n] = sub(text, first, last)
  end
  return pieces
end

-- regex.escape(text) -> a pattern that matches this text and nothing else.
function regex.escape(text)
  if type(text) ~= "string" then error("regex.escape takes a string, not a " .. type(text), 2) end
  if #text > MAX_ESCAPED then error("regex.escape takes a text of at most " .. MAX_ESCAPED .. " bytes, not " .. #text, 2) end
  return (gsub(gsub(text, "[^%w_\128-\255]", "\\%0"), "\0", "x00"))
end

return regex
