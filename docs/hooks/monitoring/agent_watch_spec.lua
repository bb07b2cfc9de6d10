describe("agent_watch", function()
  local function run(event_type, data, at)
    return spec.run(event_type, data or { name = "web-1" }, { timestamp = at or 1000 })
  end

  it("looks again after a while, once", function()
    local first = run("agent.disconnected")
    expect(first).to_have_dispatched("custom.agent_check", { name = "web-1" })
    expect(first.dispatched[1].delay).to_be(120)
    expect(run("agent.heartbeat_failed", nil, 1010).dispatched).to_have_length(0)
  end)

  it("raises an alert when the agent is still away", function()
    local data = run("agent.disconnected").dispatched[1].data
    expect(run("custom.agent_check", data)).to_have_dispatched("alert.raised", { agent = "web-1" })
  end)

  it("says nothing of an agent that is back", function()
    local data = run("agent.disconnected").dispatched[1].data
    expect(run("agent.connected")).to_succeed("web-1 is back")
    expect(run("custom.agent_check", data).dispatched).to_have_length(0)
  end)

  it("tells one absence from the next", function()
    local data = run("agent.disconnected").dispatched[1].data
    run("agent.connected")
    run("agent.disconnected", nil, 2000)
    expect(run("custom.agent_check", data)).to_succeed("was back in time")
  end)

  it("reads events that have the agent's name elsewhere", function()
    expect(run("agent.disconnected", { agent = { name = "db-1" } })).to_succeed("db-1 is away")
    expect(run("agent.disconnected", {})).to_fail("names no agent")
  end)

  it("fails, to be repeated, when the database is away", function()
    mock("state", { compare_and_swap = function() return nil, "the database is away" end })
    expect(run("agent.disconnected")).to_fail("the database is away")
  end)

  it("neither forgets an agent nor takes it for back without the database", function()
    local function no_answer() return nil, "the database is away" end
    mock("state", { get = no_answer, delete = no_answer })
    expect(run("agent.connected")).to_fail("the database is away")
    expect(run("custom.agent_check", { name = "web-1", since = 1000 })).to_fail("the database is away")
  end)
end)
