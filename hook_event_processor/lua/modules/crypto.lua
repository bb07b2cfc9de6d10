-- crypto: digests, message authentication, encodings, random bytes, UUIDs,
-- and AES-256-GCM.
local parts = ...
local call = parts.call
local error, math_type, next, tostring, type = error, math.type, next, tostring, type

local function check(value, name, what)
  if type(value) ~= "string" then error("crypto." .. name .. " takes a string as " .. what .. ", not a " .. type(value), 3) end
end

local crypto = {}

-- crypto.sha256(data) -> 64 hexadecimal digits; the others likewise.
for _, algorithm in next, { "md5", "sha1", "sha256", "sha512" } do
  crypto[algorithm] = function(data)
    check(data, algorithm, "its data")
    return call("crypto.digest", algorithm, data)
  end
end

-- crypto.hmac(algorithm, key, data) -> hexadecimal digits.
function crypto.hmac(algorithm, key, data)
  check(algorithm, "hmac", "its algorithm")
  check(key, "hmac", "its key")
  check(data, "hmac", "its data")
  return call("crypto.hmac", algorithm, key, data)
end

-- crypto.equal(a, b) -> boolean: takes as long for two strings that differ in
-- their first byte as for two that differ in their last.
function crypto.equal(a, b)
  check(a, "equal", "its first argument")
  check(b, "equal", "its second argument")
  return call("crypto.equal", a, b)
end

local function url_safe(options, name)
  if options == nil then return false end
  if type(options) ~= "table" then error("crypto." .. name .. " takes a table of options, not a " .. type(options), 3) end
  for key in next, options do
    if key ~= "url" then error("crypto." .. name .. ": unknown option " .. tostring(key) .. "; it takes url", 3) end
  end
  if options.url ~= nil and type(options.url) ~= "boolean" then error("crypto." .. name .. ": url takes true or false", 3) end
  return options.url or false
end

-- With { url = true }: - and _ instead of + and /, and no padding.
function crypto.base64_encode(data, options)
  check(data, "base64_encode", "its data")
  return call("crypto.base64_encode", data, url_safe(options, "base64_encode"))
end

function crypto.base64_decode(text, options)
  check(text, "base64_decode", "its text")
  return call("crypto.base64_decode", text, url_safe(options, "base64_decode"))
end

function crypto.hex_encode(data)
  check(data, "hex_encode", "its data")
  return call("crypto.hex_encode", data)
end

function crypto.hex_decode(text)
  check(text, "hex_decode", "its text")
  return call("crypto.hex_decode", text)
end

function crypto.random_bytes(n)
  if math_type(n) ~= "integer" then error("crypto.random_bytes takes a whole number of bytes", 2) end
  return call("crypto.random_bytes", n)
end

-- crypto.uuid() -> a random UUID (version 4), as text.
function crypto.uuid() return call("crypto.uuid") end

-- crypto.uuid7() -> one that begins with the time, in milliseconds (version 7).
function crypto.uuid7() return call("crypto.uuid7") end

-- crypto.encrypt(data, key [, bound]) -> text. The key has 32 bytes. What the
-- text is bound to is not part of it, and must be the same to decrypt it.
function crypto.encrypt(data, key, bound)
  check(data, "encrypt", "its data")
  check(key, "encrypt", "its key")
  if bound ~= nil then check(bound, "encrypt", "what the text is bound to") end
  return call("crypto.encrypt", data, key, bound)
end

-- crypto.decrypt(text, key [, bound]) -> data, or nil and a reason.
function crypto.decrypt(text, key, bound)
  check(text, "decrypt", "its text")
  check(key, "decrypt", "its key")
  if bound ~= nil then check(bound, "decrypt", "what the text is bound to") end
  return call("crypto.decrypt", text, key, bound)
end

return crypto
