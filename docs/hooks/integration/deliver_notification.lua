-- Delivers what other hooks found worth saying: to a chat, and by mail what is urgent.
-- It needs the secret chat_webhook: HOOK_SECRETS=chat_webhook
local notify = require("notify")
local secret = require("secret")

local hook = {
  name = "deliver_notification",
  description = "Sends notifications to a chat, and urgent ones by mail",
  event_type = "notification.wanted",
  retry = { attempts = 8, delay = 5, max_delay = 600 }, -- chats have bad days
  params = {
    smtp_host = "", -- no mail without it
    from = "hooks@example.com",
    to = "ops@example.com",
    urgent = 2, -- priority from which on mail is sent, too
  },
}

-- At most so many bytes, and no character by half.
local function beginning(text, bytes) return text:sub(1, utf8.offset(text, 0, math.min(#text, bytes) + 1) - 1) end

local function mail(text)
  local params = hook.params
  return notify.email({
    smtp_host = params.smtp_host,
    from = params.from,
    to = params.to,
    subject = (beginning(text, 100):gsub("%s+", " ")),
    body = text,
  })
end

function hook.execute(event)
  local text = event.data.text
  if type(text) ~= "string" or text == "" then return true, "nothing to say" end
  local webhook, reason = secret.get("chat_webhook")
  if not webhook then return false, reason end
  local sent
  sent, reason = notify.slack(webhook, text, { retries = 2 })
  if not sent then return false, "the chat did not take it: " .. reason end
  if hook.params.smtp_host == "" or event.priority > hook.params.urgent then return true, "told the chat" end
  sent, reason = mail(text)
  return sent == true, sent and "told the chat, and by mail" or "no mail was sent: " .. reason
end

return hook
