-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  before_each(function()
    mock("exec", { run = function() return { success = true, exit_code = 0, stdout = "", stderr = "" } end })
  end)

  it("restarts the service", function()
    local result = spec.run("service.failed", { service = "nginx" })
    expect(result).to_succeed("restarted nginx")
    expect(result.calls["exec.run"][1][1]).to_equal({ "systemctl", "restart", "--", "nginx" })
  end)

  it("leaves other services alone", function()
    local result = spec.run("service.failed", { service = "sshd" })
    expect(result.filtered).to_be_true()
    expect(result).never.to_have_called("exec.run")
  end)

  it("gives up after three times, and says so", function()
    for _ = 1, 3 do
      expect(spec.run("service.failed", { service = "nginx" })).to_have_called("exec.run")
    end
    local fourth = spec.run("service.failed", { service = "nginx" })
    expect(fourth).never.to_have_called("exec.run")
    expect(fourth).to_have_dispatched("health.degraded", { service = "nginx" })
  end)
end)
