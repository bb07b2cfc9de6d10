"""What was in flight, and the cells that suspects run in: whatever a run does there, the processor goes on."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.event_handlers import EventHandlerRegistry, HandlerResult
from hook_event_processor.lua.loader import program
from hook_event_processor.processor.quarantine import wire
from hook_event_processor.processor.quarantine.adoption import Adoption
from hook_event_processor.processor.quarantine.cell import Cell, prepare
from hook_event_processor.processor.quarantine.confined import ConfinedRunner
from hook_event_processor.processor.quarantine.in_flight import Flight, InFlight, Legacy, legacies
from hook_event_processor.processor.quarantine.keeper import Keeper
from hook_event_processor.processor.quarantine.quarantine import is_deadly
from hook_event_processor.registry import Hook
from hook_event_processor.run import ChunkResult, Dispatched
from hook_event_processor.settings import Settings
from hook_event_processor.store.claim import Row
from hook_event_processor.store.database import Database
from hook_event_processor.store.suspects import Suspicion

DATABASE = Database("host=/nowhere dbname=events")
EVENTS = [bytes([number]) * 16 for number in range(1, 6)]


def row(payload: bytes = b"{}") -> Row:
    return Row(os.urandom(16), b"test", b"one", b"", b"", b"\0" * 8, payload, b"{}", 1, 5, 1, b"\0" * 6, b"\0" * 8)


def start_grandchild(file: str) -> None:
    """Start a process that leaves the session and its parent; its number goes to the file."""
    script = (
        "import os, sys, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\n"
        "os.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(60)\n"
    )
    subprocess.run([sys.executable, "-S", "-c", script, file], check=True)
    wait_for(lambda: Path(file).exists(), 8)


def grandchild(event: dict[str, Any]) -> HandlerResult:
    start_grandchild(event["payload"]["file"])
    os.kill(os.getpid(), signal.SIGKILL)
    return HandlerResult(True, "")


def patient_grandchild(event: dict[str, Any]) -> HandlerResult:
    """Wait for another file, and say whether it is still there."""
    file = event["payload"]["file"]
    start_grandchild(file)
    wait_for(lambda: Path(file + ".go").exists(), 8)
    return HandlerResult(True, str(Path(f"/proc/{Path(file).read_text()}").exists()))


def leave_zombies(event: dict[str, Any]) -> HandlerResult:
    """Start many processes that nobody waits for."""
    script = "for number in $(seq 100); do (setsid sleep 0.01 >/dev/null 2>&1 &); done"
    subprocess.run(["sh", "-c", script], check=True)
    return HandlerResult(True, str(os.getpid()))


def hoard(_: dict[str, Any]) -> HandlerResult:
    kept = []
    while True:
        kept.append(b"x" * (8 * 1024 * 1024))
        time.sleep(0.002)


def look_on(_: dict[str, Any]) -> HandlerResult:
    """Take a few looks at the memory's time, and none of it."""
    time.sleep(0.3)
    return HandlerResult(True, "")


def sleep(_: dict[str, Any]) -> HandlerResult:
    time.sleep(30)
    return HandlerResult(True, "")


def talk_nonsense(_: dict[str, Any]) -> HandlerResult:
    """Write to the stream of the answers, as a process that is out of its mind might."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
            os.write(int(name), (5).to_bytes(8, "big") + b"[1,2]")
    time.sleep(30)
    return HandlerResult(True, "")


def leave(_: dict[str, Any]) -> HandlerResult:
    os._exit(3)


def fork(_: dict[str, Any]) -> HandlerResult:
    """Return twice."""
    os.fork()
    return HandlerResult(True, f"in {os.getpid()}")


def well(event: dict[str, Any]) -> HandlerResult:
    return HandlerResult(True, f"{os.getpid()} {event['payload']}")


def limits(_: dict[str, Any]) -> HandlerResult:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NPROC)
    return HandlerResult(True, f"{soft} {Path('/proc/self/oom_score_adj').read_text().strip()}")


HANDLERS: dict[str, Callable[[dict[str, Any]], HandlerResult]] = {
    handler.__name__: handler
    for handler in (
        grandchild,
        patient_grandchild,
        leave_zombies,
        hoard,
        look_on,
        sleep,
        talk_nonsense,
        leave,
        fork,
        limits,
        well,
    )
}


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    keeper = begin_keeper(tmp_path_factory.mktemp("home"))
    yield keeper
    keeper.close()


def begin_keeper(home: Path, prepare: Callable[[], None] = prepare) -> Keeper:
    settings = Settings(home=home, conninfo=None)

    class Handlers(EventHandlerRegistry):
        def candidates(self, *_: object, **__: object) -> list[Any]:
            return [type("Handler", (), {"name": name, "handler": handler}) for name, handler in HANDLERS.items()]

    return Keeper(prepare, Cell(settings, DATABASE, Handlers()).serve, list)


@pytest.fixture
def run(keeper: Keeper, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    return runs(keeper, tmp_path)


def runs(keeper: Keeper, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Run a handler, or a Lua text, in a cell; returns the outcome and what it said or died of."""
    policy = Settings(home=tmp_path, conninfo=None).policy
    runner = ConfinedRunner(keeper, 1024 * 1024, lambda: policy, lambda _: False)

    def run(what: str, payload: bytes = b"{}", timeout: float = 10.0) -> tuple[str, str]:
        code: object = HANDLERS.get(what) or program(what, "lua", None, b"", {})
        result = runner(Hook(1, what, code, timeout=timeout), [row(payload)], threading.Event())
        return chr(result.codes[0]), (result.outputs[0] or result.errors[0] or b"").decode()

    return run


