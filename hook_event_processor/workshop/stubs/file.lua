---@meta file

---@class hep.FileStat
---@field type "file"|"directory"|"other"
---@field is_file boolean
---@field is_dir boolean
---@field size integer bytes
---@field modified number seconds since 1970
---@field mode string such as "0600"

---Files below the directories that policy grants (HOOK_FILE_ROOTS); a relative path begins at the first of them.
local file = {}

---@param path string
---@param options? { max?: integer } bytes (default 1 MB, at most 8 MB)
---@return string? content
---@return string? reason
function file.read(path, options) end

---All of it is there at once, or none.
---@param path string
---@param content string|number
---@return true?
---@return string? reason
function file.write(path, content) end

---Of what a full disk has no room for, the beginning may stay.
---@param path string
---@param content string|number
---@return true?
---@return string? reason
function file.append(path, content) end

---@param path string
---@return boolean?
---@return string? reason
function file.exists(path) end

---@param path string
---@return hep.FileStat?
---@return string? reason
function file.stat(path) end

---@param path? string
---@return string[]?
---@return string? reason
function file.list(path) end

---@param from string
---@param to string
---@return true?
---@return string? reason
function file.copy(from, to) end

---A file, or an empty directory.
---@param path string
---@return true?
---@return string? reason
function file.remove(path) end

---@param path string
---@return true?
---@return string? reason
function file.mkdir(path) end

return file
