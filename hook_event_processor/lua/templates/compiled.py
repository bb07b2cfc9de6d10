"""A template ready to be rendered, any number of times and by any thread."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.scope import Scope
from hook_event_processor.lua.templates.statements import Statement, body
from hook_event_processor.lua.templates.syntax import parse
from hook_event_processor.lua.templates.values import Run

_MAX_KEPT = 128 * 1024  # characters of the texts whose templates are kept


class Template:
    """Raises Fault when the text is not a template."""

    def __init__(self, text: str) -> None:
        try:
            self._write: Statement = body(parse(text).body)
        except RecursionError:
            raise Fault("the template is nested too deeply") from None

    def render(self, data: dict[str, Any], strict: bool) -> str:
        """The text for the data. Raises Fault, with the line, when it cannot be made within its budget."""
        run = Run(strict)
        out: list[str] = []
        try:
            self._write(Scope(run, {}, Scope(run, data)), out)
        except Fault as fault:
            raise Fault(f"line {run.budget.line}: {fault}") from None
        except RecursionError:
            raise Fault(f"line {run.budget.line}: nested too deeply") from None
        return "".join(out)


class Templates:
    """The templates that were rendered last, compiled."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Template] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

    def of(self, text: str) -> Template:
        with self._lock:
            found = self._kept.get(text)
            if found is not None:
                self._kept.move_to_end(text)
                return found
        made = Template(text)
        with self._lock:
            if text not in self._kept:
                self._kept[text] = made
                self._characters += len(text)
            while self._characters > _MAX_KEPT and len(self._kept) > 1:
                self._characters -= len(self._kept.popitem(last=False)[0])
        return made
