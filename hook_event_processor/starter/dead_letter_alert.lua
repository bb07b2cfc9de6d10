-- Warns of events that have used up their attempts. Such an event waits, with
-- its errors, until somebody lets it run again:  hep events retry ID
local log = require("log")

local hook = {
  name = "dead_letter_alert",
  description = "Warns of events that have failed for good",
  event_type = "event.failed",
}

function hook.execute(event)
  local failed = event.data
  log.warn("an event has failed for good", {
    event = failed.event_id,
    type = failed.type,
    error = failed.error,
  })
end

return hook
