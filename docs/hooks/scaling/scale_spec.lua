describe("scale", function()
  local function run(action)
    return spec.run("system." .. action, { current = 93 }, { params = { most = 4 } })
  end

  before_each(function()
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
  end)

  it("adds a machine, and then cools down", function()
    local result = run("cpu_high")
    expect(result).to_succeed("2 -> 3 machines")
    expect(result.calls["exec.run"][1][1]).to_equal({ "set-machines", 3 })
    expect(run("cpu_high")).to_succeed("cooling down")
  end)

  it("keeps the least", function()
    expect(run("cpu_normal")).to_succeed("it stays so")
  end)

  it("counts only what worked", function()
    mock("exec", { run = function() return { success = false, stderr = "quota exceeded" } end })
    expect(run("cpu_high")).to_fail("quota exceeded")
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
    expect(run("cpu_high")).to_succeed("2 -> 3 machines")
  end)

  it("fails, to be repeated, when the database is away", function()
    mock("state", { compare_and_swap = function() return nil, "the database is away" end })
    expect(run("cpu_high")).to_fail("the database is away")
  end)

  it("fails, to be repeated, when the number cannot be read", function()
    mock("state", { get = function() return nil, "the database is away" end })
    expect(run("cpu_high")).to_fail("the database is away")
  end)
end)
