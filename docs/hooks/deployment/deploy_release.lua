-- Second step: deploy what was built, one release at a time, and look at its health.
local http = require("http")
local state = require("state")
local steps = require("lib.steps")

local hook = {
  name = "deploy_release",
  description = "Deploys a version and checks its health",
  event_type = "deploy.built",
  timeout = 1200,
  retry = { attempts = 1 },
  params = { directory = "/srv/shop", health = "https://shop.example.com/health" },
}

local function release(deploy)
  steps.make("deploy", deploy, hook.params.directory)
  local response, reason = http.get(hook.params.health, { retries = 3, timeout = 10 })
  if not response then error("health: " .. reason, 0) end
  if response.status_code ~= 200 then error("health: the status is " .. response.status_code, 0) end
end

function hook.execute(event)
  local deploy = event.data
  if not deploy.service then return false, "the event's data names no service" end
  local ok, fault
  local had, reason = state.with_lock("release:" .. deploy.service, 1200, function()
    ok, fault = pcall(release, deploy)
    return true
  end, { wait = 600 })
  -- Without the lock nothing was released: there is nothing to set back.
  if not had then return false, reason end
  if not ok then
    event.dispatch("deploy.failed", steps.carried(deploy, { error = fault, rollback_needed = true }))
    return false, fault
  end
  event.dispatch("deploy.completed", steps.carried(deploy, { status = "live" }))
  return true, deploy.service .. " " .. tostring(deploy.version) .. " is live"
end

return hook
