-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local BUSY = { resource = { current = 97 } }

  before_each(function()
    mock("exec", { run = function() return { success = true, exit_code = 0, stdout = "", stderr = "" } end })
  end)

  it("scales up once, then cools down", function()
    local first = spec.run("system.cpu_high", BUSY)
    expect(first).to_succeed("scaled up")
    expect(first.calls["exec.run"][1][1]).to_equal({ "add-machine", "--reason", "cpu" })
    local second = spec.run("system.cpu_high", BUSY)
    expect(second).to_succeed("cooling down")
    expect(second).never.to_have_called("exec.run")
  end)

  it("leaves a load below the threshold alone", function()
    expect(spec.run("system.cpu_high", { resource = { current = 50 } })).never.to_have_called("exec.run")
  end)

  it("can try again at once after a failure", function()
    mock("exec", { run = function() return { success = false, exit_code = 1, stderr = "no quota" } end })
    expect(spec.run("system.cpu_high", BUSY)).to_fail("no quota")
    expect(spec.run("system.cpu_high", BUSY)).to_fail("no quota")
  end)

  it("fails, to be repeated, when the database is away", function()
    mock("state", { compare_and_swap = function() return nil, "the database is away" end })
    expect(spec.run("system.cpu_high", BUSY)).to_fail("the database is away")
  end)
end)
