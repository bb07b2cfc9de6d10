-- Run by: hep hook spec __NAME__.lua
local json = require("json")

describe("__NAME__", function()
  it("appends one line of JSON", function()
    mock("file", { append = function() return true end })
    local result = spec.run("security.breach", { user = "ann" }, { stack = "production" })
    expect(result).to_succeed()
    local path, line = table.unpack(result.calls["file.append"][1])
    expect(path).to_be("audit.jsonl")
    expect(line).to_match("\n$")
    expect(json.decode(line)).to_include({ type = "security.breach", stack = "production", data = { user = "ann" } })
  end)

  it("fails, to be repeated, when the disk is full", function()
    mock("file", { append = function() return nil, "no space left" end })
    expect(spec.run("security.breach", {})).to_fail("no space left")
  end)
end)
