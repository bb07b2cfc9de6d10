-- Blocks an address after too many failed logins, and reports the incident.
-- systemctl must be permitted on the host (HOOK_EXEC=systemctl), and the two units to the account.
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
    unit = "block-ipv", -- block-ipv4@ADDRESS.service blocks an address, block-ipv6@ one of that kind
  },
}

-- What becomes a unit's name is checked, though no shell reads it.
local IPV4 <const>, IPV6 <const> = [[^\d{1,3}(\.\d{1,3}){3}$]], [[^[0-9a-fA-F:]{2,39}$]]

local function kind_of(address)
  if type(address) ~= "string" then return nil end
  return regex.test(address, IPV4) and "4" or regex.test(address, IPV6) and "6" or nil
end

local function block(address, kind)
  local unit = hook.params.unit .. kind .. "@" .. address .. ".service"
  local result, reason = exec.run({ "systemctl", "start", unit }, { timeout = 10 })
  return result and result.success, reason or result.stderr
end

function hook.execute(event)
  local address = event.data.ip_address
  local kind = kind_of(address)
  if not kind then return false, "the event's data has no address" end
  local failures = state.incr("failed:" .. address, 1, hook.params.within)
  if failures ~= hook.params.attempts then return true, address .. " failed " .. failures .. " times" end

  local ok, reason = block(address, kind)
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
  return true, address .. " is blocked"
end

return hook
