---@meta notify

---@class hep.NotifyOptions
---@field headers? table<string, string>
---@field timeout? number seconds
---@field retries? integer
---@field retry_delay? number seconds

---@class hep.Mail
---@field smtp_host string
---@field smtp_port? integer default 587
---@field username? string
---@field password? string
---@field from string
---@field to string|string[]
---@field cc? string|string[]
---@field bcc? string|string[]
---@field reply_to? string
---@field subject string
---@field body string
---@field html? string
---@field tls? boolean
---@field timeout? number seconds

---Messages to people; over HTTP they go the way of http's requests.
local notify = {}

---@param url string
---@param message string|table a text, or what Slack takes
---@param options? hep.NotifyOptions
---@return true?
---@return string? reason
function notify.slack(url, message, options) end

---@param url string
---@param message string|table a text, or what Discord takes
---@param options? hep.NotifyOptions
---@return true?
---@return string? reason
function notify.discord(url, message, options) end

---@param url string
---@param message string|table a text, or what Teams takes
---@param options? hep.NotifyOptions
---@return true?
---@return string? reason
function notify.teams(url, message, options) end

---@param url string
---@param payload any sent as JSON
---@param options? hep.NotifyOptions
---@return true?
---@return string? reason
function notify.webhook(url, payload, options) end

---@param token string the bot's
---@param chat_id string|integer
---@param text string
---@param options? hep.NotifyOptions
---@return true?
---@return string? reason
function notify.telegram(token, chat_id, text, options) end

---@param mail hep.Mail
---@return true?
---@return string? reason
function notify.email(mail) end

return notify
