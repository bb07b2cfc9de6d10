describe("notify_on_failure", function()
  local TASK = { task_name = "deploy", agent_name = "web-1", error = "disk full" }

  it("writes a notification, whichever way the payload is written", function()
    for _, data in ipairs({ TASK, { task = TASK } }) do
      local result = spec.run("task.failed", data)
      expect(result).to_succeed("Task deploy failed on web-1: disk full")
      expect(result).to_have_dispatched("notification.wanted", { text = "Task deploy failed on web-1: disk full" })
    end
  end)

  it("fails without a task", function()
    expect(spec.run("task.failed", {})).to_fail("no task")
  end)
end)
