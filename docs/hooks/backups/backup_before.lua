-- Makes a backup before something risky, and keeps the latest ones.
-- The program must be permitted on the host (HOOK_EXEC=make-backup), and the
-- directory granted (HOOK_FILE_ROOTS=/var/backups/hooks).
local crypto = require("crypto")
local event_module = require("event")
local exec = require("exec")
local file = require("file")
local log = require("log")
local time = require("time")

local hook = {
  name = "backup_before",
  description = "Makes a backup before deployments, and keeps the latest",
  event_type = { "deploy.started", "stack.updated", "schedule.triggered" },
  priority = -100, -- before the hooks that do the risky thing
  timeout = 3600,
  params = {
    program = "make-backup", -- called with the file to write
    directory = "/var/backups/hooks",
    schedule = "backup", -- the one schedule that counts
    keep = 7,
  },
}

function hook.filter(event)
  return event.source ~= "schedule" or event.data.schedule_name == hook.params.schedule
end

-- The end of what a program said, as event.dispatch takes it: UTF-8 of no great length.
local function tail(text)
  text = text:sub(-4000):gsub("^[\128-\191]+", ""):gsub("\0", "?")
  return utf8.len(text) and text or (text:gsub("[\128-\255]", "?"))
end

local function failed(id, reason)
  event_module.dispatch("backup.failed", { backup_id = id, error = reason }, { priority = 1 })
  return false, reason
end

-- Names begin with the time: in order they are from old to new.
local function prune()
  local names, kept = file.list(hook.params.directory) or {}, {}
  for _, name in ipairs(names) do
    if name:find("^backup%-.*%.dump$") then kept[#kept + 1] = name end
  end
  for i = 1, #kept - hook.params.keep do
    local removed, reason = file.remove(hook.params.directory .. "/" .. kept[i])
    log.info(removed and "removed" or "cannot be removed", { file = kept[i], reason = reason or "old" })
  end
end

function hook.execute(event)
  local started = time.now()
  -- The same name in every attempt at the event.
  local id = time.format(time.parse(event.timestamp), "%Y%m%dT%H%M%SZ") .. "-" .. crypto.md5(event.id):sub(1, 8)
  local path = hook.params.directory .. "/backup-" .. id .. ".dump"
  local result, reason = exec.run({ hook.params.program, path }, { timeout = 3000 })
  if not result or not result.success then return failed(id, reason or tail(result.stderr)) end
  local made = file.stat(path)
  if not made or made.size == 0 then return failed(id, "nothing was written to " .. path) end
  prune()
  event_module.dispatch("backup.completed", {
    backup_id = id,
    size = made.size,
    duration = time.human(time.now() - started),
    destination = path,
  })
  return true, made.size .. " bytes in " .. path
end

return hook
