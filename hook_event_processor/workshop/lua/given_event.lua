-- fields(type, data, options) -> the ten values of an event, as current.lua
-- names them, from what a spec says of it.
local complain, inspect, json, call, now = ...
local find, gsub, match, pack = string.find, string.gsub, string.match, string.pack
local char, math_type, tointeger = string.char, math.type, math.tointeger
local ipairs, next, pairs, tonumber, tostring, type = ipairs, next, pairs, tonumber, tostring, type
local PG_EPOCH <const> = 946684800
local OPTIONS = { metadata = "table", stack = "string", resource = "string", resource_id = "string", id = "string", params = "table" }
OPTIONS.agent_id, OPTIONS.session_id, OPTIONS.correlation_id = "string", "string", "string"
OPTIONS.priority, OPTIONS.attempt, OPTIONS.timestamp = "whole number", "whole number", "number"
local IN_METADATA = { "stack", "agent_id", "session_id", "correlation_id" }

local function event_type(text)
  if type(text) ~= "string" or not find(text, "^[^./]") then complain("spec.run takes an event type first, such as task.failed, not " .. inspect(text)) end
  local source, action = match(text, "^([^/]*)/(.*)$")
  if not source then source, action = match(text, "^([^.]*)%.?(.*)$") end
  return source, action
end

local function is_a(item, kind)
  if kind == "whole number" then return math_type(item) and tointeger(item) end
  return type(item) == kind
end

local function checked(options)
  if options == nil then return {} end
  if type(options) ~= "table" then complain("spec.run takes a table of the event's other fields last, not a " .. type(options)) end
  for name, item in pairs(options) do
    local kind = OPTIONS[name]
    if not kind then complain("spec.run: unknown field " .. tostring(name) .. " of the event") end
    if not is_a(item, kind) then complain("spec.run: " .. name .. " takes a " .. kind .. ", not " .. inspect(item)) end
  end
  return options
end

local function metadata_of(options)
  local metadata = {}
  for name, item in pairs(options.metadata or {}) do
    metadata[name] = item
  end
  for _, name in ipairs(IN_METADATA) do
    if options[name] then metadata[name] = options[name] end
  end
  return json.encode(metadata)
end

local function id_bytes(id)
  local hex = gsub(id or "0198c0de-0000-7000-8000-000000000001", "-", "")
  if not find(hex, "^%x+$") or #hex ~= 32 then complain("spec.run: id takes a UUID, not " .. inspect(id)) end
  return (gsub(hex, "%x%x", function(pair) return char(tonumber(pair, 16)) end))
end

-- Microseconds since 2000, as PostgreSQL counts.
local function micros(timestamp)
  local since = tointeger((timestamp - PG_EPOCH) * 1000000 // 1)
  if not since then complain("spec.run: timestamp takes seconds since 1970, not " .. inspect(timestamp)) end
  return since
end

local function object(value)
  if value == nil then return "{}" end
  if type(value) ~= "table" then complain("spec.run takes a table as the event's data, not a " .. type(value)) end
  return next(value) == nil and "{}" or json.encode(value)
end

-- A test that passes for events that the hook never gets would say nothing.
local function check_type(text, source, action)
  local patterns = call("spec.runs_for", source, action)
  if patterns then complain("the hook does not run for " .. text .. ": its event_type is " .. patterns) end
end

local function fields(text, data, options)
  local source, action = event_type(text)
  check_type(text, source, action)
  return {
    id_bytes(options.id),
    source,
    action,
    options.resource or "",
    options.resource_id or "",
    pack(">i8", micros(options.timestamp or now())),
    object(data),
    metadata_of(options),
    tointeger(options.attempt or 1),
    tointeger(options.priority or 5),
  }
end

return fields, checked, object
