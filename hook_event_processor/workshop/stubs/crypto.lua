---@meta crypto

---Digests are hexadecimal.
local crypto = {}

---@param data string
---@return string
function crypto.md5(data) end

---@param data string
---@return string
function crypto.sha1(data) end

---@param data string
---@return string
function crypto.sha256(data) end

---@param data string
---@return string
function crypto.sha512(data) end

---@param algorithm "md5"|"sha1"|"sha256"|"sha512"
---@param key string
---@param data string
---@return string
function crypto.hmac(algorithm, key, data) end

---Takes as long for strings that differ early as for those that differ late.
---@param a string
---@param b string
---@return boolean
function crypto.equal(a, b) end

---@param data string
---@param options? { url?: boolean } with url: - and _ instead of + and /, no padding
---@return string
function crypto.base64_encode(data, options) end

---@param text string
---@param options? { url?: boolean }
---@return string? data
---@return string? reason
function crypto.base64_decode(text, options) end

---@param data string
---@return string
function crypto.hex_encode(data) end

---@param text string
---@return string? data
---@return string? reason
function crypto.hex_decode(text) end

---@param n integer
---@return string
function crypto.random_bytes(n) end

---@return string uuid a random one (version 4)
function crypto.uuid() end

---@return string uuid one that begins with the time (version 7)
function crypto.uuid7() end

---AES-256-GCM.
---@param data string
---@param key string 32 bytes
---@param bound? string what the text is bound to
---@return string
function crypto.encrypt(data, key, bound) end

---@param text string
---@param key string
---@param bound? string
---@return string? data
---@return string? reason
function crypto.decrypt(text, key, bound) end

return crypto
