---@meta secret

---Secrets that policy lets the hook read (HOOK_SECRETS). Their values are masked wherever they would be recorded.
local secret = {}

---@param name string
---@return string? value
---@return string? reason
function secret.get(name) end

return secret
