-- Makes security.login_failed of lines that sshd writes, which a watcher tells line by line.
local event_module = require("event")
local regex = require("regex")

local hook = {
  name = "failed_logins",
  description = "Reads failed logins out of sshd's log",
  event_type = "log.pattern_matched",
}

local FAILED <const> = [[Failed \w+ for (invalid user )?(\S*) from ([0-9a-fA-F.:]+) port]]

function hook.filter(event) return event.data.line:find("sshd", 1, true) ~= nil end

function hook.execute(event)
  local found = regex.match(event.data.line, FAILED)
  if not found then return true, "no failed login" end
  event_module.dispatch("security.login_failed", { user = found[2], ip_address = found[3], reason = "sshd" })
  return true, found[3]
end

return hook
