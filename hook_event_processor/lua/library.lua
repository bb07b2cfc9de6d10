-- require: the modules that a hook's text names, and the shared Lua code that
-- was added as lib.NAME, which runs once in each run, in its environment.
local sandbox, modules, load_module, run = ...
local error, next, setmetatable, tostring, setupvalue = error, next, setmetatable, tostring, debug.setupvalue
local match, sort, concat = string.match, table.sort, table.concat

-- What is closed as a library's text ends: unlike pcall it leaves an error its traceback, and the deadline its way.
local ATTEMPT = { __close = function(attempt, reason)
  attempt.is_over, attempt.reason = true, reason
end }
local library = {}
local loaded, attempts, any_loaded = {}, {}, false

-- Before each run.
function library.begin()
  if any_loaded then
    loaded, attempts, any_loaded = {}, {}, false
  end
end

-- After each run: nothing that it holds may stay.
function library.forget()
  if any_loaded then
    for _, main in next, run.libraries do
      setupvalue(main, 1, nil)
    end
    loaded, attempts, any_loaded = {}, {}, false
  end
end

-- Tells what the runs that follow may require.
function library.allow(unit)
  run.effectful, run.named, run.libraries = unit.effectful, unit.named, unit.libraries
  for name in next, unit.named do
    load_module(name)
  end
end

-- Called in place of require, which is gone from the stack: level 2 is who requires.
local function shared(name)
  local main = run.libraries[name]
  if not main then error("there is no library " .. name .. " for this hook: its text does not name it, or it was removed", 2) end
  local made = loaded[name]
  if made ~= nil then return made end
  local earlier = attempts[name]
  if earlier and earlier.is_over then error(earlier.reason, 0) end
  if earlier then error("a library cannot require itself: lib." .. name, 2) end
  local attempt <close> = setmetatable({}, ATTEMPT)
  attempts[name], any_loaded = attempt, true
  setupvalue(main, 1, sandbox.latest())
  made = main()
  if made == nil then made = true end
  loaded[name] = made
  return made
end

local function names_of(t)
  local names = {}
  for name in next, t do
    names[#names + 1] = name
  end
  sort(names)
  return concat(names, ", ")
end

sandbox.provide("require", function(name)
  if run.named[name] then return modules[name] end
  local library_name = type(name) == "string" and match(name, "^lib%.(.+)$")
  if library_name then return shared(library_name) end
  -- What a hook may do follows from the modules that its text names.
  error(
    "the hook's text does not name the module " .. tostring(name) .. ": write require(\"...\") with the name itself, or list it in requires = {}"
      .. (next(run.named) and "; it names " .. names_of(run.named) or ""),
    2
  )
end)

return library
