-- Steps of a deployment, each a target of make.
local exec = require("exec")
local log = require("log")

local steps = {}

-- Raises with what the step said when it failed.
function steps.make(target, deploy, directory)
  log.info("make", { target = target, version = deploy.version })
  local result, reason = exec.run({ "make", target }, {
    cwd = directory,
    timeout = 600,
    env = { VERSION = tostring(deploy.version), SERVICE = tostring(deploy.service) },
  })
  if not result then error(target .. ": " .. reason, 0) end
  if not result.success then error(target .. ": " .. (result.stderr ~= "" and result.stderr or result.stdout), 0) end
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
