describe("notify_on_high_load", function()
  it("tells of what runs hot, first", function()
    local result = spec.run("system.cpu_high", { current = 93.5 }, { stack = "production" })
    expect(result.dispatched).to_equal({
      { type = "notification.wanted", data = { text = "system.cpu_high: 93 %" }, stack = "production", priority = 2 },
    })
  end)

  it("leaves the rest alone", function()
    expect(spec.run("system.memory_low", { current = 80 }, { stack = "production" }).filtered).to_be_true()
  end)
end)
