-- Tells what happened to packages, and installs from upgrades above all.
local hook = {
  name = "packages",
  description = "Tells package installs from upgrades and removals",
  event_type = "package.*",
}

local sentences = {
  installed = "%s %s is new",
  upgraded = "%s %s replaces %s",
  removed = "%s is gone, it was %s",
  purged = "%s is gone with its configuration, it was %s",
}

-- Other package events are none of this hook's business: they count as filtered.
function hook.filter(event)
  return sentences[event.action] ~= nil
end

function hook.execute(event)
  local package = event.data
  local sentence = sentences[event.action]
  if event.action == "installed" then
    return true, sentence:format(package.package, package.version)
  elseif event.action == "upgraded" then
    return true, sentence:format(package.package, package.version, package.old_version)
  end
  return true, sentence:format(package.package, package.old_version)
end

return hook
