-- Raises an alert when an agent stays away, and says nothing of one that is
-- back within a minute or two.
local event_module = require("event")
local log = require("log")
local state = require("state")

local hook = {
  name = "agent_watch",
  description = "Raises an alert for agents that stay away",
  event_type = { "agent.disconnected", "agent.heartbeat_failed", "agent.connected", "custom.agent_check" },
  params = { grace = 120 }, -- seconds that an agent may be away
}

local function away(event, name)
  -- Only the first sign of several counts; and again when this very event is tried again.
  local is_first, reason = state.compare_and_swap("away:" .. name, nil, event.timestamp, 86400)
  if is_first == nil then return false, reason end -- no database, no answer
  if not is_first and state.get("away:" .. name) ~= event.timestamp then return true, name .. " is away already" end
  event_module.dispatch("custom.agent_check", { name = name, since = event.timestamp }, { delay = hook.params.grace })
  return true, name .. " is away"
end

local function back(name)
  local since = state.get("away:" .. name)
  local removed, reason = state.delete("away:" .. name)
  if removed == nil then return false, reason end
  return true, since and name .. " is back" or nil
end

local function check(name, since)
  -- Another time stands there when it was back, and is away again.
  local away_since, reason = state.get("away:" .. name)
  if reason then return false, reason end
  if away_since ~= since then return true, name .. " was back in time" end
  log.warn("agent is lost", { name = name, since = since })
  event_module.dispatch("alert.raised", { agent = name, since = since }, { priority = 1 })
  return true, name .. " is lost"
end

function hook.execute(event)
  local name = event.data.name or event.data.agent_name
  if not name then return false, "the event's data names no agent" end
  if event.type == "agent.connected" then return back(name) end
  if event.type == "custom.agent_check" then return check(name, event.data.since) end
  return away(event, name)
end

return hook
