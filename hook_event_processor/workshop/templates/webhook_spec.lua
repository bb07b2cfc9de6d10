-- Run by: hep hook spec __NAME__.lua
local crypto = require("crypto")
local json = require("json")

describe("__NAME__", function()
  local function run(response, reason)
    mock("secret", { get = function() return "a key" end })
    mock("http", { post = function() return response, reason end })
    return spec.run("deploy.completed", { service = "shop", version = "1.2.0" })
  end

  it("sends the event, signed", function()
    local result = run({ status_code = 202 })
    expect(result).to_succeed("passed on")
    local request = result.calls["http.post"][1][2]
    expect(json.decode(request.body).data.version).to_be("1.2.0")
    expect(request.headers["X-Signature"]).to_be("sha256=" .. crypto.hmac("sha256", "a key", request.body))
  end)

  it("fails, to be repeated, when the receiver is not there", function()
    expect(run(nil, "connection refused")).to_fail("connection refused")
  end)

  it("fails when the receiver refuses", function()
    expect(run({ status_code = 500 })).to_fail("500")
  end)
end)
