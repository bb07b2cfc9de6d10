-- What a run logs and prints, up to a limit.
local MAX_BYTES <const> = 64 * 1024
local concat, sub = table.concat, string.sub

local output = {}
local lines, count, size = {}, 0, 0

function output.reset()
  if count > 0 then lines, count, size = {}, 0, 0 end
end

function output.add(line)
  if size > MAX_BYTES then return end
  size = size + #line + 1
  count = count + 1
  if size > MAX_BYTES then
    line = sub(line, 1, #line - (size - MAX_BYTES)) .. "\n[output cut at " .. MAX_BYTES .. " bytes]"
  end
  lines[count] = line
end

-- Everything so far, or nil.
function output.text()
  if count == 0 then return nil end
  return concat(lines, "\n", 1, count)
end

return output
