describe("backup_before", function()
  local EVENT = { id = "0198c0de-0000-7000-8000-000000000001", timestamp = 1795264511 }

  before_each(function()
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
    mock("file", {
      stat = function() return { size = 2048 } end,
      list = function() return { "backup-1.dump", "backup-2.dump", "notes.txt" } end,
      remove = function() return true end,
    })
  end)

  it("makes a backup before a deployment", function()
    local result = spec.run("deploy.started", {}, EVENT)
    expect(result).to_succeed("2048 bytes")
    expect(result.calls["exec.run"][1][1][2]).to_match("^/var/backups/hooks/backup%-20261121T123511Z%-%x+%.dump$")
    expect(result).to_have_dispatched("backup.completed", { size = 2048 })
    expect(result).never.to_have_called("file.remove")
  end)

  it("removes the oldest, and nothing but backups", function()
    local result = spec.run("deploy.started", {}, { params = { keep = 1 } })
    expect(result.calls["file.remove"]).to_have_length(1)
    expect(result.calls["file.remove"][1][1]).to_be("/var/backups/hooks/backup-1.dump")
  end)

  it("reports a backup that is not there", function()
    mock("file", { stat = function() return nil, "no such file or directory" end })
    local result = spec.run("deploy.started", {})
    expect(result).to_fail("nothing was written")
    expect(result).to_have_dispatched("backup.failed")
  end)

  it("listens to one schedule only", function()
    expect(spec.run("schedule.triggered", { schedule_name = "hourly" }).filtered).to_be_true()
    expect(spec.run("schedule.triggered", { schedule_name = "backup" })).to_succeed()
  end)

  it("reports a failure whatever the program said, and however much", function()
    local function says(stderr)
      mock("exec", { run = function() return { success = false, exit_code = 2, stdout = "", stderr = stderr } end })
      return spec.run("deploy.started", {}, EVENT)
    end
    local long = says("a" .. string.rep("é", 100000) .. "the end!!")
    expect(long.dispatched).to_have_length(1)
    expect(long.dispatched[1].data.error).to_match("éthe end!!$")
    expect(#long.dispatched[1].data.error < 5000).to_be_true()
    expect(says("\0 \255 no")).to_have_dispatched("backup.failed", { error = "? ? no" })
  end)
end)
