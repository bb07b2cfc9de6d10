-- Sends an e-mail when a backup fails.
-- Needs the secret "smtp_password" and, in the settings, HOOK_SECRETS=smtp_password.
-- notify has slack, discord, teams, telegram and webhook, too.
local notify = require("notify")
local secret = require("secret")

local hook = {
  name = "__NAME__",
  description = "Mails about failed backups",
  event_type = { "backup.failed", "restore.failed" },
  -- Set per hook: hep hook add __NAME__.lua --set to=someone@example.com
  params = {
    smtp_host = "smtp.example.com",
    from = "hooks@example.com",
    to = "operators@example.com",
  },
}

-- What an event's data does not have, or has as null, is no text.
local function text(value, otherwise) return type(value) == "string" and value or otherwise end

function hook.execute(event)
  local params = hook.params
  local password, unknown = secret.get("smtp_password")
  if not password then return false, unknown end

  local sent, reason = notify.email({
    smtp_host = params.smtp_host,
    username = params.from,
    password = password,
    from = params.from,
    to = params.to,
    subject = event.type .. ": " .. text(event.data.backup_id, "?"),
    body = "Error: " .. text(event.data.error, "unknown") .. "\nEvent: " .. event.id .. "\n",
  })
  if not sent then return false, "no mail was sent: " .. reason end
  return true, "mailed " .. params.to
end

return hook
