"""Milliseconds of one look of a watcher, by type, while nothing happens; of a service's where systemd runs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median, quantiles

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import Check, CheckFailed, Moment
from hook_event_processor.watchers.host import programs

import report
from mix import options_of
from options import Size, parse, parser
from report import number


def main() -> None:
    arguments = parse(parser(__doc__, looks=Size(200, 1000, "looks of each type")))
    programs.grant(True)
    rows, medians = [], {}
    with tempfile.TemporaryDirectory(prefix="hep-bench-", dir="/var/tmp") as folder:
        for name in kinds.NAMES:
            definition = kinds.read(name, name, (), options_of(Path(folder), name, 0), None)
            check = kinds.kind(name).start(definition, None)
            try:
                times = list(_milliseconds(check, definition.interval, arguments.looks))
            except CheckFailed as fault:
                rows.append((name, "-", "-", str(fault)))
                continue
            medians[name] = median(times)
            rows.append((name, number(medians[name]), number(quantiles(times, n=100)[98]), ""))
    report.show("looks: ms of one, by type", ("type", "median", "p99", ""), rows, medians=medians)


def _milliseconds(check: Check, interval: float, looks: int) -> Iterator[float]:
    """The looks after the baseline, each an interval later by the clock that checks are told."""
    for number_of_look, at in zip(range(looks + 1), count(time.monotonic(), interval), strict=False):
        moment = Moment(datetime.now(UTC), at)
        began = time.perf_counter()
        check.look(moment)
        if number_of_look:
            yield (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
