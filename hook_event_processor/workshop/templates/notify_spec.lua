-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  before_each(function()
    mock("secret", { get = function() return "a password" end })
    mock("notify", { email = function() return true end })
  end)

  it("mails what failed", function()
    local result = spec.run("backup.failed", { backup_id = "nightly", error = "disk full" })
    expect(result).to_succeed("operators@example.com")
    local mail = result.calls["notify.email"][1][1]
    expect(mail.subject).to_be("backup.failed: nightly")
    expect(mail.body).to_contain("disk full")
  end)

  it("mails to whom its parameters say", function()
    local result = spec.run("backup.failed", { backup_id = "nightly" }, { params = { to = "me@example.com" } })
    expect(result.calls["notify.email"][1][1].to).to_be("me@example.com")
  end)

  it("fails when the server refuses", function()
    mock("notify", { email = function() return nil, "550 no such user" end })
    expect(spec.run("backup.failed", {})).to_fail("550")
  end)

  it("mails about a backup without a name, too", function()
    local result = spec.run("backup.failed", { backup_id = require("json").null, error = require("json").null })
    expect(result.calls["notify.email"][1][1].subject).to_be("backup.failed: ?")
  end)
end)
