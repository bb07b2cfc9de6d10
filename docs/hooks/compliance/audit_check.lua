-- Goes over the files that audit_trail has written, and raises an alarm for each that was changed.
local crypto = require("crypto")
local event_module = require("event")
local file = require("file")
local json = require("json")
local state = require("state")

local hook = {
  name = "audit_check",
  description = "Checks that the trail of sensitive operations is whole",
  event_type = "schedule.triggered",
  params = { schedule = "audit" },
}

local trail = state.shared("audit")

function hook.filter(event) return event.data.schedule_name == hook.params.schedule end

-- How many lines there are, or the first that is wrong. `ends` are digests that the last one may have.
local function lines_of(text, ends)
  local before, count = "", 0
  for line in text:gmatch("[^\n]+") do
    count = count + 1
    local entry = json.decode(line)
    if type(entry) ~= "table" or entry.before ~= before then return nil, "line " .. count .. " is not the one that was written" end
    before = crypto.sha256(line)
  end
  if not ends[before] then return nil, "the last line was changed, or lines are missing behind line " .. count end
  return count
end

-- The number of lines; or false and what is wrong with them; or nil and why it cannot be told.
local function check(path)
  local last, away = trail.get("last:" .. path, { digest = "" })
  local begun, gone = trail.get("begun:" .. path, last)
  if not last or not begun then return nil, away or gone end
  local text, reason = file.read(path, { max = 8 * 1024 * 1024 })
  if not text then return false, reason end
  local count, fault = lines_of(text, { [last.digest] = true, [begun.digest] = true })
  return count or false, fault
end

function hook.execute()
  local keys, away = trail.keys("last:")
  if not keys then return false, away end
  local lines, alarms = 0, {}
  for _, key in ipairs(keys) do
    local path = key:sub(#"last:" + 1)
    -- Not while a line is being written.
    local count, reason = trail.with_lock("trail", 30, function() return check(path) end, { wait = 20 })
    if count == nil then return false, reason end
    if count then
      lines = lines + count
    else
      event_module.dispatch("security.breach", { action = "audit trail", resource = path, severity = "critical" })
      alarms[#alarms + 1] = reason
    end
  end
  if #alarms > 0 then return true, "alarm: " .. table.concat(alarms, "; ") end
  return true, lines .. " lines are as they were written"
end

return hook
