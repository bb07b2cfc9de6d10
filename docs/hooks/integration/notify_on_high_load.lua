-- One hook for several types, for one stack, and only past a threshold.
local hook = {
  name = "notify_on_high_load",
  description = "Writes a notification when production runs hot",
  event_type = { "system.cpu_high", "system.memory_low" },
  stack = "production",
  priority = 10, -- after the hooks that do something about it
}

function hook.filter(event)
  return (event.data.current or 0) >= 90
end

function hook.execute(event)
  local reading = event.data
  local text = ("%s: %d %%"):format(event.type, reading.current // 1)
  event.dispatch("notification.wanted", { text = text }, { stack = event.stack, priority = 2 })
  return true, text
end

return hook
