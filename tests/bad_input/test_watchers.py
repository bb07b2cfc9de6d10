"""Any definition of a watcher is one, or is refused with what would fit; any file of the spool is read or set aside."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.check import WatcherRefused
from hook_event_processor.watchers.daemon.local_store import LocalStore
from hook_event_processor.watchers.daemon.spool import Limits, SpooledEvent

_OPTIONS = sorted({option for name in kinds.NAMES for option in kinds.kind(name).options})
_CONDITIONS = sorted({condition for name in kinds.NAMES for condition in kinds.kind(name).conditions})
_ODD = (
    *(
        "",
        " ",
        "/",
        "//etc//",
        "/" + "a" * 5000,
        "-1",
        "0",
        "1e308",
        "nan",
        "inf",
        "101%",
        "5Z",
        "99999999999G",
        "true",
    ),
    *("localhost:99999", "[", "(", "(?=a)", "a\nb", "\N{COMBINING ACUTE ACCENT}", "a" * 300),
)
_TEXTS = st.sampled_from(_ODD) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)


@settings(max_examples=600, deadline=None)
@given(
    type_name=st.sampled_from(kinds.NAMES) | _TEXTS,
    conditions=st.lists(st.sampled_from(_CONDITIONS) | _TEXTS, max_size=3),
    options=st.dictionaries(st.sampled_from(_OPTIONS), _TEXTS, max_size=4),
    interval=st.none() | st.floats(),
)
def test_any_definition_is_one_or_is_refused(
    type_name: str, conditions: list[str], options: dict[str, str], interval: float | None
) -> None:
    try:
        read = kinds.read("watcher-1", type_name, conditions, options, interval)
    except WatcherRefused as refusal:
        said = str(refusal)
    else:
        said = f"a {read.type} watcher each {read.interval:g} s"
        assert read.conditions
    assert said
    assert "Traceback" not in said


EVENTS = 200
NEXT = str(UUID(int=10**6))


def _id(n: int) -> str:
    return str(UUID(int=n))


@pytest.fixture(scope="module")
def spooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with events, all of it in one file."""
    path = tmp_path_factory.mktemp("spool") / "web-1.db"
    store = LocalStore(path, ("file",), Limits())
    store.keep(
        [("w1", "file", b"{}")], [SpooledEvent(_id(n), b'{"at": "%s"}' % (b"x" * 300), "file") for n in range(EVENTS)]
    )
    store.close()
    return path


def _events_of(path: Path) -> list[str]:
    store = LocalStore(path, ("file",), Limits())
    try:
        store.definitions()
        store.states()
        store.keep((), [SpooledEvent(NEXT, b"{}", "file")])
        return [event_id for _, event_id, _ in store.first(2 * EVENTS)]
    finally:
        store.close()


@pytest.mark.parametrize("seed", range(25))
def test_a_file_cut_anywhere_is_set_aside_and_gives_up_nothing_that_can_be_read(
    spooled: Path, tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "web-1.db"
    shutil.copy(spooled, path)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(random.Random(seed).randrange(size))
    events = _events_of(path)
    assert events[-1] == NEXT
    assert events[:-1] == sorted(set(events[:-1]) & {_id(n) for n in range(EVENTS)})


@pytest.mark.parametrize("seed", range(25))
def test_a_file_with_bytes_of_another_is_set_aside_and_gives_up_nothing_that_can_be_read(
    spooled: Path, tmp_path: Path, seed: int
) -> None:
    path, chance = tmp_path / "web-1.db", random.Random(seed)
    shutil.copy(spooled, path)
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size))
        file.write(chance.randbytes(2000))
    events = _events_of(path)
    assert events[-1] == NEXT
    assert events[:-1] == sorted(set(events[:-1]) & {_id(n) for n in range(EVENTS)})
    assert len(events) > EVENTS // 2
