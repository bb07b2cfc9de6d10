---@meta

---What spec.run gives.
---@class hep.SpecResult
---@field ok boolean
---@field outcome "continue"|"filtered"|"failed"|"timeout"|"memory"|"refused"
---@field filtered boolean the hook's filter left the event alone
---@field message string? what the hook returned behind true
---@field output string what it logged and printed, and the message
---@field error string?
---@field dispatched { type: string, data: table, stack?: string, priority?: integer, delay?: number, id?: string }[]
---@field calls table<string, any[][]> arguments of each call of a mock: calls["http.post"][1][1] is the first URL
---@field duration_ms number

---@class hep.SpecEvent
---@field metadata? table<string, any>
---@field stack? string
---@field resource? string
---@field resource_id? string
---@field id? string
---@field priority? integer
---@field attempt? integer
---@field timestamp? number seconds since 1970
---@field agent_id? string
---@field session_id? string
---@field correlation_id? string
---@field params? table<string, any> over the defaults in the hook's table

---@class hep.Expectation
---@field never hep.Expectation each check turned around
---@field to_be fun(value: any)
---@field to_equal fun(value: any) the same values, tables by what they hold
---@field to_include fun(part: table) all that the part holds
---@field to_contain fun(item: any) a text, or a member of a table
---@field to_match fun(pattern: string) a pattern of Lua
---@field to_be_nil fun()
---@field to_exist fun()
---@field to_be_true fun()
---@field to_be_false fun()
---@field to_be_a fun(type: string)
---@field to_be_greater_than fun(number: number)
---@field to_be_less_than fun(number: number)
---@field to_have_length fun(length: integer)
---@field to_succeed fun(part?: string) a run, with a message that holds the part
---@field to_fail fun(part?: string) a run or a function, with a reason that holds the part
---@field to_have_called fun(name: string, times?: integer)
---@field to_have_dispatched fun(type: string, data?: table) with data that hold these

---@param name string
---@param f fun()
function describe(name, f) end

---@param name string
---@param f fun()
function it(name, f) end

---@param f fun()
function before_each(f) end

---@param f fun()
function after_each(f) end

---@param value any
---@return hep.Expectation
function expect(value) end

---What the hook gets in place of a module; nil takes it away again.
---@param module string
---@param functions table<string, any>?
function mock(module, functions) end

spec = {}

---Runs the hook beside the spec for one event.
---@param type string
---@param data? table
---@param event? hep.SpecEvent its other fields
---@return hep.SpecResult
function spec.run(type, data, event) end