def test_lua_and_python_run_in_a_cell_as_they_do_elsewhere(run: Callable[..., tuple[str, str]]) -> None:
    assert run("return {execute = function(e) return true, 'n is ' .. e.data.n end}", b'{"n": 7}') == ("a", "n is 7")
    code, said = run("return {execute = function() error('no') end}")
    assert code == "c"
    assert "no" in said
    first, again = run("well", b'{"n": 1}'), run("well", b'{"n": 1}')
    assert first == again
    assert first[0] == "a"
    assert first[1].endswith("{'n': 1}")
    assert not first[1].startswith(f"{os.getpid()} ")


def test_a_cell_that_leaves_is_told_with_its_status_and_followed_by_another(
    run: Callable[..., tuple[str, str]],
) -> None:
    assert run("leave") == ("h", "the process died while this ran: it left with exit status 3")
    assert run("well")[0] == "a"


def test_a_run_that_hangs_where_nothing_interrupts_it_is_killed_in_time(run: Callable[..., tuple[str, str]]) -> None:
    code, said = run("sleep", timeout=0.2)
    assert (code, said) == ("g", "stuck: the run did not end in its time; its process was killed")


def test_what_a_cell_takes_to_start_is_not_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = begin_keeper(tmp_path)
    cell = keeper.cell

    def slow() -> tuple[socket.socket, socket.socket]:
        time.sleep(2.0)
        return cell()

    monkeypatch.setattr(keeper, "cell", slow)
    try:
        assert runs(keeper, tmp_path)("look_on", timeout=0.5) == ("a", "")
    finally:
        keeper.close()


def test_a_run_that_fills_the_memory_is_killed_before_the_host_is_full(run: Callable[..., tuple[str, str]]) -> None:
    code, said = run("hoard")
    assert code == "e"
    assert "its process was killed" in said


def test_what_the_processor_held_when_the_keeper_began_is_not_held_against_a_run(tmp_path: Path) -> None:
    large = b"x" * (320 * 1024 * 1024)
    keeper = begin_keeper(tmp_path)
    try:
        keeper.start()
        assert runs(keeper, tmp_path)("look_on") == ("a", "")
        assert runs(keeper, tmp_path)("hoard")[0] == "e"
    finally:
        keeper.close()
    assert large


@pytest.mark.parametrize(
    ("what", "timeout", "deadly"),
    [
        ("leave", 10.0, True),
        ("sleep", 0.2, True),
        ("hoard", 10.0, True),
        ("return {execute = function() error('no') end}", 10.0, False),
        ("return {execute = function() while true do end end}", 0.2, False),
    ],
)
def test_a_run_whose_cell_died_or_had_to_be_killed_stays_a_suspect(
    run: Callable[..., tuple[str, str]], what: str, timeout: float, deadly: bool
) -> None:
    _, said = run(what, timeout=timeout)
    assert is_deadly(said.encode()) is deadly


