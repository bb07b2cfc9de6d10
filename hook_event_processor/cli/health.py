"""`hep health`: whether processors and watchers are well, for people and for probes."""

from __future__ import annotations

import argparse
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hook_event_processor.cli.parser import add_command

if TYPE_CHECKING:
    from hook_event_processor.processor.health import Facts
    from hook_event_processor.settings import Settings
    from hook_event_processor.store.vitals import DaemonVitals
    from hook_event_processor.telemetry.findings import Finding

HEALTHY, UNHEALTHY, UNKNOWN = 0, 1, 3
_WORDS = {HEALTHY: "healthy", UNHEALTHY: "unhealthy", UNKNOWN: "unknown"}
_LONGEST_SECONDS = 60.0
_DAEMON_SILENT_SECONDS = 25.0  # a daemon tells the database every ten seconds
_AWAY_SECONDS = 1.0  # for the database to answer, where those who work with it have lost it


def add_commands(commands: argparse._SubParsersAction[Any]) -> None:
    command = add_command(
        commands,
        "health",
        health,
        "tell whether the processors and watchers of this host are well, by exit status",
        "hep health --of processors --instance 2",
        "Exit status: 0 healthy, 1 unhealthy, 3 cannot tell: the database does not answer within --timeout, or"
        " nothing runs here that was to be judged. 2 is wrong usage.\n"
        "Unhealthy are: a thread that stands still, the database away for more than 10 s, LISTEN without an answer,"
        " claims that come to no end, threads stuck in runs, a spool that is full or cannot be written, and whoever"
        " has said nothing for 12 s. What is paused, and what is only worth knowing, is told and stays healthy.\n"
        "Those of this host are judged by files of theirs as well, so that this works while the database is away.",
    )
    command.add_argument("--all-hosts", action="store_true", help="those of every host that the database knows")
    command.add_argument("--of", choices=("all", "processors", "watchers"), default="all", help="default all")
    command.add_argument("--instance", metavar="NAME", help="only the processor of this instance (HEP_INSTANCE)")
    command.add_argument(
        "--timeout", type=_seconds, default=3.0, metavar="SECONDS", help="how long the database may take (default 3)"
    )
    formats = command.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    formats.add_argument("--format", choices=("table", "json"), default="table", help="table or json (default table)")
    command.set_defaults(settings_fault_status=UNKNOWN)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _LONGEST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {_LONGEST_SECONDS:g}")
    return value


@dataclass(frozen=True, slots=True)
class Judged:
    """A processor or a daemon of watchers, its facts and what they come to."""

    kind: str
    name: str
    host: str
    age_seconds: float
    facts: dict[str, Any]
    findings: list[Finding]

    @property
    def status(self) -> int:
        return HEALTHY if all(finding.is_healthy for finding in self.findings) else UNHEALTHY


@dataclass(slots=True)
class Answer:
    """All that could be judged, and why the rest could not."""

    judged: list[Judged] = field(default_factory=list)
    unknown: str = ""

    @property
    def status(self) -> int:
        if any(each.status == UNHEALTHY for each in self.judged):
            return UNHEALTHY
        return UNKNOWN if self.unknown else HEALTHY


def health(arguments: argparse.Namespace, settings: Settings) -> int:
    from hook_event_processor.cli.output import document

    answer = ask(arguments, settings)
    if arguments.format == "json":
        document(_document(answer))
    else:
        _show(answer)
    return answer.status


def ask(arguments: argparse.Namespace, settings: Settings) -> Answer:
    """Read and judge; what takes longer than --timeout is left."""
    answer = Answer()
    wants_processors = arguments.of in ("all", "processors")
    wants_watchers = arguments.of in ("all", "watchers") and arguments.instance is None
    if wants_watchers:
        _judge_files(answer, settings)
    if answer.judged and arguments.of == "watchers" and not arguments.all_hosts:
        return answer  # the database has nothing to add
    here = _processors_here(settings, arguments.instance) if wants_processors else []
    known = {(each.host, each.name) for each in answer.judged}
    found: list[Judged] = []
    faults: list[str] = []

    def read() -> None:
        from hook_event_processor.cli.connect import database_fault
        from hook_event_processor.errors import HookEventProcessorError

        try:
            found.extend(_from_database(arguments, settings, wants_processors, wants_watchers, known))
        except HookEventProcessorError as fault:
            faults.append(str(fault))
        except Exception as fault:
            faults.append(str(database_fault(fault) or fault))

    # On a thread: resolving a name, for one, knows no timeout.
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    lost = any("away" in each.facts for each in (*here, *answer.judged))
    timeout = min(arguments.timeout, _AWAY_SECONDS) if lost else arguments.timeout
    reading.join(timeout)
    if reading.is_alive() or faults:
        answer.judged += here
        answer.unknown = faults[0] if faults else f"the database did not answer within {timeout:g} s"
        return answer
    answer.judged += _newest(found, here)
    answer.unknown = _missing(answer, arguments)
    return answer


