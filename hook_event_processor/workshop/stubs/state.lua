---@meta state

---What the hook remembers between its runs. A ttl is in seconds.
---@class hep.State
local state = {}

---@param key string
---@param default? any
---@return any value
---@return string? reason
function state.get(key, default) end

---@param key string
---@param value any
---@param ttl? number|{ ttl: number }
---@return true?
---@return string? reason
function state.set(key, value, ttl) end

---@param key string
---@return boolean? existed
---@return string? reason
function state.delete(key) end

---@param key string
---@return boolean?
---@return string? reason
function state.exists(key) end

---@param prefix? string
---@return string[]?
---@return string? reason
function state.keys(prefix) end

---@param key string
---@param by? number default 1
---@param ttl? number|{ ttl: number }
---@return number? value what it is now
---@return string? reason
function state.incr(key, by, ttl) end

---Sets the key to `new` if it holds `expected`; nil stands for no key.
---@param key string
---@param expected any
---@param new any
---@param ttl? number|{ ttl: number }
---@return boolean? swapped
---@return string? reason
function state.compare_and_swap(key, expected, new, ttl) end

---Takes the lock; one that the run holds already lasts `ttl` seconds at least from now on.
---@param name string
---@param ttl number after which it ends by itself
---@param options? { wait?: number } seconds to wait for it
---@return boolean? had
---@return string? reason
function state.lock(name, ttl, options) end

---@param name string
---@return boolean?
---@return string? reason
function state.unlock(name) end

---Runs `f` with the lock and releases it; a lock that the run holds already stays held.
---@generic T
---@param name string
---@param ttl number
---@param f fun(): T
---@param options? { wait?: number }
---@return T?
---@return string? reason
function state.with_lock(name, ttl, f, options) end

---The same over keys that the hooks of a stack share.
---@param name string
---@return hep.State
function state.shared(name) end

return state
