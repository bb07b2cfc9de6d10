-- Turns failed tasks into notifications. What delivers a notification is
-- another hook, or a program that reads them with hep events tail: this one
-- only decides what is worth saying, and says it once.
local hook = {
  name = "notify_on_failure",
  description = "Writes a notification for every failed task",
  event_type = "task.failed",
  retry = { attempts = 5, delay = 2 },
}

function hook.execute(event)
  -- Both {"task_name": "deploy"} and {"task": {"task_name": "deploy"}} answer this.
  local task = event.data.task
  if not task then
    return false, "the event's data has no task"
  end
  local text = ("Task %s failed on %s: %s"):format(task.task_name, task.agent_name or "?", task.error or "no reason")
  -- The new event is stored together with the record of this run: both, or neither.
  event.dispatch("notification.wanted", { text = text, event_id = event.id })
  return true, text
end

return hook
