-- Adds a machine when the CPU is busy, with a time to cool down between two.
-- The program must be permitted on the host: HOOK_EXEC=add-machine
local exec = require("exec")
local log = require("log")
local state = require("state")

local hook = {
  name = "__NAME__",
  description = "Scales up when the CPU is busy",
  event_type = "system.cpu_high",
  params = {
    program = "add-machine",
    threshold = 90, -- percent
    cooldown = 300, -- seconds
  },
}

function hook.execute(event)
  local params = hook.params
  local usage = event.data.current or event.data.usage_percent or 0
  if usage < params.threshold then return true, "below the threshold" end

  -- A key with a time to live: while it is there, nothing is added. It also
  -- keeps two processors from scaling at once.
  local is_first, away = state.compare_and_swap("cooling_down", nil, true, params.cooldown)
  if is_first == nil then return false, away end -- no database, no answer
  if not is_first then return true, "cooling down" end

  log.info("scaling up", { usage = usage })
  -- A list of arguments: no shell reads it, so nothing in an event can become a command.
  local result, reason = exec.run({ params.program, "--reason", "cpu" }, { timeout = 20 })
  if not result or not result.success then
    state.delete("cooling_down")
    return false, "no machine was added: " .. (reason or result.stderr)
  end
  return true, "scaled up"
end

return hook
