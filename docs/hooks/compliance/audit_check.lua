-- Goes over the trail that audit_trail writes, and raises an alarm where it was changed.
local crypto = require("crypto")
local event_module = require("event")
local file = require("file")
local json = require("json")
local state = require("state")

local hook = {
  name = "audit_check",
  description = "Checks that the trail of sensitive operations is whole",
  event_type = "schedule.triggered",
  params = { path = "audit.jsonl", schedule = "audit" },
}

local trail = state.shared("audit")

function hook.filter(event) return event.data.schedule_name == hook.params.schedule end

-- How many lines there are, or the first that is wrong.
local function lines_of(text, last)
  local before, count = "", 0
  for line in text:gmatch("[^\n]+") do
    count = count + 1
    local entry = json.decode(line)
    if type(entry) ~= "table" or entry.before ~= before then return nil, "line " .. count .. " is not the one that was written" end
    before = crypto.sha256(line)
  end
  if before ~= last then return nil, "the last line was changed, or lines are missing behind line " .. count end
  return count
end

local function check(last)
  local text, reason = file.read(hook.params.path, { max = 8 * 1024 * 1024 })
  if not text then return nil, reason end
  return lines_of(text, last)
end

function hook.execute()
  -- Not while a line is being written.
  local count, fault
  local had, reason = trail.with_lock("trail", 30, function()
    local last, away = trail.get("digest", "")
    if not last then return nil, away end
    count, fault = check(last)
    return true
  end, { wait = 20 })
  if not had then return false, reason end
  if count then return true, count .. " lines are as they were written" end
  event_module.dispatch("security.breach", { action = "audit trail", resource = hook.params.path, severity = "critical" })
  return true, "alarm: " .. fault
end

return hook
