-- How the library's modules call what Python does for them: call(name, ...)
-- returns its values, or nil and a reason for what was to be expected, and
-- raises for what the hook did wrong. Nothing comes back once the run is over.
local bridge, deadline = ...
local error, getinfo = error, debug.getinfo
local DONE <const>, FAILED <const> = 0, 1

-- Where the hook stands: the first frame that is not the processor's own.
local function position()
  local level = 3
  while true do
    local frame = getinfo(level, "Sl")
    if not frame then return "" end
    if frame.short_src ~= "(processor)" and frame.currentline > 0 then
      return frame.short_src .. ":" .. frame.currentline .. ": "
    end
    level = level + 1
  end
end

local function answer(status, ...)
  -- The limit was lifted for what came back: what does not fit fails from here on.
  bridge.confine(true)
  deadline.look()
  if status == DONE then return ... end
  if status == FAILED then return nil, (...) end
  error(position() .. (...), 0)
end

return function(name, ...)
  deadline.refuse_expired()
  return answer(bridge.call(name, deadline.ends_at(), ...))
end
