-- file: read, write, append, exists, stat, list, copy, remove and mkdir, below
-- the directories that policy grants; a relative path begins at the first of
-- them. What is to be expected (no such file, too large) is nil and a reason.
local parts = ...
local call, json = parts.call, parts.json
local error, find, format, gmatch, math_type, next, tostring, type = error, string.find, string.format, string.gmatch, math.type, next, tostring, type
local MAX_PATH <const>, READ_BYTES <const>, MAX_BYTES <const> = 4096, 1024 * 1024, 8 * 1024 * 1024

local function check_path(path, name)
  if type(path) ~= "string" then error("file." .. name .. " takes a path, not a " .. type(path), 3) end
  if path == "" or #path > MAX_PATH or find(path, "\0", 1, true) then
    error("file." .. name .. " takes a path of 1 to " .. MAX_PATH .. " bytes without NUL", 3)
  end
end

local function content_of(content, name)
  if math_type(content) then return tostring(content) end
  if type(content) ~= "string" then error("file." .. name .. " takes a string as the content, not a " .. type(content), 3) end
  return content
end

local file = {}

-- file.read(path [, {max}]) -> the content; at most max bytes (1 MB; up to 8 MB).
function file.read(path, options)
  check_path(path, "read")
  local max = READ_BYTES
  if options ~= nil then
    if type(options) ~= "table" then error("file.read takes a table of options, not a " .. type(options), 2) end
    for key in next, options do
      if key ~= "max" then error("file.read: unknown option " .. tostring(key) .. "; it takes max", 2) end
    end
    if options.max ~= nil then max = options.max end
    if math_type(max) ~= "integer" or max < 0 or max > MAX_BYTES then
      error("file.read: max takes a whole number of bytes, at most " .. MAX_BYTES, 2)
    end
  end
  return call("file.read", path, max)
end

-- file.write(path, content) -> true. All of it is there at once, or none.
function file.write(path, content)
  check_path(path, "write")
  return call("file.write", path, content_of(content, "write"))
end

-- file.append(path, content) -> true.
function file.append(path, content)
  check_path(path, "append")
  return call("file.append", path, content_of(content, "append"))
end

-- file.exists(path) -> true or false.
function file.exists(path)
  check_path(path, "exists")
  return call("file.exists", path)
end

-- file.stat(path) -> {type ("file", "directory" or "other"), is_file, is_dir,
-- size in bytes, modified in seconds since 1970, mode like "0600"}.
function file.stat(path)
  check_path(path, "stat")
  local kind, size, modified, mode = call("file.stat", path)
  if kind == nil then return nil, size end
  return {
    type = kind,
    is_file = kind == "file",
    is_dir = kind == "directory",
    size = size,
    modified = modified,
    mode = format("%04o", mode),
  }
end

-- file.list([path]) -> a sorted list of the names in a directory.
function file.list(path)
  if path == nil then path = "." end
  check_path(path, "list")
  local joined, reason = call("file.list", path)
  if joined == nil then return nil, reason end
  local names, n = {}, 0
  for name in gmatch(joined, "[^\0]+") do
    n = n + 1
    names[n] = name
  end
  return n > 0 and names or json.array(names)
end

-- file.copy(from, to) -> true.
function file.copy(from, to)
  check_path(from, "copy")
  check_path(to, "copy")
  return call("file.copy", from, to)
end

-- file.remove(path) -> true: a file, or an empty directory.
function file.remove(path)
  check_path(path, "remove")
  return call("file.remove", path)
end

-- file.mkdir(path) -> true: a directory, and those that it lies in.
function file.mkdir(path)
  check_path(path, "mkdir")
  return call("file.mkdir", path)
end

return file
