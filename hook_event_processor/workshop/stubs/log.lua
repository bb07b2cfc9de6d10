---@meta log

---Lines of the execution's output.
local log = {}

---@param message any
---@param fields? table<string, any> name=value behind the message
function log.debug(message, fields) end

---@param message any
---@param fields? table<string, any>
function log.info(message, fields) end

---@param message any
---@param fields? table<string, any>
function log.warn(message, fields) end

---@param message any
---@param fields? table<string, any>
function log.error(message, fields) end

return log
