-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  it("greets by name", function()
    local result = spec.run("custom.greeting", { name = "world" })
    expect(result).to_succeed("Hello, world")
    expect(result.output).to_contain("name=world")
  end)

  it("fails without a name", function()
    expect(spec.run("custom.greeting", {})).to_fail("nobody to greet")
    expect(spec.run("custom.greeting", { name = require("json").null })).to_fail("nobody to greet")
  end)
end)
