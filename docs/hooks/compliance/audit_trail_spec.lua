describe("audit_trail", function()
  local crypto, json = require("crypto"), require("json")

  local function run(id, data)
    local result = spec.run("secret.accessed", data or {}, { id = "0198c0de-0000-7000-8000-00000000000" .. id })
    local call = result.calls["file.append"][1]
    return result, call and call[2], call and json.decode(call[2])
  end

  before_each(function()
    mock("file", { append = function() return true end })
  end)

  it("chains its lines", function()
    local _, first, entry = run(1, { secret_name = "db_password" })
    expect(entry.before).to_be("")
    expect(entry.data).to_equal({ secret_name = "db_password" })
    local _, _, second = run(2)
    expect(second.before).to_be(crypto.sha256(first:sub(1, -2)))
  end)

  it("writes an event once", function()
    run(1)
    expect(run(1)).to_succeed("already")
  end)

  it("fails when it cannot write, and keeps the chain", function()
    mock("file", { append = function() return nil, "no space left on device" end })
    expect(run(1)).to_fail("no space left on device")
    mock("file", { append = function() return true end })
    local _, _, entry = run(1)
    expect(entry.before).to_be("")
  end)

  it("writes nothing while it cannot read what came before", function()
    local shared = {
      with_lock = function(_, _, f) return f() end,
      get = function() return nil, "the database is away" end,
      set = function() return true end,
    }
    mock("state", { shared = function() return shared end })
    local result = run(1)
    expect(result).to_fail("the database is away")
    expect(result).never.to_have_called("file.append")
  end)
end)
