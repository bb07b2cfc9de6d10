-- Runs a deployment: tests, staging, a smoke test; and dispatches how it ended.
-- The program must be permitted on the host: HOOK_EXEC=make
local event_module = require("event")
local exec = require("exec")
local http = require("http")
local log = require("log")

local hook = {
  name = "__NAME__",
  description = "Tests a version and brings it to staging",
  event_type = "deploy.started",
  timeout = 600, -- seconds, for all of it
  params = {
    directory = "/srv/app",
    health = "https://staging.example.com/health",
  },
}

-- The end of what a program said, as event.dispatch takes it: UTF-8 of no great length.
local function tail(text)
  text = text:sub(-4000):gsub("^[\128-\191]+", ""):gsub("\0", "?")
  return utf8.len(text) and text or (text:gsub("[\128-\255]", "?"))
end

local function failed(deploy, step, reason)
  -- What is dispatched is kept though the run fails.
  event_module.dispatch("deploy.failed", {
    deploy_id = deploy.deploy_id,
    service = deploy.service,
    error = step .. ": " .. reason,
    rollback_needed = step == "smoke test",
  })
  error(step .. " failed: " .. reason, 0)
end

local function make(deploy, target)
  log.info("make", { target = target, version = deploy.version })
  local result, reason = exec.run({ "make", target }, { cwd = hook.params.directory, timeout = 300 })
  if not result then failed(deploy, target, reason) end
  if not result.success then failed(deploy, target, tail(result.stderr)) end
end

function hook.execute(event)
  local deploy = event.data
  make(deploy, "test")
  make(deploy, "deploy-staging")

  local response, reason = http.get(hook.params.health, { retries = 2 })
  if not response or response.status_code ~= 200 then
    make(deploy, "rollback-staging")
    failed(deploy, "smoke test", reason or "the status is " .. response.status_code)
  end

  event_module.dispatch("deploy.completed", {
    deploy_id = deploy.deploy_id,
    service = deploy.service,
    version = deploy.version,
  })
  return true, "version " .. tostring(deploy.version) .. " is on staging"
end

return hook
