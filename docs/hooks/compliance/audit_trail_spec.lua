describe("audit_trail", function()
  local crypto, json, state = require("crypto"), require("json"), require("state")
  local lines, full

  local function size()
    local sum = 0
    for _, line in ipairs(lines) do
      sum = sum + #line
    end
    return sum
  end

  local function append(_, line)
    if full then return nil, "no space left on device" end
    lines[#lines + 1] = line
    return true
  end

  local function run(id, data)
    return spec.run("secret.accessed", data or {}, { id = "0198c0de-0000-7000-8000-00000000000" .. id })
  end

  before_each(function()
    lines, full = {}, false
    mock("file", {
      append = append,
      exists = function() return #lines > 0 end,
      stat = function() return { size = size() } end,
    })
  end)

  it("chains its lines", function()
    run(1, { secret_name = "db_password" })
    run(2)
    local first, second = json.decode(lines[1]), json.decode(lines[2])
    expect(first.before).to_be("")
    expect(first.data).to_equal({ secret_name = "db_password" })
    expect(second.before).to_be(crypto.sha256(lines[1]:sub(1, -2)))
  end)

  it("writes an event once", function()
    run(1)
    expect(run(1)).to_succeed()
    expect(lines).to_have_length(1)
  end)

  it("fails when it cannot write, and keeps the chain", function()
    full = true
    expect(run(1)).to_fail("no space left on device")
    full = false
    run(2)
    run(1)
    expect(json.decode(lines[1]).before).to_be("")
    expect(json.decode(lines[2]).before).to_be(crypto.sha256(lines[1]:sub(1, -2)))
  end)

  local function away_from(nth)
    local shared, count = state.shared("audit"), 0
    mock("state", {
      shared = function()
        return {
          with_lock = function(_, _, f) return f() end,
          get = shared.get,
          set = function(key, value)
            count = count + 1
            if count == nth then return nil, "the database is away" end
            return shared.set(key, value)
          end,
        }
      end,
    })
  end

  it("writes a line once when the database goes away behind it, whoever comes next", function()
    for _, ids in ipairs({ { 1, 1, 2 }, { 3, 4, 3 } }) do
      away_from(2)
      expect(run(ids[1])).to_fail("the database is away")
      expect(run(ids[2])).to_succeed()
      expect(run(ids[3])).to_succeed()
    end
    expect(lines).to_have_length(4)
    for i = 2, 4 do
      expect(json.decode(lines[i]).before).to_be(crypto.sha256(lines[i - 1]:sub(1, -2)))
    end
  end)

  it("writes nothing while it cannot read what came before", function()
    local shared = {
      with_lock = function(_, _, f) return f() end,
      get = function() return nil, "the database is away" end,
      set = function() return true end,
    }
    mock("state", { shared = function() return shared end })
    expect(run(1)).to_fail("the database is away")
    expect(lines).to_have_length(0)
  end)
end)
