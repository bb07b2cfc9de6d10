-- Restarts a service that has failed, and gives up when that does not help.
-- The program must be permitted on the host: HOOK_EXEC=systemctl
local event_module = require("event")
local exec = require("exec")
local state = require("state")

local hook = {
  name = "__NAME__",
  description = "Restarts failed services",
  event_type = "service.failed",
  params = {
    services = { "nginx" }, -- only these
    attempts = 3,
    window = 600, -- seconds
  },
}

local function is_ours(service)
  for _, name in ipairs(hook.params.services) do
    if service == name or service == name .. ".service" then return true end
  end
  return false
end

function hook.filter(event) return is_ours(event.data.service) end

function hook.execute(event)
  local service, params = event.data.service, hook.params
  local attempts = state.incr("restarts:" .. service, 1, params.window)
  if attempts > params.attempts then
    event_module.dispatch("health.degraded", { service = service, reason = "restarting does not help" })
    return true, "given up on " .. service
  end

  local result, reason = exec.run({ "systemctl", "restart", "--", service })
  if not result or not result.success then
    return false, service .. " was not restarted: " .. (reason or result.stderr)
  end
  return true, "restarted " .. service
end

return hook
