---@meta event

---@class hep.DispatchOptions
---@field stack? string
---@field priority? integer 1 (first) to 10 (last)
---@field delay? number seconds before it is processed
---@field id? string its UUID: a second event of that id changes nothing

local event = {}

---Publishes an event, in the transaction that records this run.
---@param type string source.action
---@param data? table
---@param options? hep.DispatchOptions
---@return boolean
function event.dispatch(type, data, options) end

return event
