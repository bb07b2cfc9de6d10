---@meta template

---Templates of Jinja2, or with a leading dot as Go writes names: {{.task.name}}.
local template = {}

---@param text string
---@param data? table
---@param options? { strict?: boolean } strict: names that the data does not have are a failure, not empty
---@return string? text
---@return string? reason
function template.render(text, data, options) end

return template
