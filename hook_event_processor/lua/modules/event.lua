-- event: event.dispatch(type, data [, {stack, priority, delay, id}]) -> true.
-- The event is inserted in the transaction that records this run.
local json, current, limits = ...
local error, pairs, rawget, tostring, type = error, pairs, rawget, tostring, type
local find, match, math_type = string.find, string.match, math.type
local gsub, utf8_len = string.gsub, utf8.len
local HEX = "%x%x%x%x"
local UUID <const> = "^" .. HEX .. HEX .. "%-" .. HEX .. "%-" .. HEX .. "%-" .. HEX .. "%-" .. HEX .. HEX .. HEX .. "$"
local MAX_STACK <const> = 1000
local OPTIONS = { stack = true, priority = true, delay = true, id = true }

local dispatched, count, size = {}, 0, 0

local function check_type(event_type)
  if type(event_type) ~= "string" then error("event.dispatch takes an event type, not a " .. type(event_type), 3) end
  if not find(event_type, "^[^./]") or #event_type > 255 or not utf8_len(event_type) or find(event_type, "\0", 1, true) then
    error("event.dispatch: the event type is written source.action, in at most 255 bytes of UTF-8", 3)
  end
end

local function encoded(data)
  if data == nil then return "{}" end
  if type(data) ~= "table" then error("event.dispatch takes a table as data, not a " .. type(data), 3) end
  local text = json.encode(data)
  if #text > limits.payload then
    error("event.dispatch: the data is " .. #text .. " bytes of JSON: at most " .. limits.payload, 3)
  end
  if not utf8_len(text) then error("event.dispatch: the data is not UTF-8", 3) end
  -- An escaped backslash before u0000 is only that.
  if find(text, "\\u0000", 1, true) and find(gsub(text, "\\\\", ""), "\\u0000", 1, true) then
    error("event.dispatch: the data holds a NUL character (\\u0000), which PostgreSQL cannot store", 3)
  end
  return text
end

-- Each is read once: an __index may give another answer the next time.
local function checked(options)
  if type(options) ~= "table" then error("event.dispatch takes a table of options, not a " .. type(options), 3) end
  for key in pairs(options) do
    if not OPTIONS[key] then error("event.dispatch: unknown option " .. tostring(key) .. "; it takes stack, priority, delay, id", 3) end
  end
  local priority, delay, stack, id = options.priority, options.delay, options.stack, options.id
  if priority ~= nil and (math_type(priority) ~= "integer" or priority < 1 or priority > 10) then
    error("event.dispatch: priority takes 1 (first) to 10 (last)", 3)
  end
  if delay ~= nil and not (math_type(delay) and delay >= 0 and delay <= 3.2e9) then
    error("event.dispatch: delay takes a number of seconds", 3)
  end
  if stack ~= nil and (type(stack) ~= "string" or not utf8_len(stack) or find(stack, "\0", 1, true)) then
    error("event.dispatch: stack takes a name", 3)
  end
  if id ~= nil and (type(id) ~= "string" or not match(id, UUID)) then error("event.dispatch: id takes a UUID", 3) end
  return stack, priority, delay, id
end

local function dispatch(event_type, data, options)
  check_type(event_type)
  if current.depth() >= limits.depth then
    error("event.dispatch: this event is already " .. limits.depth .. " dispatches deep; hooks that trigger each other end here", 2)
  end
  if count >= limits.dispatched then error("event.dispatch: more than " .. limits.dispatched .. " events in one run", 2) end
  local stack, priority, delay, id
  if options ~= nil then
    stack, priority, delay, id = checked(options)
  end
  local text = encoded(data)
  -- The event's own stack, wherever it is said, comes before the one that it would inherit.
  if stack == nil and data ~= nil and type(rawget(data, "stack")) == "string" then stack = rawget(data, "stack") end
  if stack ~= nil and #stack > MAX_STACK then error("event.dispatch: stack takes a name of at most " .. MAX_STACK .. " bytes", 2) end
  local bytes = size + #text + #event_type + #(stack or "")
  if bytes > limits.results then error("event.dispatch: more than " .. limits.results .. " bytes of data in one run", 2) end
  count, size = count + 1, bytes
  dispatched[count] = { event_type, text, stack, priority, delay, id }
  return true
end

-- Hands over what was dispatched since the last call and its bytes, or nil and 0.
local function take()
  if count == 0 then return nil, 0 end
  local all, bytes = dispatched, size
  dispatched, count, size = {}, 0, 0
  return all, bytes
end

return { dispatch = dispatch }, take
