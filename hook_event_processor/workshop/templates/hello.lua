-- Logs what happened: the least that a hook is.
-- Hooks are Lua files that return a table with an execute function.
local log = require("log")

local hook = {
  name = "__NAME__",
  description = "Logs greetings",
  -- A type, a list of types, or a pattern: "task.failed", "task.*", "*", "~^task\\.".
  event_type = "custom.greeting",
}

function hook.execute(event)
  local name = event.data.name
  if type(name) ~= "string" then
    -- false and a reason: the attempt failed, and is repeated later.
    return false, "nobody to greet: the event's data has no name"
  end
  log.info("greeting", { name = name, event = event.id })
  -- Nothing or true is success; the message is kept with the run.
  return true, "Hello, " .. name
end

return hook
