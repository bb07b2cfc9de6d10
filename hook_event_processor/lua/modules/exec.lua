-- exec: exec.run("make test") or exec.run({"make", "test"} [, {cwd, env, stdin, timeout}])
-- -> {exit_code, stdout, stderr, success, duration_ms, timed_out}, or nil and a reason
-- when the program cannot be started. No shell reads either form.
local parts = ...
local call = parts.call
local error, next, rawlen, tostring, type = error, next, rawlen, tostring, type
local find, math_type, concat = string.find, math.type, table.concat
local MAX_ARGUMENTS <const> = 4096
local OPTIONS = { cwd = true, env = true, stdin = true, timeout = true }

-- Arguments and variables cross with NUL between them: none can hold one.
local function text_of(value, what, level)
  local text = math_type(value) and tostring(value) or value
  if type(text) ~= "string" then error("exec.run: " .. what .. " takes a string, not a " .. type(value), level or 4) end
  if find(text, "\0", 1, true) then error("exec.run: " .. what .. " holds a NUL byte, which no program can be given", level or 4) end
  return text
end

local function listed(arguments)
  local n, texts = rawlen(arguments), {}
  if n == 0 then error('exec.run takes a list of arguments, like {"make", "test"}: this one is empty', 3) end
  if n > MAX_ARGUMENTS then error("exec.run: " .. n .. " arguments: at most " .. MAX_ARGUMENTS, 3) end
  for i = 1, n do
    texts[i] = text_of(arguments[i], "argument " .. i)
  end
  if texts[1] == "" then error("exec.run: the program's name is empty", 3) end
  return concat(texts, "\0")
end

local function environment(variables)
  if variables == nil then return nil end
  if type(variables) ~= "table" then error("exec.run: env takes a table like {NAME = value}, not a " .. type(variables), 3) end
  local pairs_of, n = {}, 0
  for name, value in next, variables do
    if type(name) ~= "string" or not find(name, "^[%a_][%w_]*$") then
      error("exec.run: env takes names of letters, digits and _, not " .. tostring(name), 3)
    end
    n = n + 1
    pairs_of[n] = name .. "=" .. text_of(value, "env." .. name)
  end
  return n > 0 and concat(pairs_of, "\0") or nil
end

local function directory(cwd)
  if cwd == nil then return nil end
  if find(text_of(cwd, "cwd"), "^/") then return cwd end
  error("exec.run: cwd takes an absolute path, not " .. cwd, 3)
end

local function check(options)
  if type(options) ~= "table" then error("exec.run takes a table of options, not a " .. type(options), 3) end
  for key in next, options do
    if not OPTIONS[key] then error("exec.run: unknown option " .. tostring(key) .. "; it takes cwd, env, stdin, timeout", 3) end
  end
  local stdin, timeout = options.stdin, options.timeout
  if stdin ~= nil and type(stdin) ~= "string" then error("exec.run: stdin takes a string, not a " .. type(stdin), 3) end
  if timeout ~= nil and not (math_type(timeout) and timeout > 0) then
    error("exec.run: timeout takes a number of seconds above 0", 3)
  end
  return stdin, timeout
end

local exec = {}

function exec.run(command, options)
  local line, list
  if type(command) == "string" then
    line = text_of(command, "the command", 3)
  elseif type(command) == "table" then
    list = listed(command)
  else
    error("exec.run takes a command, or a list of arguments, not a " .. type(command), 2)
  end
  local cwd, env, stdin, timeout
  if options ~= nil then
    stdin, timeout = check(options)
    cwd, env = directory(options.cwd), environment(options.env)
  end
  local exit_code, stdout, stderr, duration_ms, timed_out = call("exec.run", line, list, cwd, env, stdin, timeout)
  if exit_code == nil then return nil, stdout end
  return {
    exit_code = exit_code,
    stdout = stdout,
    stderr = stderr,
    success = exit_code == 0 and not timed_out,
    duration_ms = duration_ms,
    timed_out = timed_out,
  }
end

return exec
