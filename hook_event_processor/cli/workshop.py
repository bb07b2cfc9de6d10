"""The commands of `hep hook` for those who write hooks: they work on files, without a processor."""

from __future__ import annotations

import argparse
from typing import Any

from hook_event_processor.cli.hook_check import add_check_command
from hook_event_processor.cli.hook_new import add_new_command
from hook_event_processor.cli.hook_repl import add_repl_command
from hook_event_processor.cli.hook_spec import add_spec_command
from hook_event_processor.cli.hook_stubs import add_stubs_command
from hook_event_processor.cli.hook_test import add_test_command


def add_workshop_commands(group: argparse._SubParsersAction[Any]) -> None:
    add_new_command(group)
    add_check_command(group)
    add_spec_command(group)
    add_test_command(group)
    add_repl_command(group)
    add_stubs_command(group)
