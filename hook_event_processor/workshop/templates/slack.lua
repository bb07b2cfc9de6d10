-- Posts to a Slack channel when a task fails.
-- Needs the secret "slack_webhook_url" and, in the settings, HOOK_SECRETS=slack_webhook_url.
local notify = require("notify")
local secret = require("secret")

local hook = {
  name = "__NAME__",
  description = "Tells a Slack channel of failed tasks",
  event_type = "task.failed",
  -- stack = "production", -- run for events of one stack only
}

function hook.execute(event)
  local task = event.data
  local url, unknown = secret.get("slack_webhook_url")
  if not url then return false, unknown end

  local sent, reason = notify.slack(url, {
    text = string.format("Task %s failed on %s", task.task_name or "?", task.agent_name or "?"),
    attachments = {
      {
        color = "danger",
        fields = {
          { title = "Error", value = task.error or "unknown", short = false },
          { title = "Exit code", value = tostring(task.exit_code or "?"), short = true },
        },
      },
    },
  })
  -- A failed attempt is repeated, with growing delays.
  if not sent then return false, "Slack was not told: " .. reason end
  return true, "Slack was told"
end

return hook
