---@meta env

---The variables of the processor's environment that policy lets the hook read (HOOK_ENV).
local env = {}

---@param name string
---@param default? string
---@return string?
function env.get(name, default) end

---@return string[] names
function env.list() end

return env
