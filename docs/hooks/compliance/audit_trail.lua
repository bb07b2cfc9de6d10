-- Keeps a trail of sensitive operations, in which nothing can be changed or
-- taken away unnoticed: each line holds the digest of the one before.
local crypto = require("crypto")
local file = require("file")
local json = require("json")
local state = require("state")
local time = require("time")

local hook = {
  name = "audit_trail",
  description = "Keeps a trail of sensitive operations",
  event_type = { "security.*", "secret.*", "stack.destroyed", "db.*" },
  params = { path = "audit-%Y-%m.jsonl" }, -- a file for each month, of 8 MB at most
}

local trail = state.shared("audit")
local REMEMBERED <const> = 100 -- ids of the latest events

-- What was written last: its digest, where it ends, and the latest ids.
local function last_line(path, size)
  local last, away = trail.get("last:" .. path, { digest = "", size = 0, ids = {} })
  local begun, gone = trail.get("begun:" .. path, last)
  if not last or not begun then return nil, away or gone end
  if begun.size ~= size or begun.digest == last.digest then return last end
  -- The database went away between the line and what is said of it.
  local said, why = trail.set("last:" .. path, begun)
  return said and begun, why
end

local function append(event)
  local path, size = time.format(time.now(), hook.params.path), 0
  if file.exists(path) then size = file.stat(path).size end
  local last, away = last_line(path, size)
  if not last then return false, away end
  local ids = { event.id }
  for _, id in ipairs(last.ids) do
    -- An event can come twice, its line not.
    if id == event.id then return true, "it stands there already" end
    if #ids < REMEMBERED then ids[#ids + 1] = id end
  end
  local line = json.encode({
    id = event.id,
    type = event.type,
    time = event.timestamp,
    stack = event.stack,
    who = event.agent_id,
    data = event.data,
    before = last.digest,
  })
  local this = { digest = crypto.sha256(line), size = size + #line + 1, ids = ids }
  local done, reason = trail.set("begun:" .. path, this)
  if done then done, reason = file.append(path, line .. "\n") end
  if done then done, reason = trail.set("last:" .. path, this) end
  return done, reason
end

function hook.execute(event)
  -- One at a time, on all processors: the order of the lines is the chain.
  local done, reason = trail.with_lock("trail", 30, function() return append(event) end, { wait = 20 })
  return done or false, reason
end

return hook
