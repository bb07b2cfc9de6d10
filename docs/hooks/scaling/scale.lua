-- Keeps as many machines as the load needs: one more when it is high, one less
-- when it is normal again, within bounds and never twice in a short time.
-- The program must be permitted on the host: HOOK_EXEC=set-machines
local exec = require("exec")
local log = require("log")
local state = require("state")

local hook = {
  name = "scale",
  description = "Adds and removes machines with the load",
  event_type = { "system.cpu_high", "system.cpu_normal" },
  params = {
    program = "set-machines", -- called with the number that there shall be
    least = 2,
    most = 10,
    cooldown = 300, -- seconds between two changes
  },
}

local function wanted(count, event)
  local step = event.action == "cpu_high" and 1 or -1
  return math.min(math.max(count + step, hook.params.least), hook.params.most)
end

function hook.execute(event)
  local count, unread = state.get("machines", hook.params.least)
  if not count then return false, unread end
  local target = wanted(count, event)
  if target == count then return true, "there are " .. count .. " machines, and it stays so" end
  -- A key with a time to live: while it is there nothing is changed, by no processor.
  local is_first, away = state.compare_and_swap("cooling_down", nil, event.id, hook.params.cooldown)
  if is_first == nil then return false, away end -- no database, no answer
  if not is_first then return true, "cooling down" end

  local result, reason = exec.run({ hook.params.program, target }, { timeout = 25 })
  if not result or not result.success then
    state.delete("cooling_down")
    return false, "the number of machines stays " .. count .. ": " .. (reason or result.stderr)
  end
  state.set("machines", target)
  log.info("scaled", { from = count, to = target, load = event.data.current or event.data.usage_percent })
  return true, count .. " -> " .. target .. " machines"
end

return hook
