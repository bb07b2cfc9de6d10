---@meta yaml

---YAML; values are those of json.
local yaml = {}

---@param text string
---@return any value
---@return string? reason
function yaml.decode(text) end

---@param text string
---@return any[]? documents
---@return string? reason
function yaml.decode_all(text) end

---@param value any
---@return string
function yaml.encode(value) end

return yaml
