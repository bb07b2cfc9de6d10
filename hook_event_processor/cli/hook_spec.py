"""`hep hook spec`: run the tests that stand beside hooks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.names import some_name
from hook_event_processor.cli.parser import add_command, add_format
from hook_event_processor.cli.spans import duration
from hook_event_processor.errors import HookRefused, UsageError

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

    from hook_event_processor.cli.spec_report import SpecReport
    from hook_event_processor.settings import Settings

_MORE = """\
The tests of notify.lua stand in notify_spec.lua beside it:

  describe("notify", function()
    before_each(function()
      mock("http", { post = function() return { status_code = 200 } end })
    end)
    it("posts what failed", function()
      local result = spec.run("task.failed", { task_name = "build" }, { stack = "production" })
      expect(result).to_succeed("sent")
      expect(result.calls["http.post"][1][1]).to_contain("https://")
    end)
  end)

spec.run gives ok, outcome, message, output, error, dispatched and calls. Checks are to_be, to_equal,
to_include, to_contain, to_match, to_be_nil, to_exist, to_be_true, to_be_false, to_be_a,
to_be_greater_than, to_be_less_than, to_have_length, to_succeed, to_fail, to_have_called and
to_have_dispatched; expect(x).never turns each around. exec, http, notify, file, env and secret do
nothing but what mock(...) gives for them; state is kept in memory for one test. Every test has an
environment of its own, the hook's limits, and runs without a database.

Exit status: 0 all passed, 1 some failed, 2 misused."""


def add_spec_command(group: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        group,
        "spec",
        run_specs,
        "run the tests that stand beside hooks, in NAME_spec.lua",
        "hep hook spec\n         hep hook spec notify_spec.lua --only posts",
        _MORE,
    )
    command.add_argument(
        "paths",
        nargs="*",
        type=some_name,
        metavar="FILE",
        help="a spec, a hook with one beside it, or a directory (default: this one)",
    )
    command.add_argument("--only", metavar="TEXT", help="run only tests whose name holds this text")
    command.add_argument(
        "--timeout", type=duration, metavar="DURATION", help="time that each test may take (default 5s)"
    )
    command.add_argument("-q", "--quiet", action="store_true", help="print only what failed, and the count")
    add_format(command)


def run_specs(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.spec_report import SpecReport
    from hook_event_processor.workshop.spec import spec_files

    if arguments.timeout is not None and not arguments.timeout:
        raise UsageError("--timeout is 0: it takes the time that each test may take")
    report = SpecReport(quiet=arguments.quiet, silent=arguments.format == "json")
    paths = list(spec_files(arguments.paths or ["."]))
    if not paths:
        raise HookRefused("no specs here: 'hep hook new' writes one with each hook, in NAME_spec.lua")
    for path in paths:
        _run(path, arguments.only, _seconds(arguments.timeout), settings, report)
    if arguments.only is not None and not report.passed + report.failed:
        raise HookRefused(f"no test has a name that holds {arguments.only!r}")
    report.finish()
    return 1 if report.failed else 0


def _seconds(timeout: timedelta | None) -> float:
    return timeout.total_seconds() if timeout else 5.0


def _run(path: Path, only: str | None, seconds: float, settings: Settings, report: SpecReport) -> None:
    """Run one spec; one that cannot be read counts as a failure."""
    from hook_event_processor.workshop.spec import SpecRunner, read_spec

    report.begin(path)
    try:
        runner = SpecRunner(read_spec(path), settings, seconds)
        for tested in runner.run(runner.tests(), only):
            report.add(tested)
    except HookRefused as refusal:
        report.refused(refusal)
