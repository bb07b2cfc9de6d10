-- Run by: hep hook spec __NAME__.lua
describe("__NAME__", function()
  local function changed(text, path)
    mock("file", { read = function() return text end })
    return spec.run("file.modified", { path = path or "/etc/app.yaml" })
  end

  it("is content with a file that has all keys", function()
    local result = changed("name: shop\nversion: 2\n")
    expect(result).to_succeed("is well")
    expect(result.dispatched).to_have_length(0)
  end)

  it("tells of a missing key", function()
    local result = changed("name: shop\n")
    expect(result).to_have_dispatched("system.warning", { component = "config" })
    expect(result.message).to_contain("the key version is missing")
  end)

  it("tells of a file that is no YAML", function()
    expect(changed("name: [")).to_have_dispatched("system.warning")
  end)

  it("leaves other files alone", function()
    expect(changed("", "/etc/passwd").filtered).to_be_true()
  end)
end)
