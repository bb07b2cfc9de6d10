describe("lockout", function()
  local function fail(address) return spec.run("security.login_failed", { user = "root", ip_address = address }) end

  local function fail_often(address, times)
    local result
    for _ = 1, times do
      result = fail(address)
    end
    return result
  end

  before_each(function()
    mock("exec", { run = function() return { success = true, exit_code = 0, stdout = "", stderr = "" } end })
  end)

  it("blocks at the fifth failure, and only then", function()
    local fourth = fail_often("203.0.113.7", 4)
    expect(fourth).never.to_have_called("exec.run")
    local fifth = fail("203.0.113.7")
    expect(fifth).to_succeed("is blocked")
    expect(fifth.calls["exec.run"][1][1]).to_equal({ "systemctl", "start", "block-ipv4@203.0.113.7.service" })
    expect(fifth).to_have_dispatched("security.breach", { ip_address = "203.0.113.7", severity = "high" })
    expect(fail("203.0.113.7")).never.to_have_called("exec.run")
  end)

  it("counts each address by itself", function()
    fail_often("203.0.113.7", 4)
    expect(fail("2001:db8::7")).to_succeed("failed 1 times")
    local fifth = fail_often("2001:db8::7", 4)
    expect(fifth.calls["exec.run"][1][1]).to_equal({ "systemctl", "start", "block-ipv6@2001:db8::7.service" })
  end)

  it("tries again what did not work", function()
    mock("exec", { run = function() return { success = false, exit_code = 1, stderr = "Access denied" } end })
    expect(fail_often("203.0.113.7", 5)).to_fail("Access denied")
    expect(fail("203.0.113.7")).to_fail("Access denied")
  end)

  it("takes nothing but addresses", function()
    expect(fail("1.2.3.4 } ; flush ruleset")).to_fail("has no address")
  end)
end)
