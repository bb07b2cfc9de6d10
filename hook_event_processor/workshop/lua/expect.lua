-- expect(value).to_equal(other) and its like: an error at the spec's line where it does not hold.
local inspect, null, complain = ...
local error, next, pairs, pcall, rawequal, setmetatable, tostring, type = error, next, pairs, pcall, rawequal, setmetatable, tostring, type
local find, pack, math_type = string.find, table.pack, math.type
local MAX_DEPTH <const> = 100

local function equal(a, b, depth)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" or rawequal(a, null) or rawequal(b, null) then return false end
  if depth > MAX_DEPTH then error("these tables are nested too deeply to be compared", 0) end
  for key, item in pairs(a) do
    if not equal(item, b[key], depth + 1) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- Whether all that `part` holds is in `whole`, too.
local function includes(whole, part)
  if type(whole) ~= "table" or type(part) ~= "table" or rawequal(part, null) then return equal(whole, part, 0) end
  for key, item in pairs(part) do
    if not includes(whole[key], item) then return false end
  end
  return true
end

local function holds(container, item)
  if type(container) == "string" then return find(container, tostring(item), 1, true) ~= nil end
  if type(container) ~= "table" then return false end
  for _, member in pairs(container) do
    if includes(member, item) then return true end
  end
  return false
end

-- Whether a function, or a run of the hook, failed, and with which words.
local function failure(value)
  if type(value) == "table" and value.calls then return not value.ok, value.error end
  if type(value) ~= "function" then error("to_fail takes a function, or what spec.run returned", 0) end
  local returned = pack(pcall(value))
  if not returned[1] then return true, returned[2] end
  if returned.n > 2 and (returned[2] == nil or returned[2] == false) then return true, returned[3] end
  return false
end

local function dispatched(result, event_type, data)
  for _, event in next, result.dispatched do
    if event.type == event_type and (data == nil or includes(event.data, data)) then return true end
  end
  return false
end

local function outcome_of(result) return result.ok and "it succeeded" or "it failed: " .. tostring(result.error) end

local function counted(times) return times .. (times == 1 and " time" or " times") end

local function quote(part) return part ~= nil and " " .. inspect(part) or "" end

-- Each returns whether it holds, what was expected, and what was found instead
-- (where that is not the value itself).
local MATCHERS = {
  to_be = function(value, other) return rawequal(value, other) or math_type(value) and value == other, "to be " .. inspect(other) end,
  to_equal = function(value, other) return equal(value, other, 0), "to equal " .. inspect(other) end,
  to_include = function(value, part) return includes(value, part), "to include " .. inspect(part) end,
  to_contain = function(value, item) return holds(value, item), "to contain " .. inspect(item) end,
  to_match = function(value, pattern)
    return type(value) == "string" and find(value, pattern) ~= nil, "to match the pattern " .. inspect(pattern)
  end,
  to_be_nil = function(value) return value == nil, "to be nil" end,
  to_exist = function(value) return value ~= nil, "to be something" end,
  to_be_true = function(value) return value == true, "to be true" end,
  to_be_false = function(value) return value == false, "to be false" end,
  to_be_a = function(value, kind) return type(value) == kind or math_type(value) == kind, "to be a " .. tostring(kind) end,
  to_be_greater_than = function(value, other)
    return math_type(value) and math_type(other) and value > other, "to be greater than " .. inspect(other)
  end,
  to_be_less_than = function(value, other)
    return math_type(value) and math_type(other) and value < other, "to be less than " .. inspect(other)
  end,
  to_have_length = function(value, length)
    local has = (type(value) == "table" or type(value) == "string") and #value
    return has == length, "to have the length " .. inspect(length), has and inspect(value) .. " of the length " .. has
  end,
  to_fail = function(value, part)
    local failed, reason = failure(value)
    local found = failed and "it failed: " .. tostring(reason) or "it did not"
    return failed and (part == nil or find(tostring(reason), part, 1, true) ~= nil), "to fail" .. (part and " with" .. quote(part) or ""), found
  end,
  to_succeed = function(result, part)
    local with = part ~= nil and " with" .. quote(part) or ""
    local message = result.message or ""
    local found = outcome_of(result) .. (result.ok and result.message and " with " .. inspect(message) or "")
    return result.ok and (part == nil or find(message, part, 1, true) ~= nil), "to succeed" .. with, found
  end,
  to_have_called = function(result, name, times)
    local count = #result.calls[name]
    local holds_now = count > 0
    if times ~= nil then holds_now = count == times end
    return holds_now, "to call " .. tostring(name) .. (times and " " .. counted(times) or ""), "it did so " .. counted(count)
  end,
  to_have_dispatched = function(result, event_type, data)
    local found = #result.dispatched == 0 and "it dispatched nothing" or "it dispatched " .. inspect(result.dispatched)
    return dispatched(result, event_type, data), "to dispatch " .. tostring(event_type) .. quote(data), found
  end,
}

local function subject(value) return type(value) == "table" and value.calls and value.dispatched and "the hook" or inspect(value) end

local function judge(name, value, is_negated, ...)
  local ok, holds_now, expected, found = pcall(MATCHERS[name], value, ...)
  if not ok then complain(holds_now) end
  if (holds_now and true or false) == is_negated then
    complain("expected " .. subject(value) .. (is_negated and " never " or " ") .. expected .. (found and "; " .. found or ""))
  end
end

local function expectation(value, is_negated)
  local checks = {}
  return setmetatable(checks, {
    __index = function(_, name)
      if not MATCHERS[name] then complain("expect(...) has no check " .. tostring(name)) end
      return function(first, ...)
        -- expect(x):to_be(y) is as good as expect(x).to_be(y).
        if rawequal(first, checks) then return judge(name, value, is_negated, ...) end
        return judge(name, value, is_negated, first, ...)
      end
    end,
  })
end

return function(value)
  local expected = expectation(value, false)
  expected.never = expectation(value, true)
  return expected
end
