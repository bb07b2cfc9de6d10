-- Blocks an address after too many failed logins, and reports the incident.
-- The program must be permitted on the host: HOOK_EXEC=nft
local event_module = require("event")
local exec = require("exec")
local log = require("log")
local regex = require("regex")
local state = require("state")

local hook = {
  name = "lockout",
  description = "Blocks addresses that fail to log in too often",
  event_type = "security.login_failed",
  priority = -10, -- before hooks that only tell of it
  params = {
    attempts = 5,
    within = 600, -- seconds
    block = "1h",
    set = "inet filter blocked",
  },
}

-- What becomes an argument of a program is checked, though no shell reads it.
local ADDRESS <const> = [[^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]{2,39})$]]

local function block(address)
  local arguments = { "nft", "add", "element" }
  for _, word in ipairs(regex.split(hook.params.set, " +")) do
    arguments[#arguments + 1] = word
  end
  arguments[#arguments + 1] = "{ " .. address .. " timeout " .. hook.params.block .. " }"
  local result, reason = exec.run(arguments, { timeout = 10 })
  return result and result.success, reason or result.stderr
end

function hook.execute(event)
  local address = event.data.ip_address
  if type(address) ~= "string" or not regex.test(address, ADDRESS) then return false, "the event's data has no address" end
  local failures = state.incr("failed:" .. address, 1, hook.params.within)
  if failures ~= hook.params.attempts then return true, address .. " failed " .. failures .. " times" end

  local ok, reason = block(address)
  if not ok then
    -- The next attempt at this event counts anew from here.
    state.incr("failed:" .. address, -1, hook.params.within)
    return false, address .. " was not blocked: " .. reason
  end
  log.warn("blocked", { address = address, user = event.data.user })
  event_module.dispatch("security.breach", {
    user = event.data.user,
    action = "login",
    resource = event.data.resource,
    ip_address = address,
    severity = "high",
  }, { priority = 1 })
  return true, address .. " is blocked for " .. hook.params.block
end

return hook
