describe("audit_check", function()
  local crypto = require("crypto")
  local FIRST = '{"id":"1","before":""}'
  local SECOND = '{"id":"2","before":"' .. crypto.sha256(FIRST) .. '"}'

  local function check(text, digest)
    mock("file", { read = function() return text end })
    require("state").shared("audit").set("digest", digest)
    return spec.run("schedule.triggered", { schedule_name = "audit" })
  end

  it("is content with what was written", function()
    local result = check(FIRST .. "\n" .. SECOND .. "\n", crypto.sha256(SECOND))
    expect(result).to_succeed("2 lines")
    expect(result.dispatched).to_have_length(0)
  end)

  it("notices a line that was changed, and one that is missing", function()
    local changed = FIRST:gsub("1", "9") .. "\n" .. SECOND .. "\n"
    expect(check(changed, crypto.sha256(SECOND))).to_have_dispatched("security.breach", { severity = "critical" })
    expect(check(FIRST .. "\n", crypto.sha256(SECOND))).to_succeed("lines are missing behind line 1")
    expect(check(SECOND .. "\n", crypto.sha256(SECOND))).to_succeed("line 1 is not the one")
  end)

  it("listens to its schedule only", function()
    expect(spec.run("schedule.triggered", { schedule_name = "nightly" }).filtered).to_be_true()
  end)

  it("raises no alarm when it could not look", function()
    local function with_lock() return nil, "the lock 'trail' is held by another run" end
    mock("state", { shared = function() return { with_lock = with_lock } end })
    local result = spec.run("schedule.triggered", { schedule_name = "audit" })
    expect(result).to_fail("held by another run")
    expect(result.dispatched).to_have_length(0)
  end)

  it("raises no alarm when it has no answer of the database", function()
    local shared = { with_lock = function(_, _, f) return f() end, get = function() return nil, "the database is away" end }
    mock("state", { shared = function() return shared end })
    local result = spec.run("schedule.triggered", { schedule_name = "audit" })
    expect(result).to_fail("the database is away")
    expect(result.dispatched).to_have_length(0)
  end)
end)
