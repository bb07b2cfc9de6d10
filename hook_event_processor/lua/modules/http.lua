-- http: get, post, put, patch, delete, head(url [, options]) or ({url = ..., options}),
-- request({method = ..., url = ..., options}) -> response | nil, reason.
-- A response that tells of an error (404, 500) is a response.
local parts = ...
local call, json, current = parts.call, parts.json, parts.current
local byte, find, format, gmatch, gsub, lower = string.byte, string.find, string.format, string.gmatch, string.gsub, string.lower
local concat, sort, math_type, rawlen = table.concat, table.sort, math.type, rawlen
local error, next, rawget, setmetatable, tostring, type = error, next, rawget, setmetatable, tostring, type

local DEFAULT_TIMEOUT <const>, MAX_TIMEOUT <const> = 20, 3600
local MAX_RETRIES <const>, MAX_REDIRECTS <const> = 10, 5
local OPTIONS = {
  headers = true,
  body = true,
  json = true,
  query = true,
  basic = true,
  bearer = true,
  timeout = true,
  retries = true,
  retry_delay = true,
  redirects = true,
}
local ACCEPTED <const> = "headers, body, json, query, basic, bearer, timeout, retries, retry_delay, redirects"

local http = {}

-- Headers are found in whatever case they are asked for.
local any_case = {
  __index = function(headers, name) return type(name) == "string" and rawget(headers, lower(name)) or nil end,
  __metatable = false,
}

local function headers_of(lines)
  local headers = {}
  for name, value in gmatch(lines, "([^:\n]+): ([^\n]*)\n") do
    headers[name] = value
  end
  return setmetatable(headers, any_case)
end

local function response(status, reason, lines, body, elapsed_ms, url)
  local function decoded() return json.decode(body) end
  return setmetatable({
    status_code = status,
    status = status,
    reason = reason,
    headers = headers_of(lines),
    body = body,
    elapsed_ms = elapsed_ms,
    url = url,
  }, {
    -- Not among the fields: so json.encode(response) has something to write.
    __index = function(_, name)
      if name == "json" then return decoded end
      return nil
    end,
    __metatable = false,
  })
end

-- Levels of errors: `send` is tail-called by what the hook called, so that
-- for the functions that it calls itself the hook is at 3.
local function check_names(name, options)
  for key in next, options do
    if not OPTIONS[key] and not (key == "url" or key == "method" and name == "http.request") then
      error(name .. ": unknown option " .. tostring(key) .. "; it takes " .. ACCEPTED, 3)
    end
  end
end

local function text_of(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" or kind == "boolean" then return tostring(value) end
  return nil
end

-- name = value, or name = {value, ...}: pairs in the order of the names.
local function pairs_of(name, what, items)
  if items == nil then return {} end
  if type(items) ~= "table" then error(name .. ": " .. what .. " takes a table, not a " .. type(items), 4) end
  local names, out = {}, {}
  for key in next, items do
    if type(key) ~= "string" then error(name .. ": " .. what .. " takes a table of names and values", 4) end
    names[#names + 1] = key
  end
  sort(names)
  for _, key in next, names do
    local value = rawget(items, key)
    local list = type(value) == "table" and value or { value }
    for i = 1, rawlen(list) do
      local text = text_of(rawget(list, i))
      if not text then error(name .. ": " .. what .. "." .. key .. " takes a string, not a " .. type(rawget(list, i)), 4) end
      out[#out + 1] = { key, text }
    end
  end
  return out
end

local function headers_in(name, headers) return json.array(pairs_of(name, "headers", headers)) end

local function escaped(text)
  return (gsub(text, "[^%w%-._~]", function(c) return format("%%%02X", byte(c)) end))
end

local function with_query(name, url, query)
  local items = pairs_of(name, "query", query)
  if #items == 0 then return url end
  for i, item in next, items do
    items[i] = escaped(item[1]) .. "=" .. escaped(item[2])
  end
  local address = gsub(url, "#.*$", "")
  return address .. (find(address, "?", 1, true) and "&" or "?") .. concat(items, "&")
end

local function body_of(name, options)
  local body, value = options.body, options.json
  if value ~= nil then
    if body ~= nil then error(name .. ": json stands beside body: one of both says what is sent", 3) end
    return json.encode(value), "application/json"
  end
  if body == nil then return "", "" end
  if type(body) ~= "string" then error(name .. ": body takes a string, not a " .. type(body) .. "; json = ... takes a table", 3) end
  return body, ""
end

local function credentials(name, options)
  local basic, bearer = options.basic, options.bearer
  if bearer ~= nil and type(bearer) ~= "string" then error(name .. ": bearer takes a string, not a " .. type(bearer), 3) end
  if basic == nil then return nil, bearer end
  if bearer then error(name .. ": basic stands beside bearer: one of both says who asks", 3) end
  if type(basic) ~= "table" or type(basic[1]) ~= "string" or type(basic[2]) ~= "string" then
    error(name .. ": basic takes {user, password}", 3)
  end
  return { basic[1], basic[2] }, nil
end

local function number(name, options, key, default, low, high)
  local value = options[key]
  if value == nil then return default end
  if not math_type(value) or value ~= value or value < low or value > high then
    error(name .. ": " .. key .. " takes a number from " .. low .. " to " .. high, 3)
  end
  return value
end

local function whole(name, options, key, default, high)
  local value = options[key]
  if value == nil then return default end
  if value == false then return 0 end
  if math_type(value) ~= "integer" or value < 0 or value > high then
    error(name .. ": " .. key .. " takes a whole number from 0 to " .. high, 3)
  end
  return value
end

local function answered(status, reason, ...)
  if status == nil then return nil, reason end
  return response(status, reason, ...)
end

local function send(name, method, url, options)
  if type(url) == "table" and options == nil then
    options, url = url, url.url
  elseif type(options) == "table" and options.url ~= nil then
    error(name .. ": url stands beside the first argument: one of both says where", 2)
  end
  if type(url) ~= "string" then error(name .. " takes a URL, not a " .. type(url), 2) end
  if options == nil then options = {} end
  if type(options) ~= "table" then error(name .. " takes a table of options, not a " .. type(options), 2) end
  check_names(name, options)
  local body, content_type = body_of(name, options)
  local basic, bearer = credentials(name, options)
  local said = {
    name = name,
    headers = headers_in(name, options.headers),
    content_type = content_type,
    basic = basic or json.null,
    bearer = bearer or json.null,
    timeout = number(name, options, "timeout", DEFAULT_TIMEOUT, 0.001, MAX_TIMEOUT),
    retries = whole(name, options, "retries", 0, MAX_RETRIES),
    retry_delay = number(name, options, "retry_delay", 1, 0, MAX_TIMEOUT),
    redirects = whole(name, options, "redirects", MAX_REDIRECTS, MAX_REDIRECTS),
  }
  url = with_query(name, url, options.query)
  return answered(call("http.send", method, url, body, json.encode(said), current.id()))
end

for _, name in next, { "get", "post", "put", "patch", "delete", "head" } do
  local full_name, method = "http." .. name, string.upper(name)
  http[name] = function(url, options) return send(full_name, method, url, options) end
end

function http.request(options, more)
  if more ~= nil then error("http.request takes one table, with method, url and all else", 2) end
  if type(options) ~= "table" then error("http.request takes a table with method and url, not a " .. type(options), 2) end
  local method = options.method
  if method == nil then method = "GET" end
  if type(method) ~= "string" then error("http.request: method takes a string, not a " .. type(method), 2) end
  return send("http.request", method, options)
end

return http
