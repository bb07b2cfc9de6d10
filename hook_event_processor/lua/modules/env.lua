-- env: env.get(name [, default]) -> a variable of the processor's environment, if policy lets the hook read it.
local parts = ...
local call = parts.call
local error, type = error, type

local env = {}

function env.get(name, default)
  if type(name) ~= "string" then error("env.get takes a name, not a " .. type(name), 2) end
  local value, reason = call("env.get", name)
  if value == nil then return default, reason end
  return value
end

return env
