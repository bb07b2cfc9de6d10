describe("failed_logins", function()
  local function read(line) return spec.run("log.pattern_matched", { path = "/var/log/auth.log", line = line }) end

  it("tells who failed, and from where", function()
    local result = read("Nov 23 12:00:01 web sshd[7]: Failed password for invalid user ada from 203.0.113.7 port 5022 ssh2")
    expect(result).to_have_dispatched("security.login_failed", { user = "ada", ip_address = "203.0.113.7" })
    result = read("2026-11-23T12:00:01+00:00 web sshd[7]: Failed publickey for root from 2001:db8::7 port 5022 ssh2")
    expect(result).to_have_dispatched("security.login_failed", { user = "root", ip_address = "2001:db8::7" })
  end)

  it("leaves all other lines alone", function()
    expect(read("Nov 23 12:00:01 web sshd[7]: Accepted publickey for ada from 203.0.113.7 port 5022 ssh2").dispatched).to_have_length(0)
    expect(read("Failed password for root from 203.0.113.7 port 5022").filtered).to_be_true()
  end)
end)
