-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local CHECK = { schedule_name = "health_check" }

  local function answer(status)
    mock("http", { get = function() return { status_code = status } end })
  end

  it("is content with 200", function()
    answer(200)
    local result = spec.run("schedule.triggered", CHECK)
    expect(result).to_succeed("is well")
    expect(result.dispatched).to_have_length(0)
  end)

  it("leaves other schedules alone", function()
    expect(spec.run("schedule.triggered", { schedule_name = "backup" }).filtered).to_be_true()
  end)

  it("tells of the third failure in a row, once", function()
    answer(503)
    spec.run("schedule.triggered", CHECK)
    expect(spec.run("schedule.triggered", CHECK).dispatched).to_have_length(0)
    local third = spec.run("schedule.triggered", CHECK)
    expect(third).to_have_dispatched("health.check_failed", { consecutive_failures = 3 })
    expect(spec.run("schedule.triggered", CHECK).dispatched).to_have_length(0)
  end)

  it("tells that it recovered", function()
    mock("http", { get = function() return nil, "connection refused" end })
    for _ = 1, 3 do
      spec.run("schedule.triggered", CHECK)
    end
    answer(200)
    expect(spec.run("schedule.triggered", CHECK)).to_have_dispatched("health.recovered")
  end)
end)
