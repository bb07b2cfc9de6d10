-- Passes on at most so many alerts in a while, and counts the rest.
-- The count is kept in the database: it holds for all processors together.
local crypto = require("crypto")
local event_module = require("event")
local json = require("json")
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

-- null stands in an event's data as a value of its own.
local function given(value)
  if value ~= json.null then return value end
end

function hook.execute(event)
  local params = hook.params
  -- One counter for each type and each thing it is about; it ends by itself.
  -- By its digest: a key takes 255 bytes, and who tries to log in writes what they like.
  local about = given(event.data.user) or given(event.data.remote_host) or event.resource_id
  local key = "count:" .. event.type .. ":" .. crypto.sha256(tostring(about or ""))
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
