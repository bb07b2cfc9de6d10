-- Keeps a trail of sensitive operations, in which nothing can be changed or
-- taken away unnoticed: each line holds the digest of the one before.
local crypto = require("crypto")
local file = require("file")
local json = require("json")
local state = require("state")

local hook = {
  name = "audit_trail",
  description = "Keeps a trail of sensitive operations",
  event_type = { "security.*", "secret.*", "stack.destroyed", "db.*" },
  params = { path = "audit.jsonl" },
}

local trail = state.shared("audit")

local function append(event)
  -- An event can come twice, its line not.
  if trail.get("id") == event.id then return true, "it stands there already" end
  local before, away = trail.get("digest", "")
  if not before then return false, away end
  local line = json.encode({
    id = event.id,
    type = event.type,
    time = event.timestamp,
    stack = event.stack,
    who = event.agent_id,
    data = event.data,
    before = before,
  })
  local written, reason = file.append(hook.params.path, line .. "\n")
  if not written then return false, reason end
  trail.set("digest", crypto.sha256(line))
  trail.set("id", event.id)
  return true
end

function hook.execute(event)
  -- One at a time, on all processors: the order of the lines is the chain.
  local done, reason = trail.with_lock("trail", 30, function() return append(event) end, { wait = 20 })
  return done == true, reason
end

return hook
