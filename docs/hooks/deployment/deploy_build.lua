-- First step: test and build what is to be deployed.
local steps = require("lib.steps")

local hook = {
  name = "deploy_build",
  description = "Tests and builds a version",
  event_type = "deploy.started",
  timeout = 1200,
  retry = { attempts = 1 }, -- what fails is reported, and not repeated
  params = { directory = "/srv/shop" },
}

function hook.execute(event)
  local ok, reason = pcall(function()
    steps.make("test", event.data, hook.params.directory)
    steps.make("build", event.data, hook.params.directory)
  end)
  if not ok then
    event.dispatch("deploy.failed", steps.carried(event.data, { error = reason, rollback_needed = false }))
    return false, reason
  end
  event.dispatch("deploy.built", steps.carried(event.data))
  return true, "built"
end

return hook
