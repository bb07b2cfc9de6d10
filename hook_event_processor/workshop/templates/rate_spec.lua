-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local function fail_login(user) return spec.run("security.login_failed", { user = user, ip_address = "192.0.2.7" }) end

  it("alerts three times and then holds back", function()
    for i = 1, 3 do
      expect(fail_login("ann")).to_have_dispatched("custom.alert", { is_last = i == 3 })
    end
    local fourth = fail_login("ann")
    expect(fourth).to_succeed("held back")
    expect(fourth.dispatched).to_have_length(0)
  end)

  it("counts each user by itself", function()
    for _ = 1, 4 do
      fail_login("ann")
    end
    expect(fail_login("bob")).to_have_dispatched("custom.alert")
  end)

  it("takes its limit from the parameters", function()
    local result = spec.run("security.login_failed", { user = "ann" }, { params = { limit = 0 } })
    expect(result).to_succeed("held back")
  end)

  it("counts users of any length, and none", function()
    expect(fail_login(string.rep("x", 10000))).to_succeed("number 1")
    expect(fail_login(string.rep("x", 9999))).to_succeed("number 1")
    expect(fail_login(require("json").null)).to_succeed("number 1")
    expect(fail_login(nil)).to_succeed("number 2")
  end)
end)
