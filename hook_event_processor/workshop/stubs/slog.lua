---@meta slog

---Lines of the execution's output.
local slog = {}

---@param message any
---@param fields? table<string, any> name=value behind the message
function slog.debug(message, fields) end

---@param message any
---@param fields? table<string, any>
function slog.info(message, fields) end

---@param message any
---@param fields? table<string, any>
function slog.warn(message, fields) end

---@param message any
---@param fields? table<string, any>
function slog.error(message, fields) end

return slog
