-- time: now() -> seconds since 1970, with a fraction; sleep(seconds);
-- parse(text) -> seconds and format(seconds [, layout [, zone]]) -> text;
-- duration("1h30m") -> seconds and human(seconds) -> "1h30m".
local parts = ...
local bridge, call, deadline, run = parts.bridge, parts.call, parts.deadline, parts.run
local date, floor, math_type = os.date, math.floor, math.type
local concat, error, ipairs, pcall, tonumber, tostring, type = table.concat, error, ipairs, pcall, tonumber, tostring, type
local find, format, gsub, gmatch, match, sub = string.find, string.format, string.gsub, string.gmatch, string.match, string.sub

local DAY <const> = 86400
local FIRST <const>, LAST <const> = -62135596800, 253402300799 -- 0001-01-01 to the end of 9999
local MAX_LAYOUT <const> = 200 -- bytes
local MAX_TEXT <const> = 100 -- bytes, of a time or duration

local time = {}

function time.now() return bridge.unix_time() end

function time.sleep(seconds)
  local wait = tonumber(seconds)
  if not wait or wait ~= wait or wait < 0 then error("time.sleep takes a number of seconds", 2) end
  -- A pure run holds a transaction open; that it waits nowhere is known from its text.
  if not run.effectful then error("time.sleep must stand in the hook's text by that name", 2) end
  deadline.wait(wait)
end

-- Days from 1970-01-01 in the Gregorian calendar, counted in years that begin with March.
local function days(year, month, day)
  if month <= 2 then
    year, month = year - 1, month + 12
  end
  return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
end

local function days_in(year, month)
  if month == 2 then return (year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)) and 29 or 28 end
  return (month == 4 or month == 6 or month == 9 or month == 11) and 30 or 31
end

local function offset(zone)
  if zone == "Z" or zone == "z" then return 0 end
  local sign, hours, minutes = match(zone, "^([+-])(%d%d):(%d%d)$")
  if not sign then return nil end
  hours, minutes = tonumber(hours), tonumber(minutes)
  if hours > 23 or minutes > 59 then return nil end
  return (hours * 3600 + minutes * 60) * (sign == "-" and -1 or 1)
end

-- The time of a day: seconds from its beginning in UTC, or nil. A leap second counts as the next.
local function of_day(text)
  local hour, minute, second, fraction, zone = match(text, "^[Tt ](%d%d):(%d%d):(%d%d)(%.?%d*)([Zz+-].*)$")
  if not hour or fraction == "." or (fraction ~= "" and sub(fraction, 1, 1) ~= ".") or #fraction > 20 then return nil end
  hour, minute, second = tonumber(hour), tonumber(minute), tonumber(second)
  local ahead = offset(zone)
  if not ahead or hour > 23 or minute > 59 or second > 60 then return nil end
  local seconds = hour * 3600 + minute * 60 + second - ahead
  return fraction ~= "" and seconds + tonumber("0" .. fraction) or seconds
end

-- time.parse("2026-11-21T13:35:11.5+01:00") -> seconds since 1970, or nil and a
-- reason. Takes RFC 3339, and a date alone, which is its midnight in UTC.
function time.parse(text)
  if type(text) ~= "string" then error("time.parse takes a string, not a " .. type(text), 2) end
  local year, month, day, rest = match(sub(text, 1, MAX_TEXT), "^(%d%d%d%d)-(%d%d)-(%d%d)(.*)$")
  local seconds = year and (rest == "" and 0 or of_day(rest))
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if not seconds or year < 1 or month < 1 or month > 12 or day < 1 or day > days_in(year, month) then
    return nil, "time.parse: not a time like 2026-11-21T13:35:11Z or a date like 2026-11-21: " .. sub(text, 1, 40)
  end
  return days(year, month, day) * DAY + seconds
end

