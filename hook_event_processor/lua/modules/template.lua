-- template: render(text, data [, { strict = true }]) -> text, or nil and a reason.
-- The text is Jinja2's, or with a leading dot as Go writes it: {{.task.name}}.
local parts = ...
local call, json = parts.call, parts.json
local error, pairs, tostring, type = error, pairs, tostring, type

local template = {}

local function strictness(options)
  if options == nil then return false end
  if type(options) ~= "table" then error("template.render takes a table of options, not a " .. type(options), 3) end
  for key in pairs(options) do
    if key ~= "strict" then error("template.render: unknown option " .. tostring(key) .. "; it takes strict", 3) end
  end
  local strict = options.strict
  if strict ~= nil and type(strict) ~= "boolean" then error("template.render: strict takes true or false", 3) end
  return strict or false
end

-- Names that the data does not have are empty, unless strict.
function template.render(text, data, options)
  if type(text) ~= "string" then error("template.render takes a string as its template, not a " .. type(text), 2) end
  if data == nil then data = {} end
  if type(data) ~= "table" or data == json.null then error("template.render takes a table as its data, not a " .. type(data), 2) end
  return call("template.render", text, json.encode(data), strictness(options))
end

return template
