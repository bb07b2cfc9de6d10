-- positioned(message) -> the message behind file and line of the author's text
-- that led here; complain(message) raises it.
local error, getinfo, tostring, type = error, debug.getinfo, tostring, type

local function positioned(message)
  if type(message) ~= "string" then message = tostring(message) end
  local level = 2
  while true do
    local frame = getinfo(level, "Sl")
    if not frame then return message end
    if frame.short_src ~= "(processor)" and frame.currentline > 0 then
      return frame.short_src .. ":" .. frame.currentline .. ": " .. message
    end
    level = level + 1
  end
end

local function complain(message) error(positioned(message), 0) end

return complain, positioned
