-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local FAILED = { task_name = "build", agent_name = "web-1", error = "no space left", exit_code = 2 }

  before_each(function()
    mock("secret", { get = function() return "https://hooks.slack.test/T0" end })
  end)

  it("posts the task and its error", function()
    mock("notify", { slack = function() return true end })
    local result = spec.run("task.failed", FAILED)
    expect(result).to_succeed("Slack was told")
    local url, message = table.unpack(result.calls["notify.slack"][1])
    expect(url).to_be("https://hooks.slack.test/T0")
    expect(message.text).to_be("Task build failed on web-1")
    expect(message.attachments[1].fields).to_contain({ value = "no space left" })
  end)

  it("fails, to be repeated, when Slack does not answer", function()
    mock("notify", { slack = function() return nil, "timed out" end })
    expect(spec.run("task.failed", FAILED)).to_fail("timed out")
  end)

  it("says that the secret is missing", function()
    mock("secret", { get = function() return nil, "there is no secret" end })
    expect(spec.run("task.failed", FAILED)).to_fail("there is no secret")
  end)
end)
