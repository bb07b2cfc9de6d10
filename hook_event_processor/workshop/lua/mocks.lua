-- mock("http", { post = function(...) end }): what a spec puts in a module's
-- place, for the hook alone; and the calls that the hook made of it.
local complain, json, is_module = ...
local getmetatable, pairs, rawget, setmetatable, type = getmetatable, pairs, rawget, setmetatable, type
local format, pack = string.format, table.pack
-- What reaches outside is never done by a spec; state is kept in memory by the dry run.
local OUTSIDE = { exec = true, env = true, file = true, http = true, notify = true, secret = true }

local mocks = {}
local given, made = {}, {} -- what the spec gave, and what hooks get for it
local calls

-- Calls by name; a name that was never called has none.
local function no_calls()
  return setmetatable({}, { __index = function() return {} end })
end

function mocks.begin() calls = no_calls() end

function mocks.calls() return calls end

local function note(name, ...)
  local list = rawget(calls, name)
  if not list then
    list = {}
    calls[name] = list
  end
  list[#list + 1] = pack(...)
end

-- mock("http", nil) takes the mock away again.
function mocks.set(name, functions)
  if type(name) ~= "string" then complain("mock takes a module's name first, not a " .. type(name)) end
  if not is_module(name) then complain("there is no module " .. name .. " to mock") end
  if functions ~= nil and type(functions) ~= "table" then
    complain("mock takes a table of functions, such as { get = function(...) end }, not a " .. type(functions))
  end
  given[name], made[name] = functions, nil
end

-- A response as hooks get it has json(), so that mocks need only status_code and body.
local with_json = {
  __index = function(response, name)
    if name == "json" then return function() return json.decode(response.body or "") end end
    return nil
  end,
}

local function answered(name, response, ...)
  if name == "http" and type(response) == "table" and not getmetatable(response) then
    response.headers = response.headers or {}
    setmetatable(response, with_json)
  end
  return response, ...
end

local function recorded(name, key, f)
  return function(...)
    note(name .. "." .. key, ...)
    return answered(name, f(...))
  end
end

local function missing(name, key)
  return function()
    complain(format('the hook calls %s.%s, which the spec does not mock: mock("%s", { %s = function(...) end })', name, key, name, key))
  end
end

local function module(name, functions, real)
  local members = {}
  for key, member in pairs(functions) do
    members[key] = type(member) == "function" and recorded(name, key, member) or member
  end
  return setmetatable(members, {
    __index = function(_, key)
      if OUTSIDE[name] then return missing(name, key) end
      return real[key]
    end,
    __metatable = false,
  })
end

-- require, as the hook sees it: `real` is the sandbox's own, which refuses what the hook's text does not name.
function mocks.require(real)
  return function(name)
    local found = real(name)
    if not given[name] and not OUTSIDE[name] then return found end
    if not made[name] then made[name] = module(name, given[name] or {}, found) end
    return made[name]
  end
end

return mocks
