-- The string library, bounded where a C function could not be interrupted.
local deadline, longest_subject = ...
local error, ipairs, tonumber, tostring, type = error, ipairs, tonumber, tostring, type
local string_find, sub = string.find, string.sub
local MAX_STRING <const> = 16 * 1024 * 1024
local MAX_COMPARED <const> = 2e10 -- bytes that a plain search may compare: about a second
local LONG <const> = 16 * 1024
local SPECIALS <const> = "[%^%$%*%+%?%.%(%[%%%-]"

local function refuse(name, size)
  error(("string.%s: the pattern could take long on %d bytes: make it simpler, or the text shorter"):format(name, size), 3)
end

local function bounded_pattern(f, name)
  return function(subject, pattern, ...)
    if type(subject) == "number" then subject = tostring(subject) end
    if type(subject) == "string" and type(pattern) == "string" then
      -- In gmatch a leading ^ is a character like any other.
      local read = name == "gmatch" and sub(pattern, 1, 1) == "^" and "%" .. pattern or pattern
      if #subject > longest_subject(read) then refuse(name, #subject) end
      if #subject > LONG then deadline.look() end
    end
    return f(subject, pattern, ...)
  end
end

local safe_string = {}
for _, name in ipairs({ "byte", "char", "format", "len", "lower", "pack", "packsize", "reverse", "sub", "unpack", "upper" }) do
  safe_string[name] = string[name]
end
for _, name in ipairs({ "match", "gmatch", "gsub" }) do
  safe_string[name] = bounded_pattern(string[name], name)
end

local find = bounded_pattern(string_find, "find")
function safe_string.find(subject, pattern, init, plain)
  if type(subject) == "string" and type(pattern) == "string" and (plain or not string_find(pattern, SPECIALS)) then
    if #subject * #pattern > MAX_COMPARED then refuse("find", #subject) end
    if #subject > LONG then deadline.look() end
    return string_find(subject, pattern, init, true)
  end
  return find(subject, pattern, init, plain)
end

function safe_string.rep(s, n, separator)
  local one = #tostring(s) + #tostring(separator or "")
  local size = one * (tonumber(n) or 0)
  if size > MAX_STRING then error(("string.rep would make %d bytes: at most %d"):format(size // 1 | 0, MAX_STRING), 2) end
  -- Nothing, any number of times: C would count them all.
  if one == 0 and tonumber(n) and tonumber(n) > 1 then n = 1 end
  return string.rep(s, n, separator)
end

return safe_string
