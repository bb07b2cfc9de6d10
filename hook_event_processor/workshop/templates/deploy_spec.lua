-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local DEPLOY = { deploy_id = "d1", service = "shop", version = "1.2.0" }

  local function targets(result)
    local made = {}
    for i, arguments in ipairs(result.calls["exec.run"]) do
      made[i] = arguments[1][2]
    end
    return made
  end

  before_each(function()
    mock("exec", { run = function() return { success = true, exit_code = 0, stdout = "", stderr = "" } end })
    mock("http", { get = function() return { status_code = 200 } end })
  end)

  it("tests, deploys and tells of it", function()
    local result = spec.run("deploy.started", DEPLOY)
    expect(result).to_succeed("1.2.0 is on staging")
    expect(targets(result)).to_equal({ "test", "deploy-staging" })
    expect(result).to_have_dispatched("deploy.completed", { version = "1.2.0" })
  end)

  it("stops at failed tests", function()
    mock("exec", { run = function() return { success = false, exit_code = 2, stderr = "2 tests failed" } end })
    local result = spec.run("deploy.started", DEPLOY)
    expect(result).to_fail("2 tests failed")
    expect(targets(result)).to_equal({ "test" })
    expect(result).to_have_dispatched("deploy.failed", { rollback_needed = false })
  end)

  it("rolls back what does not come up", function()
    mock("http", { get = function() return { status_code = 502 } end })
    local result = spec.run("deploy.started", DEPLOY)
    expect(result).to_fail("the status is 502")
    expect(targets(result)).to_equal({ "test", "deploy-staging", "rollback-staging" })
    expect(result).to_have_dispatched("deploy.failed", { rollback_needed = true })
  end)

  it("reports a failure whatever the program said, and however much", function()
    local function says(stderr)
      mock("exec", { run = function() return { success = false, exit_code = 2, stdout = "", stderr = stderr } end })
      return spec.run("deploy.started", DEPLOY)
    end
    local long = says("a" .. string.rep("é", 100000) .. "the end!!")
    expect(long.dispatched).to_have_length(1)
    expect(long.dispatched[1].data.error).to_match("éthe end!!$")
    expect(#long.dispatched[1].data.error < 5000).to_be_true()
    expect(says("\0 \255 no")).to_have_dispatched("deploy.failed", { error = "test: ? ? no" })
  end)
end)
