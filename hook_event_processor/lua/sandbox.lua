-- What a hook's code can reach: the standard libraries without what touches
-- the host, frozen and bounded; and a fresh table of globals for each run.
local deadline, metatables, string_library, table_library, coroutine_library = ...
local find, error, getmetatable, next, pcall = string.find, error, getmetatable, next, pcall
local collectgarbage, setmetatable, tostring, type, xpcall = collectgarbage, setmetatable, tostring, type, xpcall
local date, MAX_DATE <const> = os.date, 1000
local look, refuse_expired = deadline.look, deadline.refuse_expired

local frozen = setmetatable({}, { __mode = "k" })

local function freeze(library, name)
  local proxy = {}
  frozen[proxy] = true
  return setmetatable(proxy, {
    __index = library,
    __newindex = function(_, key) error(name .. "." .. tostring(key) .. " cannot be set: libraries are frozen", 2) end,
    -- Not `next, library`: that would hand the library itself out.
    __pairs = function()
      return function(_, key) return next(library, key) end, proxy, nil
    end,
    __metatable = false,
  })
end

local function copy(library)
  local members = {}
  for name, member in next, library do
    members[name] = member
  end
  return members
end

local math_library = copy(math)
-- Its state would outlive the run.
math_library.randomseed = function() end

local utf8_library = copy(utf8)
for _, name in next, { "len", "offset", "codepoint" } do
  utf8_library[name] = deadline.by_size(utf8[name])
end

local function after_call(ok, ...)
  if ok then refuse_expired() else look() end
  return ok, ...
end

local function safe_pcall(f, ...) return after_call(pcall(f, ...)) end

-- Such an error calls its handler where no check can interrupt it: it is the
-- deadline's, or there was no room left for the check itself.
local function is_of_check(message)
  return deadline.is_expired() or type(message) == "userdata" or type(message) == "string" and find(message, "stack overflow", 1, true)
end

local function safe_xpcall(f, handler, ...)
  if type(handler) ~= "function" then error("xpcall takes a function as its handler", 2) end
  return after_call(xpcall(f, function(message)
    if is_of_check(message) then return message end
    return handler(message)
  end, ...))
end

local function safe_rawset(t, key, item)
  if frozen[t] then error("libraries are frozen", 2) end
  return metatables.rawset(t, key, item)
end

local function safe_date(form, at)
  if type(form) == "string" and #form > MAX_DATE then error("os.date: a format of more than " .. MAX_DATE .. " bytes", 2) end
  return date(form, at)
end

local globals = {
  _VERSION = _VERSION,
  assert = assert,
  collectgarbage = function(option) return option == "count" and collectgarbage("count") or 0 end,
  coroutine = freeze(coroutine_library, "coroutine"),
  debug = freeze({ traceback = debug.traceback }, "debug"),
  error = error,
  getmetatable = metatables.get,
  ipairs = ipairs,
  math = freeze(math_library, "math"),
  next = next,
  os = freeze({ clock = os.clock, date = safe_date, difftime = os.difftime, time = os.time }, "os"),
  pairs = pairs,
  pcall = safe_pcall,
  rawequal = rawequal,
  rawget = metatables.rawget,
  rawlen = rawlen,
  rawset = safe_rawset,
  select = select,
  setmetatable = metatables.set,
  string = freeze(string_library, "string"),
  table = freeze(table_library, "table"),
  tonumber = deadline.by_size(tonumber),
  tostring = tostring,
  type = type,
  utf8 = freeze(utf8_library, "utf8"),
  xpcall = safe_xpcall,
}

-- ("x"):rep(9) takes the same way as string.rep("x", 9).
local strings = getmetatable("")
strings.__index = string_library
strings.__metatable = false

local environment = { __index = globals, __metatable = false }
local latest -- environment

-- _G is looked up when it is missing in both: few hooks ask for it.
setmetatable(globals, { __index = function(_, name)
  if name == "_G" then return latest end
  return nil
end })

local sandbox = { freeze = freeze }

-- Closes a table that outlives the run to rawset, too.
function sandbox.seal(t) frozen[t] = true end

-- Adds a global that every run sees; for the runner, before the first run.
function sandbox.provide(name, item) globals[name] = item end

function sandbox.is_frozen(t) return frozen[t] end

-- A fresh environment: what a run sets as a global ends with the run.
function sandbox.environment()
  latest = setmetatable({}, environment)
  return latest
end

-- Goes back to an earlier one.
function sandbox.enter(env) latest = env end

-- The environment of the current run.
function sandbox.latest() return latest end

function sandbox.forget() latest = nil end

return sandbox
