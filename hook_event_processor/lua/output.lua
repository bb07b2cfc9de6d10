-- What a run logs and prints, up to a limit.
local MAX_BYTES <const> = 64 * 1024
local concat, sub = table.concat, string.sub
local byte = string.byte

local output = {}
local lines, count, size = {}, 0, 0

function output.reset()
  if count > 1 then lines = {} end
  lines[1], count, size = nil, 0, 0
end

-- The first `length` bytes, without a part of a character at their end.
local function cut(line, length)
  while length > 0 do
    local after = byte(line, length + 1)
    if after < 0x80 or after >= 0xC0 then break end
    length = length - 1
  end
  return sub(line, 1, length)
end

function output.add(line)
  if size > MAX_BYTES then return end
  size = size + #line + 1
  count = count + 1
  if size > MAX_BYTES then
    line = cut(line, #line + 1 - (size - MAX_BYTES)) .. "\n[output cut at " .. MAX_BYTES .. " bytes]"
  end
  lines[count] = line
end

-- Everything so far, or nil.
function output.text()
  if count <= 1 then return lines[1] end
  return concat(lines, "\n", 1, count)
end

return output
