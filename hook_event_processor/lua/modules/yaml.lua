-- yaml: decode(text) -> value | nil, reason; decode_all(text) -> list of the
-- documents' values; encode(value) -> text. Values are those of json: null is
-- json.null, and an empty list stays a list.
local parts = ...
local call, decode_json, json = parts.call, parts.current.decode, parts.json
local concat, sort = table.concat, table.sort
local error, math_type, pairs, rawlen, tostring, type = error, math.type, pairs, rawlen, tostring, type
local byte, find, format, gmatch = string.byte, string.find, string.format, string.gmatch
local gsub, lower, sub = string.gsub, string.lower, string.sub
local utf8_codepoint, utf8_len = utf8.codepoint, utf8.len
local null <const> = json.null
local MAX_DEPTH <const>, MAX_KEY <const> = 100, 1000 -- bytes of a key: YAML's parsers look no further for its colon

local yaml = {}

for _, name in pairs({ "decode", "decode_all" }) do
  yaml[name] = function(text)
    if type(text) ~= "string" then error("yaml." .. name .. " takes a string, not a " .. type(text), 2) end
    local written, reason = call("yaml." .. name, text)
    if not written then return nil, reason end
    return decode_json(written)
  end
end

-- What stands for something else in YAML 1.1 or 1.2.
local WORDS = {}
for word in gmatch("null true false yes no on off y n", "%a+") do
  WORDS[word] = true
end

local function escaped(character) return format("\\u%04x", utf8_codepoint(character)) end

-- Between quotes as in JSON, which YAML reads, too; it allows fewer characters
-- without an escape, and breaks lines at more.
local function quoted(text)
  if not utf8_len(text) then error("yaml.encode: a string is not UTF-8", 0) end
  text = json.encode(text)
  if not find(text, "[\x80-\xff]") then return text end
  text = gsub(text, "\xC2[\x80-\x9F]", escaped)
  text = gsub(text, "\xE2\x80[\xA8\xA9]", escaped)
  text = gsub(text, "\xEF\xBB\xBF", escaped)
  return (gsub(text, "\xEF\xBF[\xBE\xBF]", escaped))
end

-- On one line.
local function line(text)
  if find(text, "^[%a_/][%w_./@+ -]*$") and not WORDS[lower(text)] and byte(text, -1) ~= 32 then return text end
  return quoted(text)
end

-- Several lines of plain text as they are, each indented; or nil.
local function block(text, indent)
  if not find(text, "\n", 1, true) or find(text, "[^\n -~]") then return nil end
  if find(text, "^[ \n]") or find(text, " \n", 1, true) or sub(text, -1) == " " or sub(text, -2) == "\n\n" then return nil end
  local chomp = "-"
  if byte(text, -1) == 10 then
    text, chomp = sub(text, 1, -2), ""
  end
  return "|" .. chomp .. "\n" .. indent .. gsub(text, "\n([^\n])", "\n" .. indent .. "%1")
end

local function number(value)
  if value ~= value or value == math.huge or value == -math.huge then error("yaml.encode: " .. value .. " is not a number that JSON knows", 0) end
  -- YAML 1.1 reads a number without a dot, but with an exponent, as text.
  return (gsub(json.encode(value), "^(-?%d+)e", "%1.0e"))
end

local function scalar(value, indent)
  local kind = type(value)
  -- Not in the first column: there its lines would be markers, comments or nothing.
  if kind == "string" then return block(value, indent == "" and "  " or indent) or line(value) end
  if kind == "number" then return number(value) end
  if kind == "boolean" then return tostring(value) end
  if value == null then return "null" end
  error("yaml.encode: a " .. kind .. " has no form in YAML", 0)
end

-- "list" or "mapping"; for an empty one what stands for it.
local function kind_of(t)
  local n, count = rawlen(t), 0
  for key in pairs(t) do
    count = count + 1
    if n > 0 and math_type(key) ~= "integer" then error("yaml.encode: a table has both list items and named fields", 0) end
  end
  if count == 0 then return json.encode(t) end
  if n > 0 and count ~= n then error("yaml.encode: a list has holes; use json.null", 0) end
  return n > 0 and "list" or "mapping"
end

local function sorted_keys(t)
  local keys, values = {}, {}
  for key, value in pairs(t) do
    if type(key) ~= "string" and not math_type(key) then error("yaml.encode: a " .. type(key) .. " cannot be a key", 0) end
    local name = tostring(key)
    if #name > MAX_KEY then error("yaml.encode: a key of " .. #name .. " bytes: at most " .. MAX_KEY, 0) end
    if values[name] ~= nil then error("yaml.encode: two keys are written " .. name, 0) end
    keys[#keys + 1], values[name] = name, value
  end
  sort(keys, function(a, b) return a < b end)
  return keys, values
end

local put -- forward

local function put_list(t, out, indent, depth)
  for i = 1, rawlen(t) do
    if i > 1 then out[#out + 1] = indent end
    out[#out + 1] = "- "
    put(t[i], out, indent .. "  ", depth, true)
  end
end

local function put_mapping(t, out, indent, depth)
  local keys, values = sorted_keys(t)
  for i = 1, #keys do
    if i > 1 then out[#out + 1] = indent end
    out[#out + 1] = line(keys[i]) .. ":"
    put(values[keys[i]], out, indent .. "  ", depth, false)
  end
end

-- Writes a value behind "- " (`inside` a list's line) or a key's colon.
function put(value, out, indent, depth, inside)
  local kind = type(value) == "table" and value ~= null and kind_of(value)
  if kind == "list" or kind == "mapping" then
    if depth >= MAX_DEPTH then error("yaml.encode: nested deeper than " .. MAX_DEPTH .. ", or in itself", 0) end
    if not inside then out[#out + 1] = "\n" .. indent end
    return (kind == "list" and put_list or put_mapping)(value, out, indent, depth + 1)
  end
  out[#out + 1] = (inside and "" or " ") .. (kind or scalar(value, indent)) .. "\n"
end

-- yaml.encode(value) -> text, keys in alphabetical order.
function yaml.encode(value)
  local out = {}
  put(value, out, "", 0, true)
  return concat(out)
end

return yaml
