-- The string library, bounded where a C function could not be interrupted.
local deadline, limits_of = ...
local error, getmetatable, ipairs, select, tonumber, tostring, type = error, getmetatable, ipairs, select, tonumber, tostring, type
local string_find, string_format, string_match, sub = string.find, string.format, string.match, string.sub
local gmatch, gsub, pack, rep = string.gmatch, string.gsub, string.pack, string.rep
local look, made, by_size = deadline.look, deadline.made, deadline.by_size
local MAX_STRING <const> = 16 * 1024 * 1024
local MAX_COMPARED <const> = 2e10 -- bytes that a plain search may compare: about a second
local MAX_REPLACED <const> = 1e9 -- bytes of a replacement that may be read, in all matches: some seconds
local FEW_REPLACED <const> = 3e5
local MAX_FORMATTED <const> = 64 * 1024 * 1024 -- bytes of arguments
local FEW_ARGUMENTS <const> = 20
local LONG <const> = 16 * 1024
local SPECIALS <const> = "[%^%$%*%+%?%.%(%[%%%-]"

local function refuse(name, size, level)
  error(("string.%s: the pattern could take long on %d bytes: make it simpler, or the text shorter"):format(name, size), level)
end

-- Whether matching can take long enough to be worth a look at the clock, which it was given then; and the subject's size.
local function bound(name, subject, pattern)
  if type(subject) == "number" then subject = tostring(subject) end
  if type(subject) ~= "string" or type(pattern) ~= "string" then return false end
  -- In gmatch a leading ^ is a character like any other.
  local limits = limits_of(name == "gmatch" and sub(pattern, 1, 1) == "^" and "%" .. pattern or pattern)
  if #subject > limits.longest then refuse(name, #subject, 4) end
  local slow = #subject > limits.slow or #subject > LONG
  if slow then look() end
  return slow, #subject
end

local safe_string = {}
for _, name in ipairs({ "byte", "char", "len", "sub" }) do
  safe_string[name] = string[name]
end
for _, name in ipairs({ "lower", "packsize", "reverse", "unpack", "upper" }) do
  safe_string[name] = by_size(string[name])
end

function safe_string.match(subject, pattern, ...)
  bound("match", subject, pattern)
  return string_match(subject, pattern, ...)
end

function safe_string.gmatch(subject, pattern, ...)
  local slow = bound("gmatch", subject, pattern)
  local following = gmatch(subject, pattern, ...)
  if not slow then return following end
  return function()
    look()
    return following()
  end
end

-- For each match C reads the whole replacement, which adds nothing to the result where its escapes stand for nothing.
local function bound_replacement(size, pattern, by, most)
  local matches = (sub(pattern, 1, 1) == "^" and 0 or size) + 1
  most = tonumber(most)
  if most and most < matches then matches = most end
  if #by * matches > MAX_REPLACED and string_find(by, "%", 1, true) then
    local long = "string.gsub: a replacement of %d bytes with %% could take long on %d bytes: make it shorter, or the text"
    error(long:format(#by, size), 3)
  end
  look()
end

function safe_string.gsub(subject, pattern, by, ...)
  local _, size = bound("gsub", subject, pattern)
  local kind = type(by)
  if kind == "string" then
    if size and #by * (size + 1) > FEW_REPLACED then bound_replacement(size, pattern, by, ...) end
  elseif kind == "table" and getmetatable(by) ~= nil then
    -- What a metatable leads through is followed where the check is.
    local items = by
    by = function(key) return items[key] end
  end
  return gsub(subject, pattern, by, ...)
end

function safe_string.find(subject, pattern, init, plain)
  if type(subject) == "string" and type(pattern) == "string" and (plain or not string_find(pattern, SPECIALS)) then
    if #subject * #pattern > MAX_COMPARED then refuse("find", #subject, 3) end
    if #subject > LONG then look() end
    return string_find(subject, pattern, init, true)
  end
  bound("find", subject, pattern)
  return string_find(subject, pattern, init, plain)
end

-- Each argument is read to its end, however little of it is written.
local function check_arguments(...)
  local arguments, size = { ... }, 0
  for i = 1, select("#", ...) do
    size = size + (type(arguments[i]) == "string" and #arguments[i] or 0)
  end
  if size > MAX_FORMATTED then error("string.format: more than " .. MAX_FORMATTED .. " bytes of arguments", 3) end
end

function safe_string.format(form, ...)
  local count = select("#", ...)
  if count > FEW_ARGUMENTS then check_arguments(...) end
  if count > FEW_ARGUMENTS or type(form) == "string" and #form > LONG then look() end
  return made(string_format(form, ...))
end

function safe_string.pack(form, ...)
  if type(form) == "string" and #form > LONG then look() end
  return made(pack(form, ...))
end

function safe_string.rep(s, n, separator)
  local one = #tostring(s) + #tostring(separator or "")
  local size = one * (tonumber(n) or 0)
  if size > MAX_STRING then error(("string.rep would make %d bytes: at most %d"):format(size // 1 | 0, MAX_STRING), 2) end
  -- Nothing, any number of times: C would count them all.
  if one == 0 and tonumber(n) and tonumber(n) > 1 then n = 1 end
  return made(rep(s, n, separator))
end

return safe_string
