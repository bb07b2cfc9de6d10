-- Checks a YAML file whenever it changes, and tells when it is broken.
-- The file must lie below HOOK_FILE_ROOTS.
local event_module = require("event")
local file = require("file")
local yaml = require("yaml")

local hook = {
  name = "__NAME__",
  description = "Checks configuration files when they change",
  event_type = { "file.created", "file.modified" },
  params = { required = { "name", "version" } }, -- keys at the top
}

function hook.filter(event)
  local path = event.data.path
  return type(path) == "string" and path:find("%.ya?ml$") ~= nil
end

local function fault_in(path)
  local text, unreadable = file.read(path)
  if not text then return unreadable end
  local content, broken = yaml.decode(text)
  if type(content) ~= "table" then return broken or "it is not a mapping" end
  for _, key in ipairs(hook.params.required) do
    if content[key] == nil then return "the key " .. key .. " is missing" end
  end
  return nil
end

function hook.execute(event)
  local path = event.data.path
  local fault = fault_in(path)
  if not fault then return true, path .. " is well" end
  event_module.dispatch("system.warning", { component = "config", message = path .. ": " .. fault, severity = "medium" })
  return true, path .. " is broken: " .. fault
end

return hook
