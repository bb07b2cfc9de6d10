---@meta time

---Times are seconds since 1970, durations are seconds.
local time = {}

---@return number seconds with a fraction
function time.now() end

---@param seconds number
function time.sleep(seconds) end

---@param text string RFC 3339, or a date
---@return number? seconds
---@return string? reason
function time.parse(text) end

---@param seconds number
---@param layout? string that of strftime, with %f for microseconds (default RFC 3339)
---@param zone? string "UTC", "+02:00" or "Europe/Berlin"
---@return string? text
---@return string? reason
function time.format(seconds, layout, zone) end

---@param text string such as "1h30m"
---@return number? seconds
---@return string? reason
function time.duration(text) end

---@param seconds number
---@return string text such as "1h30m"
function time.human(seconds) end

return time
