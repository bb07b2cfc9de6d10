-- What a run logs and prints, up to a limit.
local MAX_BYTES <const> = 64 * 1024
local concat, sub = table.concat, string.sub
local byte = string.byte

local output = {}
local lines, count, size = {}, 0, 0

-- What a run that was cut off had written is nobody's.
function output.reset()
  if count > 0 then
    lines, count, size = {}, 0, 0
  end
end

-- The first `length` bytes, without a part of a character at their end.
local function cut(line, length)
  while length > 0 do
    local after = byte(line, length + 1)
    if not after or after < 0x80 or after >= 0xC0 then break end
    length = length - 1
  end
  return sub(line, 1, length)
end

local function add(line)
  if size > MAX_BYTES then return end
  size = size + #line + 1
  count = count + 1
  if size > MAX_BYTES then
    line = cut(line, #line + 1 - (size - MAX_BYTES)) .. "\n[output cut at " .. MAX_BYTES .. " bytes]"
  end
  lines[count] = line
end
output.add = add

-- All that was written and a last line, which may be nil; or nil when there is nothing.
function output.take(last)
  if count == 0 and (not last or #last < MAX_BYTES) then return last end
  if last then add(last) end
  local text = concat(lines, "\n", 1, count)
  lines, count, size = {}, 0, 0
  return text
end

return output
