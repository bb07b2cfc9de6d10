describe("deploy_build", function()
  local DEPLOY = { deploy_id = "d1", service = "shop", version = "1.2.0" }

  it("tests, builds and hands on", function()
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
    local result = spec.run("deploy.started", DEPLOY)
    expect(result).to_have_called("exec.run", 2)
    expect(result.calls["exec.run"][2][2].env.VERSION).to_be("1.2.0")
    expect(result).to_have_dispatched("deploy.built", DEPLOY)
  end)

  it("reports failed tests, which need no rollback", function()
    mock("exec", { run = function() return { success = false, stdout = "", stderr = "2 tests failed" } end })
    local result = spec.run("deploy.started", DEPLOY)
    expect(result).to_fail("test: 2 tests failed")
    expect(result).to_have_called("exec.run", 1)
    expect(result).to_have_dispatched("deploy.failed", { error = "test: 2 tests failed", rollback_needed = false })
  end)
end)
