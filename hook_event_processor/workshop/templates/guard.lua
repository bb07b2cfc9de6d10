-- Watches the commands that agents run, and raises an alarm over dangerous ones.
-- It sees them after the fact; what it dispatches can trigger other hooks.
local event_module = require("event")
local log = require("log")
local regex = require("regex")

local hook = {
  name = "__NAME__",
  description = "Raises an alarm over dangerous commands",
  event_type = { "PreToolUse/*", "tool.*", "command.*" },
  priority = -10, -- before others
}

-- Regular expressions of RE2: their time is proportional to the text.
local DANGEROUS = {
  { [=[\brm\s+(-\w+\s+)*-\w*[rR]\w*\s+(-\w+\s+)*[/~]]=], "removes directories from the root or home" },
  { [=[\b(curl|wget)\b[^|]*\|\s*(sudo\s+)?(ba|z)?sh\b]=], "runs what it downloads" },
  { [=[\bchmod\s+(-\w+\s+)*0?777\b]=], "opens files to everyone" },
  { [=[\bgit\s+push\b.*\s(--force|-f)\b]=], "overwrites history" },
  { [=[>\s*/dev/(sd|nvme|vd)]=], "writes to a disk" },
}

local function command_of(data)
  local input = data.tool_input or data.parameters or data
  return type(input) == "table" and input.command or data.command
end

-- At most so many bytes, and no character by half: event.dispatch takes UTF-8 only.
local function beginning(text, bytes)
  return string.sub(text, 1, utf8.offset(text, 0, math.min(#text, bytes) + 1) - 1)
end

function hook.filter(event) return type(command_of(event.data)) == "string" end

function hook.execute(event)
  local command = command_of(event.data)
  for _, danger in ipairs(DANGEROUS) do
    if regex.test(command, danger[1]) then
      log.warn("dangerous command", { why = danger[2], agent = event.agent_id })
      event_module.dispatch("security.unauthorized", {
        user = event.agent_id,
        resource = "shell",
        action = danger[2],
        command = beginning(command, 500),
      }, { priority = 1 })
      return true, "alarm: it " .. danger[2]
    end
  end
  return true
end

return hook
