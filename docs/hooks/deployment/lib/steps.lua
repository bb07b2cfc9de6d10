-- Steps of a deployment, each a target of make.
local exec = require("exec")
local log = require("log")

local steps = {}

-- The end of what a program said, as event.dispatch takes it: UTF-8 of no great length.
local function tail(text)
  text = text:sub(-4000):gsub("^[\128-\191]+", ""):gsub("\0", "?")
  return utf8.len(text) and text or (text:gsub("[\128-\255]", "?"))
end

-- Raises with what the step said when it failed.
function steps.make(target, deploy, directory)
  log.info("make", { target = target, version = deploy.version })
  local result, reason = exec.run({ "make", target }, {
    cwd = directory,
    timeout = 600,
    env = { VERSION = tostring(deploy.version), SERVICE = tostring(deploy.service) },
  })
  if not result then error(target .. ": " .. reason, 0) end
  if not result.success then error(target .. ": " .. tail(result.stderr ~= "" and result.stderr or result.stdout), 0) end
end

-- The fields that every event of a deployment carries on.
function steps.carried(deploy, more)
  local data = { deploy_id = deploy.deploy_id, service = deploy.service, version = deploy.version }
  for name, value in pairs(more or {}) do
    data[name] = value
  end
  return data
end

return steps
