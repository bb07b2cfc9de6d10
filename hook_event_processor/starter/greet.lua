-- Answers a greeting. Try it:  hep events emit greeting.sent '{"name": "world"}'
-- and read the answer:         hep hook logs greet --output
local hook = {
  name = "greet",
  description = "Answers a greeting",
  event_type = "greeting.sent",
}

function hook.execute(event)
  local name = event.data.name
  if not name then
    -- false and a reason: the attempt has failed and is repeated later.
    return false, "nobody to greet: the event's data has no name"
  end
  return true, "Hello, " .. name
end

return hook
