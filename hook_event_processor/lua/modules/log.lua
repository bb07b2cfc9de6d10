-- log (also slog): log.info(message [, fields]) and debug, warn, error; the
-- lines become the execution's output.
local output = ...
local concat, sort, tostring, type, pairs = table.concat, table.sort, tostring, type, pairs

-- What C compares by itself, no check interrupts.
local function before(a, b) return a < b end

local function with_fields(message, fields)
  if type(fields) ~= "table" then return message .. " " .. tostring(fields) end
  local parts = {}
  for key, item in pairs(fields) do
    parts[#parts + 1] = tostring(key) .. "=" .. tostring(item)
  end
  sort(parts, before)
  return message .. " " .. concat(parts, " ")
end

local log = {}
for name, label in pairs({ debug = "DEBUG ", info = "INFO ", warn = "WARN ", error = "ERROR " }) do
  log[name] = function(message, fields)
    message = label .. tostring(message)
    output.add(fields == nil and message or with_fields(message, fields))
  end
end

return log
