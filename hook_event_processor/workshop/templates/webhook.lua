-- Passes events on to another system over HTTP, signed with a shared secret.
-- Needs the secret "webhook_key" and, in the settings, HOOK_SECRETS=webhook_key.
local crypto = require("crypto")
local http = require("http")
local json = require("json")
local secret = require("secret")

local hook = {
  name = "__NAME__",
  description = "Passes events on over HTTP",
  event_type = "deploy.*",
  params = { url = "https://example.com/events" },
  retry = { attempts = 5, delay = 2 }, -- seconds, doubling
}

function hook.execute(event)
  local key, unknown = secret.get("webhook_key")
  if not key then return false, unknown end

  local body = json.encode({ id = event.id, type = event.type, time = event.timestamp, data = event.data })
  local response, reason = http.post(hook.params.url, {
    headers = {
      ["Content-Type"] = "application/json",
      -- The receiver works out the same from the body, and compares.
      ["X-Signature"] = "sha256=" .. crypto.hmac("sha256", key, body),
    },
    body = body,
  })
  if not response then return false, reason end
  if response.status_code >= 300 then return false, "the receiver answered " .. response.status_code end
  return true, "passed on"
end

return hook
