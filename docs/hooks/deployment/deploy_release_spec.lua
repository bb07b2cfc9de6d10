describe("deploy_release", function()
  local DEPLOY = { deploy_id = "d1", service = "shop", version = "1.2.0" }

  before_each(function()
    mock("exec", { run = function() return { success = true, stdout = "", stderr = "" } end })
    mock("http", { get = function() return { status_code = 200 } end })
  end)

  it("deploys and looks at the health", function()
    local result = spec.run("deploy.built", DEPLOY)
    expect(result).to_succeed("shop 1.2.0 is live")
    expect(result.calls["http.get"][1][1]).to_be("https://shop.example.com/health")
    expect(result).to_have_dispatched("deploy.completed", { deploy_id = "d1" })
  end)

  it("asks for a rollback when it is not healthy", function()
    mock("http", { get = function() return { status_code = 503 } end })
    local result = spec.run("deploy.built", DEPLOY)
    expect(result).to_fail("health: the status is 503")
    expect(result).to_have_dispatched("deploy.failed", { rollback_needed = true })
  end)

  it("asks for a rollback when nothing answers", function()
    mock("http", { get = function() return nil, "connection refused" end })
    expect(spec.run("deploy.built", DEPLOY)).to_have_dispatched("deploy.failed", { error = "health: connection refused" })
  end)

  it("sets nothing back when the lock was not had", function()
    mock("state", { with_lock = function() return nil, "the lock 'release:shop' is held by another run" end })
    local result = spec.run("deploy.built", DEPLOY)
    expect(result).to_fail("held by another run")
    expect(result.dispatched).to_have_length(0)
  end)
end)