def test_what_a_dead_cell_had_started_is_killed_with_it(run: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    """Even a process that left its session and its parent."""
    file = tmp_path / "number"
    code, said = run("grandchild", b'{"file": "%s"}' % str(file).encode())
    assert (code, "SIGKILL" in said) == ("h", True), said
    wait_for(lambda: not Path(f"/proc/{file.read_text()}").exists(), 5)


def test_what_a_living_cell_has_started_outlives_another_cell(
    keeper: Keeper, run: Callable[..., tuple[str, str]], tmp_path: Path
) -> None:
    """Even a process that left its session and its parent, and until its own cell ends."""
    file, said = tmp_path / "number", []
    payload = b'{"file": "%s"}' % str(file).encode()
    first = threading.Thread(target=lambda: said.append(runs(keeper, tmp_path)("patient_grandchild", payload)))
    first.start()
    wait_for(file.exists, 5)
    assert run("leave")[0] == "h"
    (tmp_path / "number.go").touch()
    first.join()
    assert said == [("a", "True")]
    wait_for(lambda: not Path(f"/proc/{file.read_text()}").exists(), 5)


def test_a_cell_whose_runs_leave_many_ended_processes_makes_room_for_another(
    run: Callable[..., tuple[str, str]],
) -> None:
    code, number = run("leave_zombies")
    assert code == "a"
    wait_for(lambda: not Path(f"/proc/{number}").exists(), 5)
    assert run("well")[0] == "a"


def test_a_cell_may_start_so_many_processes_and_is_the_first_to_go(run: Callable[..., tuple[str, str]]) -> None:
    processes, score = map(int, run("limits")[1].split())
    assert 256 <= processes < 20_000
    assert score == 1000


def test_an_answer_that_is_none_counts_as_a_death(run: Callable[..., tuple[str, str]]) -> None:
    assert run("talk_nonsense")[0] == "h"
    assert run("well")[0] == "a"


def test_a_run_that_returns_twice_is_answered_once(run: Callable[..., tuple[str, str]]) -> None:
    code, said = run("fork")
    assert (code, said.split()[0]) == ("a", "in")
    assert run("well")[0] == "a"


def test_a_cell_that_died_before_it_read_a_run_is_no_proof_against_it(run: Callable[..., tuple[str, str]]) -> None:
    number = int(run("well")[1].split()[0])
    os.kill(number, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{number}").exists(), 5)
    assert run("well")[0] == "a"


def test_a_keeper_that_was_killed_is_replaced(keeper: Keeper, run: Callable[..., tuple[str, str]]) -> None:
    number = int(run("well")[1].split()[0])
    parent = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{number}").exists(), 5)
    assert run("well")[0] == "a"


def test_a_cell_that_cannot_be_forked_harms_no_other(tmp_path: Path) -> None:
    """There are too many processes, or is too little memory, for one more."""
    full, file, said = tmp_path / "full", tmp_path / "number", []

    def prepare_full() -> None:
        prepare()
        fork = os.fork

        def refused() -> int:
            if full.exists():
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return fork()

        os.fork = refused

    keeper = begin_keeper(tmp_path, prepare_full)
    payload = b'{"file": "%s"}' % str(file).encode()
    first = threading.Thread(target=lambda: said.append(runs(keeper, tmp_path)("patient_grandchild", payload)))
    try:
        first.start()
        wait_for(file.exists, 5)
        full.touch()
        why = "no cell could be had to run this in: the keeper of the cells is gone, or could fork none"
        assert runs(keeper, tmp_path)("well") == ("c", why)
        full.unlink()
        assert runs(keeper, tmp_path)("well")[0] == "a"
        (tmp_path / "number.go").touch()
        first.join()
        assert said == [("a", "True")]
    finally:
        keeper.close()


def test_a_result_crosses_as_it_is() -> None:
    result = ChunkResult(b"a", [0.5], [b"\xff\n"], [None], {0: [Dispatched("a.b", b"{}", "s", 3, 1.5, None)]})
    result.accessed = frozenset({"token"})
    assert wire.unpack_result(wire.pack_result(result)) == result


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"code": 7}', b'{"code": 9999}', b'"\xff"', b"null"])
def test_an_answer_that_makes_no_sense_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a result|no outcome|unexpected|UTF-8|invalid|empty"):
        wire.unpack_result(answer)


def test_a_message_that_is_cut_off_is_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall((10).to_bytes(8, "big") + b"half")
        theirs.shutdown(socket.SHUT_WR)
        assert wire.receive(ours) is None


def dead(directory: Path, what: Callable[[InFlight], None]) -> None:
    """A processor that runs something, and dies."""
    pid = os.fork()
    if pid == 0:
        in_flight = InFlight(DATABASE, "host:7@one", chunks=2, workers=3, apart=2)
        in_flight.open(directory)
        what(in_flight)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


def found(directory: Path, database: Database = DATABASE) -> list[Legacy]:
    return list(legacies(directory, database))


def test_what_was_in_flight_is_known_after_a_death(tmp_path: Path) -> None:
    held = []

    def what(in_flight: InFlight) -> None:
        chunk, other, worker, apart = (
            slots.take() for slots in (in_flight.chunks, in_flight.chunks, in_flight.workers, in_flight.apart)
        )
        held.extend([chunk, other, worker, apart])
        chunk.began(5, 2, [(event,) for event in EVENTS[:3]])
        other.began(6, 1, [(EVENTS[0],)])
        other.ended()
        worker.began(7, 1, [(EVENTS[3],)])
        apart.began(8, 1, [(EVENTS[4],)])

    dead(tmp_path / "in-flight", what)
    [legacy] = found(tmp_path / "in-flight")
    assert legacy.left_behind.node == "host:7@one"
    assert legacy.left_behind.flights == (
        Flight(5, 2, False, tuple(EVENTS[:3])),
        Flight(7, 1, False, (EVENTS[3],)),
        Flight(8, 1, True, (EVENTS[4],)),
    )
    assert found(tmp_path / "in-flight", Database("host=/nowhere dbname=others")) == []
    legacy.forget()
    assert list((tmp_path / "in-flight").iterdir()) == []


def test_who_lives_or_ended_well_or_ran_nothing_leaves_nothing(tmp_path: Path) -> None:
    alive = InFlight(DATABASE, "me", chunks=1, workers=1, apart=1)
    alive.open(tmp_path)
    place = alive.workers.take()
    place.began(1, 1, [(EVENTS[0],)])
    dead(tmp_path, lambda _: None)
    assert found(tmp_path) == []
    pid = os.fork()
    if pid == 0:  # another process does not take it for dead either
        os._exit(len(found(tmp_path)))
    assert os.waitpid(pid, 0)[1] == 0
    alive.close()
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_has_locked_is_tried_again_alone_and_stays_ours(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(tmp_path, lambda in_flight: in_flight.chunks.take().began(5, 2, [(event,) for event in EVENTS[:3]]))
    tried: list[list[bytes]] = []

    def adopt(_: Adoption, __: Connection, ___: Legacy, suspicions: list[Suspicion]) -> list[Suspicion]:
        tried.append([one.event_id for one in suspicions])
        return suspicions[:1]  # the one that is locked

    monkeypatch.setattr(Adoption, "_adopt", adopt)
    quarantine, keeper = Mock(hooks=()), Mock()
    adoption = Adoption(tmp_path, DATABASE, quarantine, keeper, 1000, lambda: None)
    for _ in range(3):
        adoption.look(connection)
    assert tried == [EVENTS[:3], EVENTS[:1], EVENTS[:1]]
    pid = os.fork()
    if pid == 0:  # no other process of this host takes it for its own
        os._exit(len(found(tmp_path)))
    assert os.waitpid(pid, 0)[1] == 0


def test_a_file_that_is_none_is_removed_and_one_of_another_boot_too(tmp_path: Path) -> None:
    dead(tmp_path, lambda in_flight: in_flight.workers.take().began(1, 1, [(EVENTS[0],)]))
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    name = path.name.partition("-")[0]
    (tmp_path / f"{name}-cut").write_bytes(whole[:100])
    (tmp_path / f"{name}-short").write_bytes(whole[:-1])
    (tmp_path / f"{name}-odd").write_bytes(b"x" * len(whole))
    (tmp_path / f"{name}-before").write_bytes(whole[:16] + b"0" * 36 + whole[52:])
    [legacy] = found(tmp_path)
    assert legacy.path == path
    legacy.forget()
    assert list(tmp_path.iterdir()) == []


def test_a_place_is_used_again_and_too_few_places_stop_nobody(tmp_path: Path) -> None:
    in_flight = InFlight(DATABASE, "me", chunks=1, workers=1, apart=1)
    for _ in range(1000):
        in_flight.workers.take().began(1, 1, [(EVENTS[0],)])
    held = [in_flight.workers.take() for _ in range(100)]
    for place in held:
        place.began(1, 1, [(EVENTS[0],)])
        place.ended()


def test_a_directory_that_cannot_be_had_is_said_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    in_flight = InFlight(DATABASE, "me", chunks=1, workers=1, apart=1)
    with caplog.at_level(logging.WARNING):
        in_flight.open(tmp_path / "file" / "in-flight")
    assert "nobody will know what it ran" in caplog.text
    in_flight.chunks.take().began(1, 1, [(event,) for event in EVENTS])
    in_flight.close()


def test_a_full_disk_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its place on the disk from the start, or is not used at all."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    in_flight = InFlight(DATABASE, "me", chunks=1, workers=1, apart=1)
    in_flight.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    in_flight.workers.take().began(1, 1, [(EVENTS[0],)])