def _processors_here(settings: Settings, instance: str | None) -> list[Judged]:
    """The processors of this host as their own files have them."""
    from hook_event_processor.cli.connect import open_database
    from hook_event_processor.errors import StoreUnavailable
    from hook_event_processor.processor import health_file

    try:
        key, directories = open_database(settings).key, health_file.directories(settings.home)
    except StoreUnavailable:  # the embedded one, which does not run: nobody else has its directory
        key, directories = None, [settings.home]
    told = health_file.processors(directories, key)
    return [
        _judged_by(each.node, each.host, each.age_seconds, each.facts)
        for each in told
        if instance is None or each.instance == instance
    ]


def _newest(rows: list[Judged], here: list[Judged]) -> list[Judged]:
    """What was said last of each processor; one that the database does not know is told of while it says something."""
    known = {each.name: each for each in rows}
    for each in here:
        row = known.get(each.name)
        if each.age_seconds < row.age_seconds if row else not _is_silent(each):
            known[each.name] = each
    return list(known.values())


def _is_silent(each: Judged) -> bool:
    return any(finding.fact == "heartbeat" for finding in each.findings)


def _missing(answer: Answer, arguments: argparse.Namespace) -> str:
    if answer.judged:
        return ""
    what = {"all": "neither a processor nor watchers", "processors": "no processor", "watchers": "no watchers"}
    where = "any host" if arguments.all_hosts else "this host ('hep health --all-hosts' judges those of others)"
    instance = f" of the instance {arguments.instance!r}" if arguments.instance is not None else ""
    verb = "run" if arguments.of == "watchers" else "runs"
    return f"{what[arguments.of]}{instance} {verb} on {where}"


def _judge_files(answer: Answer, settings: Settings) -> None:
    from hook_event_processor.watchers.daemon import health as daemons

    try:
        told = daemons.said(settings.home / "watchers")
    except OSError:  # another user's
        return
    for said in told:
        silence = daemons.silence(said.age_seconds)
        # What it said last is old news then.
        findings = [silence] if silence else daemons.judge(said.facts)
        facts = daemons.document(said.facts)
        answer.judged.append(Judged("watchers", said.name, said.host, said.age_seconds, facts, findings))


def _from_database(
    arguments: argparse.Namespace,
    settings: Settings,
    wants_processors: bool,
    wants_watchers: bool,
    known: set[tuple[str, str]],
) -> list[Judged]:
    import socket

    from hook_event_processor.cli.connect import session
    from hook_event_processor.store import vitals

    judged: list[Judged] = []
    with session(settings) as connection:
        if wants_processors:
            host = None if arguments.all_hosts else socket.gethostname()
            judged += [_judged(each) for each in vitals.of_processors(connection, host, arguments.instance)]
        host = None if arguments.all_hosts else settings.host
        for each in vitals.of_daemons(connection, host) if wants_watchers else ():
            if (each.host, each.name) not in known:
                with suppress(AttributeError, TypeError, ValueError):  # facts that no daemon writes
                    judged.append(_judged_daemon(each))
    return judged


def _judged_daemon(each: DaemonVitals) -> Judged:
    from hook_event_processor.watchers.daemon import health as daemons

    facts = daemons.read(each.health)
    silence = daemons.silence(each.age_seconds, _DAEMON_SILENT_SECONDS)
    findings = [silence] if silence else daemons.judge(facts)
    return Judged("watchers", each.name, each.host, each.age_seconds, daemons.document(facts), findings)


def _judged(each: Any) -> Judged:
    from hook_event_processor.processor import health as processors

    return _judged_by(each.node, each.host, each.age_seconds, processors.read(each.health))


def _judged_by(node: str, host: str, age_seconds: float, facts: Facts | None) -> Judged:
    from hook_event_processor.processor import health as processors

    silence = processors.silence(age_seconds)
    findings = [silence] if silence else processors.judge(facts) if facts else []
    return Judged("processor", node, host, age_seconds, processors.document(facts) if facts else {}, findings)


def _show(answer: Answer) -> None:
    from hook_event_processor.cli.output import line

    line(f"{_WORDS[answer.status]}: {_summary(answer)}")
    for each in answer.judged:
        who = f"processor {each.name}" if each.kind == "processor" else f"watchers {each.name} of {each.host}"
        line(f"  {who}: {_said(each)}")


def _summary(answer: Answer) -> str:
    from hook_event_processor.amount import counted

    if answer.unknown:
        return answer.unknown
    processors = sum(each.kind == "processor" for each in answer.judged)
    daemons = len(answer.judged) - processors
    parts = [counted(processors, "processor")] if processors else []
    parts += [counted(daemons, "daemon") + " of watchers"] if daemons else []
    return ", ".join(parts)


def _said(each: Judged) -> str:
    from hook_event_processor.telemetry.findings import in_a_line

    told = in_a_line(each.findings)
    return f"{_WORDS[each.status]}{f': {told}' if told else ''}"


def _document(answer: Answer) -> dict[str, Any]:
    from hook_event_processor.telemetry.findings import documents

    def of(each: Judged) -> dict[str, Any]:
        return {
            "name": each.name,
            "host": each.host,
            "healthy": each.status == HEALTHY,
            "age_seconds": round(each.age_seconds, 1),
            "facts": each.facts,
            "findings": documents(each.findings),
        }

    return {
        "status": _WORDS[answer.status],
        "unknown": answer.unknown or None,
        "processors": [of(each) for each in answer.judged if each.kind == "processor"],
        "watchers": [of(each) for each in answer.judged if each.kind == "watchers"],
    }
