---@meta json

---JSON. null is json.null, an empty array stays an array, and integers keep 64 bits.
local json = {}

---Stands for null; equal only to itself.
---@type lightuserdata
json.null = nil

---@param text string
---@return any value nil for what is no JSON
---@return string? reason
function json.decode(text) end

---@param value any
---@return string
function json.encode(value) end

---Marks a table as an array, though it is empty.
---@generic T: table
---@param list T
---@return T
function json.array(list) end

return json
