-- env: the variables of the processor's environment that policy lets the hook read.
local parts = ...
local call, json = parts.call, parts.json
local error, find, gmatch, type = error, string.find, string.gmatch, type

local env = {}

-- env.get(name [, default]) -> the variable's value, or the default when it is not set.
function env.get(name, default)
  if type(name) ~= "string" then error("env.get takes a name, not a " .. type(name), 2) end
  if name == "" or #name > 255 or find(name, "[=\0]") then
    error("env.get takes a name of 1 to 255 bytes, without = and NUL", 2)
  end
  local value, reason = call("env.get", name)
  if value == nil then return default, reason end
  return value
end

-- env.list() -> the names of the variables that are set and may be read, sorted.
function env.list()
  local names, n = {}, 0
  for name in gmatch(call("env.list"), "[^\0]+") do
    n = n + 1
    names[n] = name
  end
  return n > 0 and names or json.array(names)
end

return env