local function ahead_as_text(ahead, separator)
  local minutes = (ahead < 0 and -ahead or ahead) // 60
  return format("%s%02d%s%02d", ahead < 0 and "-" or "+", minutes // 60, separator, minutes % 60)
end

-- Seconds that a zone is ahead of UTC at a time, and its name then.
local function of_zone(zone, seconds)
  if zone == nil or zone == "UTC" then return 0, "UTC" end
  local ahead = offset(zone)
  if ahead then return ahead, ahead_as_text(ahead, ":") end
  return call("time.zone", zone, seconds)
end

-- What os.date does not know, or would say of the host's zone.
local function own_fields(layout, fraction, ahead, name)
  return (gsub(layout, "%%(.)", function(letter)
    if letter == "f" then return format("%06d", floor(fraction * 1e6)) end
    if letter == "z" then return ahead_as_text(ahead, "") end
    if letter == "Z" then return (gsub(name, "%%", "%%%%")) end
    return nil
  end))
end

local function rfc3339(whole, ahead)
  local text = date("!%Y-%m-%dT%H:%M:%S", whole + ahead)
  return ahead == 0 and text .. "Z" or text .. ahead_as_text(ahead, ":")
end

-- time.format(seconds [, layout [, zone]]) -> text. The layout is that of
-- strftime, with %f for microseconds; without one the text is RFC 3339 in whole
-- seconds. The zone is UTC, an offset like +02:00 or a name like Europe/Berlin.
function time.format(seconds, layout, zone)
  if not math_type(seconds) or seconds ~= seconds then error("time.format takes a number of seconds, not " .. tostring(seconds), 2) end
  if seconds < FIRST + DAY or seconds > LAST - DAY then error("time.format takes seconds of the years 1 to 9999, not " .. seconds, 2) end
  if layout ~= nil and (type(layout) ~= "string" or #layout > MAX_LAYOUT) then
    error("time.format takes a layout of at most " .. MAX_LAYOUT .. " bytes", 2)
  end
  if layout ~= nil and find(layout, "^!?%*t") then
    error("time.format makes a text: a layout is strftime's, like %Y-%m-%d, and not os.date's " .. layout, 2)
  end
  if zone ~= nil and type(zone) ~= "string" then error("time.format takes a string as its zone, not a " .. type(zone), 2) end
  local whole = floor(seconds)
  local ahead, name = of_zone(zone, whole)
  if not ahead then return nil, name end
  if layout == nil then return rfc3339(whole, ahead) end
  local ok, text = pcall(date, "!" .. own_fields(layout, seconds - whole, ahead, name), whole + ahead)
  if not ok then error("time.format: " .. (match(text, "%((.*)%)$") or text) .. "; layouts are strftime's, with %f for microseconds", 2) end
  return text
end

local UNITS = { w = 7 * DAY, d = DAY, h = 3600, m = 60, s = 1, ms = 1e-3, us = 1e-6, ns = 1e-9 }

-- The sum of such parts, or nil.
local function sum_of(text)
  -- Before any pattern: nothing interrupts one.
  if text == "" or #text > MAX_TEXT or gsub(text, "%d+%.?%d*[a-z]+", "") ~= "" then return nil end
  local total, last = 0, math.huge
  for number, unit in gmatch(text, "(%d+%.?%d*)([a-z]+)") do
    local size = UNITS[unit]
    if not size or size >= last then return nil end
    total, last = total + tonumber(number) * 1.0 * size, size  -- integers would wrap around
  end
  -- Whole seconds are an integer, as long as they fit.
  return math.tointeger(total) or total
end

-- time.duration("1h30m") -> 5400, or nil and a reason. Units are w, d, h, m, s,
-- ms, us and ns, each at most once, the largest first.
function time.duration(text)
  if type(text) ~= "string" then error("time.duration takes a string, not a " .. type(text), 2) end
  local negative = sub(text, 1, 1) == "-"
  local seconds = sum_of(negative and sub(text, 2) or text)
  if not seconds then return nil, "time.duration: not a duration like 1h30m, 45s or 250ms: " .. sub(text, 1, 40) end
  return negative and -seconds or seconds
end

local LONG_UNITS = { { "d", DAY }, { "h", 3600 }, { "m", 60 } }

-- A number of at most three decimals, without zeros at its end.
local function short(number) return (gsub(gsub(format("%.3f", number), "0+$", ""), "%.$", "")) end

-- time.human(5400) -> "1h30m"; down to milliseconds, below a second to microseconds.
function time.human(seconds)
  if not math_type(seconds) or seconds ~= seconds or seconds >= 1e15 or seconds <= -1e15 then
    error("time.human takes a number of seconds, not " .. tostring(seconds), 2)
  end
  if seconds < 0 then return "-" .. time.human(-seconds) end
  local micros = seconds < 1 and floor(seconds * 1e6 + 0.5) or 0
  if micros > 0 and micros < 1000000 then return short(micros / 1000) .. "ms" end
  local text = {}
  local left = floor(seconds * 1000 + 0.5)
  for _, unit in ipairs(LONG_UNITS) do
    local count = left // (unit[2] * 1000)
    left = left - count * unit[2] * 1000
    if count > 0 then text[#text + 1] = format("%d%s", count, unit[1]) end
  end
  if left > 0 or #text == 0 then text[#text + 1] = short(left / 1000) .. "s" end
  return concat(text)
end

return time
