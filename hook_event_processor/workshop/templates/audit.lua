-- Appends security events to a file, one JSON object a line.
-- The file lies below HOOK_FILE_ROOTS; a relative path begins at the first of them.
local file = require("file")
local json = require("json")

local hook = {
  name = "__NAME__",
  description = "Keeps a log of security events",
  event_type = { "security.*", "secret.*" },
  params = { path = "audit.jsonl" },
}

function hook.execute(event)
  local line = json.encode({
    id = event.id,
    type = event.type,
    time = event.timestamp,
    stack = event.stack,
    correlation_id = event.correlation_id,
    data = event.data,
  })
  local written, reason = file.append(hook.params.path, line .. "\n")
  -- nil is success as the end of a run: what failed is said with false.
  if not written then return false, reason end
  -- An event may come twice; whoever reads the file knows it by its id.
  return true
end

return hook
