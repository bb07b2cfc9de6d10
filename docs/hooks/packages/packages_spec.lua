describe("packages", function()
  local CURL = { package = "curl", version = "7.88", old_version = "7.87" }

  it("tells installs from upgrades and removals", function()
    expect(spec.run("package.installed", CURL)).to_succeed("curl 7.88 is new")
    expect(spec.run("package.upgraded", CURL)).to_succeed("curl 7.88 replaces 7.87")
    expect(spec.run("package.removed", CURL)).to_succeed("curl is gone, it was 7.87")
  end)

  it("leaves other events alone", function()
    expect(spec.run("package.held", CURL).filtered).to_be_true()
  end)
end)
