-- What follows a failure: back to the version before.
local steps = require("lib.steps")

local hook = {
  name = "deploy_rollback",
  description = "Sets a failed deployment back",
  event_type = "deploy.failed",
  timeout = 1200,
  params = { directory = "/srv/shop" },
}

function hook.filter(event) return event.data.rollback_needed == true end

function hook.execute(event)
  steps.make("rollback", event.data, hook.params.directory)
  event.dispatch("deploy.rollback", steps.carried(event.data, { reason = event.data.error }))
  return true, "set back"
end

return hook
