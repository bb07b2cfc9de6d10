---@meta http

---@class hep.HttpOptions
---@field headers? table<string, string|number|string[]>
---@field body? string
---@field json? any sent as JSON, instead of body
---@field query? table<string, any>
---@field basic? string[] user and password
---@field bearer? string
---@field timeout? number seconds
---@field retries? integer
---@field retry_delay? number seconds
---@field redirects? integer|false

---@class hep.HttpRequest: hep.HttpOptions
---@field url string
---@field method? string

---@class hep.HttpResponse
---@field status_code integer
---@field status integer
---@field reason string
---@field headers table<string, string> found in whatever case they are asked for
---@field body string
---@field elapsed_ms number
---@field url string
---@field json fun(): any, string? the body, decoded

---Requests to where policy permits (HOOK_HTTP_ALLOW). A 404 or 500 is a response, no failure.
local http = {}

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.get(url, options) end

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.post(url, options) end

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.put(url, options) end

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.patch(url, options) end

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.delete(url, options) end

---@param url string|hep.HttpRequest
---@param options? hep.HttpOptions
---@return hep.HttpResponse? response
---@return string? reason
function http.head(url, options) end

---@param request hep.HttpRequest
---@return hep.HttpResponse? response
---@return string? reason
function http.request(request) end

return http
