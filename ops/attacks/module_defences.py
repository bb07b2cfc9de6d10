"""The defences of modules: what a text that is made to exhaust meets, or a call that a hook may not make."""

from __future__ import annotations

from defence import row

_EXEC, _YAML, _TEMPLATE, _REGEX, _DOOR = (
    f"tests/test_{name}.py" for name in ("module_exec", "module_yaml", "module_template", "module_regex", "door")
)

DEFENCES = (
    row(
        "a YAML bomb",
        "modules/yaml.py:_alias",
        f"{_YAML}::test_a_document_made_to_exhaust_is_refused_at_once[a billion laughs]",
        "        self._count(event, node.nodes, node.size)\n        return node",
        "        return node",
    ),
    row(
        "YAML nested without an end",
        "modules/yaml.py:_node",
        f"{_YAML}::test_a_document_made_to_exhaust_is_refused_at_once[deep lists]",
        "            if depth >= _MAX_DEPTH:\n",
        "            if False:\n",
    ),
    row(
        "a Python object in YAML",
        "modules/yaml.py:_check_tag",
        f"{_YAML}::test_a_document_made_to_exhaust_is_refused_at_once[a Python object]",
        'if event.tag not in (None, "!", _TAG + kind):',
        "if False:",
    ),
    row(
        "attributes of Python's in a template",
        "templates/fields.py:_method",
        f"{_TEMPLATE}::test_no_attribute_of_python_is_within_reach[{{{{ ''.__class__ }}}}]",
        "        return Undefined(shortened(str(name), 40))\n",
        "        return str(getattr(value, str(name), None))\n",
    ),
    row(
        "a template that loops for hours",
        "templates/budget.py:spend",
        f"{_TEMPLATE}::test_a_template_made_to_exhaust_is_stopped_at_once[nested loops]",
        "        if self._steps < 0:\n",
        "        if False:\n",
    ),
    row(
        "a template that writes gigabytes",
        "templates/budget.py:make",
        f"{_TEMPLATE}::test_a_template_made_to_exhaust_is_stopped_at_once[a long repetition]",
        "        if self._characters < 0:\n",
        "        if False:\n",
        ("templates/budget.py", "        if self._steps < 0:\n", "        if False:\n"),
    ),
    row(
        "a regular expression that is large on a text that is long",
        "modules/regex.py:_pattern",
        f"{_REGEX}::test_a_large_pattern_takes_no_large_text",
        "    if len(text) * compiled.size > _MAX_WORK:\n",
        "    if False:\n",
    ),
    row(
        "a regular expression whose matches each read to the end",
        "modules/regex.py:_all",
        f"{_REGEX}::test_matches_that_each_read_to_the_end_are_stopped",
        " or thread_time() > ends_at:",
        ":",
    ),
    row(
        "a require that the text does not name",
        "library.lua:require",
        "tests/attacks/test_sandbox.py::test_a_module_that_the_text_does_not_name_is_refused",
        "  if run.named[name] then return modules[name] end\n",
        "  load_module(name)\n  do return modules[name] end\n",
    ),
    row(
        "a module without its permission",
        "modules/exec.py:_command",
        f"{_EXEC}::test_without_a_grant_nothing_is_run_and_the_error_names_the_setting",
        "    if call.grants.exec is False or call.grants.exec == ():\n",
        "    if False:\n",
        ("modules/exec.py", "if grants is not True and not is_granted(program, wanted, grants or ()):", "if False:"),
    ),
    row(
        "a variable that policy does not name",
        "modules/env.py:get",
        "tests/test_module_env.py::test_nothing_is_granted_by_default_and_the_error_names_the_setting",
        "        if not _is_granted(call, variable):\n",
        "        if False:\n",
    ),
    row(
        "a call after the deadline",
        "door.lua",
        f"{_DOOR}::test_nothing_is_called_once_the_run_is_over",
        "  deadline.refuse_expired()\n",
        "",
        ("door.lua", "  deadline.look()\n", ""),
        ("bridge.py", "if call.left <= 0:", "if False:"),
    ),
    row(
        "a result that is larger than the hook's memory",
        "door.lua:answer",
        f"{_DOOR}::test_a_result_beyond_the_memory_fails_the_run_and_not_the_process",
        "  bridge.confine(true)\n",
    ),
)
