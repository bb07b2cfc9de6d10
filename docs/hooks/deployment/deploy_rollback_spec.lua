describe("deploy_rollback", function()
  local FAILED = { deploy_id = "d1", service = "shop", version = "1.2.0", error = "health", rollback_needed = true }

  it("sets back what needs it", function()
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
    local result = spec.run("deploy.failed", FAILED)
    expect(result.calls["exec.run"][1][1]).to_equal({ "make", "rollback" })
    expect(result).to_have_dispatched("deploy.rollback", { reason = "health" })
  end)

  it("leaves alone what was never deployed", function()
    expect(spec.run("deploy.failed", { rollback_needed = false }).filtered).to_be_true()
  end)
end)
