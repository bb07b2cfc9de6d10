-- notify: slack(url, text or {text, ...}), discord(url, text or {content, ...}),
-- teams(url, text or {...}), webhook(url, payload), telegram(token, chat_id, text),
-- each with options {headers, timeout, retries, retry_delay} last; and
-- email({smtp_host, from, to, subject, body, ...}) -> true | nil, reason.
-- Requests go the way of http's, under the same rules.
local parts = ...
local call, json, current = parts.call, parts.json, parts.current
local error, next, rawget, rawlen, tostring, type = error, next, rawget, rawlen, tostring, type
local find, sub, math_type = string.find, string.sub, math.type

local DEFAULT_TIMEOUT <const>, MAX_TIMEOUT <const>, MAX_RETRIES <const> = 20, 3600, 10
local MAX_SAID <const> = 200 -- bytes of what the server says, in a reason
local OPTIONS = { headers = true, timeout = true, retries = true, retry_delay = true }
local FIELDS = {
  smtp_host = true,
  smtp_port = true,
  username = true,
  password = true,
  from = true,
  to = true,
  cc = true,
  bcc = true,
  reply_to = true,
  subject = true,
  body = true,
  html = true,
  tls = true,
  timeout = true,
}

local notify = {}

-- Levels of errors: `post` and what the hook called are one frame apart by a
-- tail call, so that for the functions that `post` calls the hook is at 3.
local function number(name, options, key, default, low, high)
  local value = rawget(options, key)
  if value == nil then return default end
  if not math_type(value) or value ~= value or value < low or value > high then
    error(name .. ": " .. key .. " takes a number from " .. low .. " to " .. high, 3)
  end
  return value
end

local function headers_in(name, headers)
  local out = {}
  if headers == nil then return json.array(out) end
  if type(headers) ~= "table" then error(name .. ": headers takes a table, not a " .. type(headers), 3) end
  for key, value in next, headers do
    if type(key) ~= "string" or type(value) ~= "string" then error(name .. ": headers takes names and strings", 3) end
    out[#out + 1] = { key, value }
  end
  return json.array(out)
end

local function check_names(name, options)
  for key in next, options do
    if not OPTIONS[key] then
      error(name .. ": unknown option " .. tostring(key) .. "; it takes headers, timeout, retries, retry_delay", 3)
    end
  end
end

-- The beginning of what a server says. Servers may repeat a secret: by the
-- mark, half of one is recognized and masked.
local function said_in(body)
  if #body > MAX_SAID then body = sub(body, 1, MAX_SAID) .. "[cut]" end
  return body ~= "" and ": " .. body or ""
end

local function answered(status, reason, _, body)
  if status == nil then return nil, reason end
  if status >= 200 and status < 300 then return true end
  return nil, "the server answered " .. status .. " " .. reason .. said_in(body)
end

local function post(name, url, payload, options)
  if type(url) ~= "string" then error(name .. " takes a URL, not a " .. type(url), 2) end
  if options == nil then options = {} end
  if type(options) ~= "table" then error(name .. " takes a table of options, not a " .. type(options), 2) end
  check_names(name, options)
  local retries = number(name, options, "retries", 0, 0, MAX_RETRIES)
  if math_type(retries) ~= "integer" then error(name .. ": retries takes a whole number", 2) end
  local said = {
    name = name,
    headers = headers_in(name, rawget(options, "headers")),
    content_type = "application/json",
    basic = json.null,
    bearer = json.null,
    timeout = number(name, options, "timeout", DEFAULT_TIMEOUT, 0.001, MAX_TIMEOUT),
    retries = retries,
    retry_delay = number(name, options, "retry_delay", 1, 0, MAX_TIMEOUT),
    -- None of these services redirects what it accepts.
    redirects = 0,
  }
  return answered(call("http.send", "POST", url, json.encode(payload), json.encode(said), current.id()))
end

-- A text as the field that carries it; a table as it is.
local function message(name, given, field)
  if type(given) == "string" then return { [field] = given } end
  if type(given) ~= "table" then error(name .. " takes a text or a table, not a " .. type(given), 3) end
  return given
end

function notify.slack(url, given, options) return post("notify.slack", url, message("notify.slack", given, "text"), options) end

function notify.discord(url, given, options)
  return post("notify.discord", url, message("notify.discord", given, "content"), options)
end

function notify.teams(url, given, options) return post("notify.teams", url, message("notify.teams", given, "text"), options) end

function notify.webhook(url, payload, options)
  if payload == nil then error("notify.webhook takes a payload to send as JSON", 2) end
  return post("notify.webhook", url, payload, options)
end

function notify.telegram(token, chat_id, text, options)
  if type(token) ~= "string" or not find(token, "^[%w:_-]+$") then error("notify.telegram takes a bot's token", 2) end
  if type(chat_id) ~= "string" and math_type(chat_id) ~= "integer" then error("notify.telegram takes a chat's id", 2) end
  if type(text) ~= "string" then error("notify.telegram takes a text, not a " .. type(text), 2) end
  local url = "https://api.telegram.org/bot" .. token .. "/sendMessage"
  return post("notify.telegram", url, { chat_id = chat_id, text = text }, options)
end

local function addresses(name, given)
  if given == nil then return json.array({}) end
  if type(given) == "string" then return { given } end
  if type(given) ~= "table" then error("notify.email: " .. name .. " takes an address or a list of them", 3) end
  local list = {}
  for i = 1, rawlen(given) do
    local address = rawget(given, i)
    if type(address) ~= "string" then error("notify.email: " .. name .. " takes an address or a list of them", 3) end
    list[i] = address
  end
  return json.array(list)
end

local function text(mail, name, needed)
  local value = rawget(mail, name)
  if value == nil and not needed then return json.null end
  if type(value) ~= "string" then error("notify.email: " .. name .. " takes a string, not a " .. type(value), 3) end
  return value
end

local function check_fields(mail)
  for key in next, mail do
    if not FIELDS[key] then
      error(
        "notify.email: unknown field " .. tostring(key)
          .. "; it takes smtp_host, smtp_port, username, password, from, to, cc, bcc, reply_to, subject, body, html, tls, timeout",
        3
      )
    end
  end
  local tls = rawget(mail, "tls")
  if tls ~= nil and type(tls) ~= "boolean" then error("notify.email: tls takes true or false", 3) end
end

function notify.email(mail)
  if type(mail) ~= "table" then error("notify.email takes a table, not a " .. type(mail), 2) end
  check_fields(mail)
  local port = number("notify.email", mail, "smtp_port", 587, 1, 65535)
  if math_type(port) ~= "integer" then error("notify.email: smtp_port takes a whole number", 2) end
  local tls = rawget(mail, "tls")
  if tls == nil then tls = json.null end
  local said = {
    smtp_host = text(mail, "smtp_host", true),
    smtp_port = port,
    username = text(mail, "username"),
    password = text(mail, "password"),
    sender = text(mail, "from", true),
    to = addresses("to", rawget(mail, "to")),
    cc = addresses("cc", rawget(mail, "cc")),
    bcc = addresses("bcc", rawget(mail, "bcc")),
    reply_to = text(mail, "reply_to"),
    subject = text(mail, "subject", true),
    html = text(mail, "html"),
    tls = tls,
    timeout = number("notify.email", mail, "timeout", DEFAULT_TIMEOUT, 0.001, MAX_TIMEOUT),
  }
  return call("notify.email", json.encode(said), text(mail, "body", true), current.id())
end

return notify
