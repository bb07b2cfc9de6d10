-- describe, it, before_each and after_each: what a spec's text declares, and
-- calling one test of it with what stands around it.
local complain = ...
local error, ipairs, pcall, type = error, ipairs, pcall, type
local getinfo = debug.getinfo
local MAX_TESTS <const> = 2000

local declarations = {}
local tests, path -- what the spec's text declares, and the describes around it

local function declare(name, f, what)
  if type(name) ~= "string" or type(f) ~= "function" then complain(what .. " takes a name and a function") end
  if not tests then complain(what .. " stands at the top of the file or in describe, not in a test") end
end

function declarations.describe(name, f)
  declare(name, f, "describe")
  local outer = path
  path = { name = name, outer = outer, before = {}, after = {} }
  f()
  path = outer
end

function declarations.it(name, f)
  declare(name, f, "it")
  if #tests >= MAX_TESTS then complain("more than " .. MAX_TESTS .. " tests in one spec") end
  tests[#tests + 1] = { name = name, path = path, f = f, line = getinfo(f, "S").linedefined }
end

local function each(list, what)
  return function(f)
    if type(f) ~= "function" then complain(what .. " takes a function") end
    if not tests then complain(what .. " stands at the top of the file or in describe, not in a test") end
    local functions = path[list]
    functions[#functions + 1] = f
  end
end

declarations.before_each, declarations.after_each = each("before", "before_each"), each("after", "after_each")

-- All functions before a test, the outermost first; those after it, the innermost first.
local function around(block, list)
  local functions = {}
  while block do
    for i = #block[list], 1, -1 do
      functions[#functions + 1] = block[list][i]
    end
    block = block.outer
  end
  return functions
end

local function call_test(found)
  local before = around(found.path, "before")
  for i = #before, 1, -1 do
    before[i]()
  end
  local ok, reason = pcall(found.f)
  for _, after in ipairs(around(found.path, "after")) do
    local done, fault = pcall(after)
    -- The first failure is the one to tell: others may come of it.
    if ok and not done then
      ok, reason = false, fault
    end
  end
  if not ok then error(reason, 0) end
end

-- Runs the text of a spec, and the test of that number, if there is one; returns all tests.
function declarations.read_and_call(main, index)
  tests, path = {}, { before = {}, after = {} }
  main()
  local found = tests
  tests, path = nil, nil
  if index then call_test(found[index]) end
  return found
end

return declarations
