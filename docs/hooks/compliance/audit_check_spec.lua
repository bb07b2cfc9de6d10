describe("audit_check", function()
  local crypto, state = require("crypto"), require("state")
  local FIRST = '{"id":"1","before":""}'
  local SECOND = '{"id":"2","before":"' .. crypto.sha256(FIRST) .. '"}'
  local trail = state.shared("audit")

  local function check(text, digest)
    mock("file", { read = function() return text, "no such file or directory" end })
    trail.set("last:audit-2026-11.jsonl", { digest = digest })
    return spec.run("schedule.triggered", { schedule_name = "audit" })
  end

  it("is content with what was written", function()
    local result = check(FIRST .. "\n" .. SECOND .. "\n", crypto.sha256(SECOND))
    expect(result).to_succeed("2 lines")
    expect(result.dispatched).to_have_length(0)
  end)

  it("goes over each file", function()
    trail.set("last:audit-2026-10.jsonl", { digest = crypto.sha256(FIRST) })
    expect(check(FIRST .. "\n", crypto.sha256(FIRST))).to_succeed("2 lines")
  end)

  it("takes a line that was written when the database went away", function()
    trail.set("begun:audit-2026-11.jsonl", { digest = crypto.sha256(SECOND) })
    expect(check(FIRST .. "\n" .. SECOND .. "\n", crypto.sha256(FIRST))).to_succeed("2 lines")
    expect(check(FIRST .. "\n", crypto.sha256(FIRST))).to_succeed("1 lines")
  end)

  it("notices a line that was changed, one that is missing, and a file that is", function()
    local changed = FIRST:gsub("1", "9") .. "\n" .. SECOND .. "\n"
    expect(check(changed, crypto.sha256(SECOND))).to_have_dispatched("security.breach", { severity = "critical" })
    expect(check(FIRST .. "\n", crypto.sha256(SECOND))).to_succeed("lines are missing behind line 1")
    expect(check(SECOND .. "\n", crypto.sha256(SECOND))).to_succeed("line 1 is not the one")
    expect(check(nil, crypto.sha256(SECOND))).to_have_dispatched("security.breach", { resource = "audit-2026-11.jsonl" })
  end)

  it("listens to its schedule only", function()
    expect(spec.run("schedule.triggered", { schedule_name = "nightly" }).filtered).to_be_true()
  end)

  local function with(functions)
    mock("state", { shared = function() return functions end })
    local result = spec.run("schedule.triggered", { schedule_name = "audit" })
    expect(result.dispatched).to_have_length(0)
    return result
  end

  it("raises no alarm when it could not look", function()
    local keys = function() return { "last:audit.jsonl" } end
    local held = function() return nil, "the lock 'trail' is held by another run" end
    expect(with({ keys = keys, with_lock = held })).to_fail("held by another run")
  end)

  it("raises no alarm when it has no answer of the database", function()
    local keys = function() return { "last:audit.jsonl" } end
    local away = function() return nil, "the database is away" end
    local with_lock = function(_, _, f) return f() end
    expect(with({ keys = away })).to_fail("the database is away")
    expect(with({ keys = keys, with_lock = with_lock, get = away })).to_fail("the database is away")
  end)
end)
