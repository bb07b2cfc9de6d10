---@meta regex

---Regular expressions of RE2, in time proportional to the text. Positions are in bytes, from 1.
local regex = {}

---@param text string
---@param pattern string
---@return boolean? matches
---@return string? reason
function regex.test(text, pattern) end

---@param text string
---@param pattern string
---@return table<integer|string, string>? captures [0] is the match, then groups by number and name
---@return string? reason
function regex.match(text, pattern) end

---@param text string
---@param pattern string
---@param init? integer
---@return integer? first
---@return integer|string|nil last
function regex.find(text, pattern, init) end

---@param text string
---@param pattern string
---@param replacement string %0 is the match, %1 to %9 are its groups
---@param n? integer at most so many
---@return string? text
---@return integer|string count
function regex.gsub(text, pattern, replacement, n) end

---@param text string
---@param pattern string
---@return string[]? pieces
---@return string? reason
function regex.split(text, pattern) end

---@param text string
---@return string pattern that matches this text and nothing else
function regex.escape(text) end

return regex
