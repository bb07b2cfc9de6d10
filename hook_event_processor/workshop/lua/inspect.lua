-- inspect(value) -> the value as an author would write it, on one line: strings
-- quoted, tables with sorted keys, of bounded length and depth. pretty(value)
-- -> the same on several lines where one would be too long.
local null = ...
local error, pcall, pairs, rawequal, tostring, type = error, pcall, pairs, rawequal, tostring, type
local concat, sort = table.concat, table.sort
local byte, find, format, gsub, sub = string.byte, string.find, string.format, string.gsub, string.sub
local math_type = math.type
local MAX_DEPTH <const>, MAX_LENGTH <const>, MAX_ITEMS <const> = 8, 4000, 200
local MAX_LINE <const> = 100

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  local cut = #text > MAX_LENGTH
  text = gsub(cut and sub(text, 1, MAX_LENGTH) or text, '[%c"\\\127]', function(c) return ESCAPES[c] or format("\\x%02x", byte(c)) end)
  return '"' .. text .. (cut and '"...' or '"')
end

local function is_list(t, count)
  for i = 1, count do
    if t[i] == nil then return false end
  end
  return true
end

local ORDER = { number = 1, string = 2, boolean = 3 }

local function before(a, b)
  local kind, other = type(a), type(b)
  if kind ~= other then return (ORDER[kind] or 4) < (ORDER[other] or 4) end
  if kind == "number" or kind == "string" then return a < b end
  return tostring(a) < tostring(b)
end

local inspect

local function key(name)
  if type(name) == "string" and find(name, "^[%a_][%w_]*$") then return name end
  return "[" .. inspect(name, 1) .. "]"
end

-- The keys of a table in order, how many, and whether they are 1 and on.
local function keys_of(t)
  local names, count = {}, 0
  for name in pairs(t) do
    count = count + 1
    names[count] = name
    if count > MAX_ITEMS then break end
  end
  local as_list = is_list(t, count)
  if not as_list then sort(names, before) end
  return names, count, as_list
end

local function fields(t, depth)
  local names, count, as_list = keys_of(t)
  local parts, size = {}, 0
  for i = 1, count do
    if i > MAX_ITEMS or size > MAX_LENGTH then
      parts[i] = "..."
      break
    end
    local name = as_list and i or names[i]
    local item = inspect(t[name], depth + 1)
    parts[i] = as_list and item or key(name) .. " = " .. item
    size = size + #parts[i]
  end
  return concat(parts, ", ")
end

function inspect(value, depth)
  depth = depth or 0
  if type(value) == "string" then return quoted(value) end
  if rawequal(value, null) then return "null" end
  if math_type(value) == "float" then return format("%.14g", value) end
  if type(value) ~= "table" then return (gsub(tostring(value), "^(%a+): .*", "<%1>")) end
  if depth >= MAX_DEPTH then return "{...}" end
  local ok, text = pcall(fields, value, depth)
  if not ok then error(text, 0) end
  return text == "" and "{}" or "{ " .. text .. " }"
end

local function pretty(value, indent)
  local line = inspect(value, #indent // 2)
  if type(value) ~= "table" or #line + #indent <= MAX_LINE or line == "{...}" then return line end
  local names, count, as_list = keys_of(value)
  local parts, inner = {}, indent .. "  "
  for i = 1, count do
    if i > MAX_ITEMS then
      parts[i] = inner .. "..."
      break
    end
    local name = as_list and i or names[i]
    parts[i] = inner .. (as_list and "" or key(name) .. " = ") .. pretty(value[name], inner) .. ","
  end
  return "{\n" .. concat(parts, "\n") .. "\n" .. indent .. "}"
end

return inspect, function(value) return pretty(value, "") end
