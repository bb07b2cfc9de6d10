-- The event of this run, as the hook sees it: fields are worked out when they
-- are first read, the payload above all.
local json, lazy, decode_jsonb = ...
local error, next, rawget, rawset, setmetatable, type = error, next, rawget, rawset, setmetatable, type
local byte, date, format, rep, unpack = string.byte, os.date, string.format, string.rep, string.unpack
local math_type, null = math.type, json.null
local PG_EPOCH <const> = 946684800 -- 2000-01-01 in Unix seconds; timestamptz counts from there
local FIELDS <const> = 10
local MAX_SHAPES <const> = 200

local current = { FIELDS = FIELDS }
local fields, at = {}, 0 -- the chunk's arguments, and where this event's begin
-- Whether this chunk's hook has read a payload: then the next ones are decoded
-- before it asks. Within the run every instruction is counted, which takes time.
local reads_data = false
local SOON <const> = 64 * 1024 -- bytes that are worth it: nothing interrupts that decoding

local function decoded(text, what)
  local value, reason = decode_jsonb(text)
  if reason then error("the event's " .. what .. " cannot be read: " .. reason, 0) end
  return value
end

local HEX_FORMAT <const> = rep("%02x", 4) .. "-" .. rep("%02x", 2) .. "-" .. rep("%02x", 2) .. "-" .. rep("%02x", 2) .. "-" .. rep("%02x", 6)

local function timestamp(raw)
  local micros = unpack(">i8", raw)
  -- So PostgreSQL writes its two infinities.
  if micros == math.maxinteger then return "infinity" end
  if micros == math.mininteger then return "-infinity" end
  local seconds = micros // 1000000
  return format("%s.%06dZ", date("!%Y-%m-%dT%H:%M:%S", seconds + PG_EPOCH), micros - seconds * 1000000)
end

-- One document writes event.data.task_name, another event.data.task.task_name:
-- a payload of either shape answers both. The nested object is called like
-- the event's source; system events call it resource.
local shapes, shape_count = {}, 0

local function shape(name)
  return {
    __metatable = false,
    __index = function(data, key)
      local nested = rawget(data, name)
      if nested == nil then
        if key == name and next(data) ~= nil then return data end
      elseif type(nested) == "table" and key ~= name then
        return nested[key]
      end
      return nil
    end,
  }
end

local function either_shape(data, name)
  local known = shapes[name]
  if not known then
    if shape_count >= MAX_SHAPES then
      shapes, shape_count = {}, 0
    end
    known = shape(name)
    shapes[name], shape_count = known, shape_count + 1
  end
  return setmetatable(data, known)
end

local function shaped(payload)
  if type(payload) ~= "table" or payload == null then return payload end
  local source = fields[at + 2]
  return either_shape(payload, source == "system" and "resource" or source)
end

local function data()
  reads_data = true
  return shaped(decoded(fields[at + 7], "payload"))
end

local function text_or_nil(value)
  if value == null then return nil end
  return value
end

-- metadata first, then the payload.
local function from_either(event, name)
  local value = text_or_nil(event.metadata[name])
  if value ~= nil then return value end
  local payload = event.data
  return type(payload) == "table" and text_or_nil(rawget(payload, name)) or nil
end

local readers = {
  id = function() return format(HEX_FORMAT, byte(fields[at + 1], 1, 16)) end,
  source = function() return fields[at + 2] end,
  action = function() return fields[at + 3] end,
  type = function()
    local action = fields[at + 3]
    return action == "" and fields[at + 2] or fields[at + 2] .. "." .. action
  end,
  resource = function() return fields[at + 4] end,
  resource_id = function() return fields[at + 5] end,
  timestamp = function() return timestamp(fields[at + 6]) end,
  data = data,
  metadata = function()
    local metadata = decoded(fields[at + 8], "metadata")
    return type(metadata) == "table" and metadata or {}
  end,
  attempt = function() return fields[at + 9] end,
  priority = function() return fields[at + 10] end,
  stack = function(event) return from_either(event, "stack") end,
  agent_id = function(event) return from_either(event, "agent_id") end,
  session_id = function(event) return from_either(event, "session_id") end,
  correlation_id = function(event) return text_or_nil(event.metadata.correlation_id) or event.id end,
}

local view = { __metatable = false }

local dispatch

function view.__index(event, name)
  if name == "dispatch" then return dispatch end
  local read = readers[name]
  if not read then return nil end
  local value = read(event)
  rawset(event, name, value)
  return value
end

local function read_all(event)
  for name in next, readers do
    local _ = event[name]
  end
end

lazy.read = read_all

function view.__pairs(event)
  read_all(event)
  return next, event, nil
end

local depth -- of this run's event, once it was asked for

function current.provide_dispatch(f) dispatch = f end

-- JSON text of the processor's own.
current.decode = decode_jsonb

-- `arguments` of a chunk: FIELDS for each of its events.
function current.begin(arguments)
  fields, reads_data = arguments, false
end

-- The event whose fields begin at `first`.
function current.set(first)
  at, lazy.table, depth = first - 1, nil, nil
  local event = {}
  if reads_data and #fields[at + 7] <= SOON then
    -- What cannot be read is left for the hook to ask for, and to fail.
    event.data = shaped(decode_jsonb(fields[at + 7]))
  end
  lazy.table = event
  return setmetatable(event, view)
end

-- The chunk is over: what it left in its events is nobody's.
function current.clear()
  lazy.table, fields = nil, {}
end

-- The event's id, read past the event's table, which the hook may have changed.
function current.id() return readers.id() end

-- How many dispatches lie between this event and one that no hook dispatched:
-- read past the event's table, which the hook may have changed.
function current.depth()
  if not depth then
    local metadata = decoded(fields[at + 8], "metadata")
    local found = type(metadata) == "table" and metadata.depth
    depth = math_type(found) and found or 0
  end
  return depth
end

return current
