describe("deliver_notification", function()
  local MAIL = { smtp_host = "smtp.example.com" }

  before_each(function()
    mock("secret", { get = function() return "https://hooks.slack.com/services/T0/B0/x" end })
    mock("notify", { slack = function() return true end, email = function() return true end })
  end)

  it("tells the chat", function()
    local result = spec.run("notification.wanted", { text = "build failed" }, { params = MAIL })
    expect(result).to_succeed("told the chat")
    expect(result.calls["notify.slack"][1][2]).to_be("build failed")
    expect(result).never.to_have_called("notify.email")
  end)

  it("sends urgent ones by mail, too", function()
    local result = spec.run("notification.wanted", { text = "build\nfailed" }, { priority = 1, params = MAIL })
    expect(result).to_succeed("by mail")
    expect(result.calls["notify.email"][1][1]).to_include({ subject = "build failed", body = "build\nfailed" })
  end)

  it("fails, to be tried again, when the chat is away", function()
    mock("notify", { slack = function() return nil, "the server answered 503" end })
    expect(spec.run("notification.wanted", { text = "x" })).to_fail("the server answered 503")
  end)

  it("says which secret is missing", function()
    mock("secret", { get = function() return nil, "there is no secret 'chat_webhook'" end })
    expect(spec.run("notification.wanted", { text = "x" })).to_fail("chat_webhook")
  end)

  it("cuts a long subject between two characters", function()
    local text = "a" .. string.rep("é", 60)
    local result = spec.run("notification.wanted", { text = text }, { priority = 1, params = MAIL })
    expect(result.calls["notify.email"][1][1]).to_include({ subject = "a" .. string.rep("é", 49), body = text })
  end)
end)
