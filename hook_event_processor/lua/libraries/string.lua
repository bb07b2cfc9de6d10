-- The string library, bounded where a C function could not be interrupted.
local longest_subject = ...
local error, ipairs, tonumber, tostring, type = error, ipairs, tonumber, tostring, type
local MAX_STRING <const> = 16 * 1024 * 1024

local function bounded_pattern(f, name)
  return function(subject, pattern, ...)
    if type(subject) == "number" then subject = tostring(subject) end
    if type(subject) == "string" and type(pattern) == "string" and #subject > longest_subject(pattern) then
      error(("string.%s: the pattern could take minutes on %d bytes: make it simpler, or the text shorter"):format(name, #subject), 2)
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

local find = bounded_pattern(string.find, "find")
function safe_string.find(subject, pattern, init, plain)
  if plain then return string.find(subject, pattern, init, true) end
  return find(subject, pattern, init)
end

function safe_string.rep(s, n, separator)
  local size = (#tostring(s) + #tostring(separator or "")) * (tonumber(n) or 0)
  if size > MAX_STRING then error(("string.rep would make %d bytes: at most %d"):format(size // 1 | 0, MAX_STRING), 2) end
  return string.rep(s, n, separator)
end

return safe_string
