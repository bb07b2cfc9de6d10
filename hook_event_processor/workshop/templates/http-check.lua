-- Checks a URL on a schedule, and dispatches health events when it changes.
-- The address must be permitted: HOOK_HTTP_ALLOW (public hosts are by default).
local event_module = require("event")
local http = require("http")
local state = require("state")

local hook = {
  name = "__NAME__",
  description = "Checks that a URL answers",
  event_type = "schedule.triggered",
  params = {
    schedule = "health_check", -- the schedule that asks for it
    url = "https://example.com/health",
    timeout = 5, -- seconds
    failures = 3, -- in a row, before it counts as down
  },
}

-- Runs before execute: false leaves the event alone.
function hook.filter(event) return event.data.schedule_name == hook.params.schedule end

local function check(params)
  local response, reason = http.get(params.url, { timeout = params.timeout })
  if not response then return false, reason end
  return response.status_code == 200, "the status is " .. response.status_code
end

function hook.execute()
  local params = hook.params
  local healthy, reason = check(params)
  if healthy then
    if (state.get("failures", 0)) >= params.failures then
      event_module.dispatch("health.recovered", { service = params.url })
    end
    state.set("failures", 0)
    return true, params.url .. " is well"
  end

  local failures = state.incr("failures")
  -- Once, not at every check while it is down.
  if failures == params.failures then
    event_module.dispatch("health.check_failed", {
      service = params.url,
      check_name = hook.name,
      error = reason,
      consecutive_failures = failures,
    })
  end
  return true, params.url .. " failed " .. failures .. " times: " .. reason
end

return hook
