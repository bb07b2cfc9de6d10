-- secret: secret.get(name) -> value | nil, reason. Wherever the value would be
-- recorded, it is masked: see lua/masking.py.
local parts = ...
local call = parts.call
local error, type = error, type

local secret = {}

function secret.get(name)
  if type(name) ~= "string" then error("secret.get takes a name, not a " .. type(name), 2) end
  local value = call("secret.kept", name)
  if value ~= nil then return value end
  return call("secret.get", name)
end

return secret
