"""The command line of ops/chaos/run and ops/chaos/all."""

from __future__ import annotations

import argparse
import random
import sys
import traceback

from ops.chaos import result_table
from ops.chaos.scenario import Scenario, scenarios
from ops.chaos.trial import Result, Trial, quiet

_SKIPPED = 77  # as Automake's test drivers have it


def main() -> None:
    arguments = _parser().parse_args()
    found = scenarios()
    if arguments.list:
        for name, scenario in found.items():
            print(f"{name:<24} {scenario.about}")
        return
    chosen = [name for name, scenario in found.items() if scenario.in_all] if arguments.all else arguments.scenario
    unknown = [name for name in chosen if name not in found]
    if unknown or not chosen:
        sys.exit(f"which scenario? {', '.join(unknown) or 'none'} is not one of: {', '.join(found)}")
    with quiet():
        runs = [_run(found[name], arguments) for name in chosen]
    results = [run for run in runs if isinstance(run, Result)]
    if len(results) > 1:
        result_table.show(results)
        print(result_table.markdown(results))
    print(result_table.conditions())
    broken = [run for run in runs if isinstance(run, Exception)]
    if broken or any(result.findings for result in results):
        sys.exit(1)
    sys.exit(0 if len(results) == len(runs) else _SKIPPED)


def _run(scenario: type[Scenario], arguments: argparse.Namespace) -> Result | Exception | None:
    """A scenario's result; what kept it from having one; None when it was skipped."""
    missing = scenario().missing()
    if missing is not None:
        print(f"{scenario.name}: skipped: {missing}", flush=True)
        return None
    seed = random.randrange(1, 10_000) if arguments.seed is None else arguments.seed
    print(f"{scenario.name}, seed {seed}: {scenario.about}", flush=True)
    trial = Trial(
        scenario(),
        seed,
        seconds=arguments.seconds,
        rate=arguments.rate,
        processors=arguments.processors,
        judge_recovery=not arguments.any_recovery,
    )
    try:
        result = trial.run()
    except Exception as fault:  # the others are to run all the same
        traceback.print_exc()
        print(f"FOUND {scenario.name}, seed {seed}: it could not be run to its end", flush=True)
        return fault
    result_table.show([result])
    print(result_table.as_json(result), flush=True)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ops/chaos/run",
        description="Strike processors and PostgreSQL while a load runs, then account for every event."
        " Exit status 1 when something was found, 77 when nothing was"
        " but something was skipped. CHAOS_KEEP=DIRECTORY keeps logs and ledgers of what was found.",
    )
    parser.add_argument("scenario", nargs="*", help="what to do (see --list)")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument("--all", action="store_true", help="every scenario, one after the other")
    parser.add_argument("--seed", type=int, help="the same blows at the same moments (default: by chance)")
    parser.add_argument("--seconds", type=float, help="how long blows are dealt (default: the scenario's)")
    parser.add_argument("--rate", type=float, help="events a second of the load (default: the scenario's)")
    parser.add_argument("--processors", type=int, help="how many run (default: the scenario's)")
    parser.add_argument(
        "--any-recovery",
        action="store_true",
        help="do not judge how soon the rate is back: for a machine that does other things, too",
    )
    return parser


if __name__ == "__main__":
    main()
