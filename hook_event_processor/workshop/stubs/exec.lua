---@meta exec

---@class hep.ExecOptions
---@field cwd? string an absolute path
---@field env? table<string, string|number>
---@field stdin? string
---@field timeout? number seconds

---@class hep.ExecResult
---@field exit_code integer
---@field stdout string
---@field stderr string
---@field success boolean
---@field duration_ms number
---@field timed_out boolean

---Programs that policy lets the hook run (HOOK_EXEC). No shell reads the arguments.
local exec = {}

---@param command string|string[] a command line, or its arguments
---@param options? hep.ExecOptions
---@return hep.ExecResult? result
---@return string? reason
function exec.run(command, options) end

return exec
