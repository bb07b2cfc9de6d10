-- Passes on at most so many alerts in a while, and counts the rest.
-- The count is kept in the database: it holds for all processors together.
local event_module = require("event")
local state = require("state")

local hook = {
  name = "__NAME__",
  description = "Limits how often something is alerted",
  event_type = { "security.login_failed", "network.latency_high" },
  params = {
    limit = 3, -- alerts
    window = 600, -- in so many seconds
  },
}

function hook.execute(event)
  local params = hook.params
  -- One counter for each type and each thing it is about; it ends by itself.
  local key = "count:" .. event.type .. ":" .. (event.data.user or event.data.remote_host or event.resource_id or "")
  local count, reason = state.incr(key, 1, params.window)
  if not count then return false, reason end
  if count > params.limit then return true, "held back: number " .. count end

  event_module.dispatch("custom.alert", {
    type = event.type,
    data = event.data,
    is_last = count == params.limit,
  })
  return true, "alerted: number " .. count
end

return hook
