"""`hep events cleanup` and `hep events restore` on a real database: what goes, what stays, and what comes back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from commands import Hep
from factories import ago, insert_event, insert_execution
from psycopg import Connection

from hook_event_processor.archive_file import ArchiveWriter
from hook_event_processor.store.database import Database

UNFINISHED = ("pending", "scheduled", "retrying", "processing")
TABLES = ("hook_events", "event_hook_executions")
ODD = {
    "payload": {
        "big": 12345678901234567890123,
        "text": 'é "\\ \n\t \u2028',
        "empty": [{}, [], None],
        "deep": [[[1.50]]],
    },
    "metadata": {"stack": "billing"},
    "processing_errors": ['first, "second"', "{third}", "back\\slash\nline"],
    "occurred_at": ago(days=50),
}


def completed(connection: Connection, kind: str, days: float, **columns: Any) -> UUID:
    source, _, action = kind.partition(".")
    at = ago(days=days)
    event = insert_event(connection, "completed", source=source, action=action, created_at=at, **columns)
    insert_execution(connection, event, executed_at=at)
    return event


def rows(connection: Connection, table: str = "hook_events") -> set[str]:
    return {row[0] for row in connection.execute(f"SELECT to_jsonb(t)::text FROM {table} t")}


def left(connection: Connection) -> set[UUID]:
    return {row[0] for row in connection.execute("SELECT id FROM hook_events")}


def policy(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    path = folder / "retention.toml"
    path.write_text(text)
    monkeypatch.setenv("RETENTION_POLICY", str(path))


def archives(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


def test_what_is_unfinished_stays_whatever_the_rules(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {insert_event(connection, state, created_at=ago(days=900)) for state in UNFINISHED}
    for event in kept:
        insert_execution(connection, event, executed_at=ago(days=800))
    dead = insert_event(connection, "failed", created_at=ago(days=900))
    insert_execution(connection, dead, executed_at=ago(days=800), success=False)
    policy(
        monkeypatch,
        tmp_path,
        '[events]\nage = "1h"\ncount = 1\n[executions]\nage = "1h"\ncount = 1\n'
        '[[rule]]\ntypes = ["*"]\nevents = { age = "1h", count = 1 }\nexecutions = { age = "1h" }\n',
    )
    assert hep("events", "cleanup") == "removed: 0 events and 0 executions\n"
    assert left(connection) == kept | {dead}
    assert len(rows(connection, "event_hook_executions")) == 5


def test_the_first_rule_that_matches_decides(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(
        monkeypatch,
        tmp_path,
        """
        [events]
        failed_age = "60d"
        [[rule]]
        types = ["health.*"]
        events = { age = "24h" }
        [[rule]]
        stacks = ["billing"]
        events = { age = "off", failed_age = "10d" }
        """,
    )
    stack = {"metadata": {"stack": "billing"}}
    stays = {
        completed(connection, "health.check", 0.5),
        completed(connection, "task.done", 29),
        completed(connection, "task.done", 28, seq=-5),
        completed(connection, "task.done", 400, **stack),
        insert_event(connection, "failed", created_at=ago(days=50)),
        insert_event(connection, "failed", created_at=ago(days=9), payload={"stack": "billing"}),
    }
    completed(connection, "health.check", 2)
    completed(connection, "health.check", 3, **stack)
    completed(connection, "task.done", 31)
    insert_event(connection, "failed", created_at=ago(days=61))
    insert_event(connection, "failed", created_at=ago(days=11), payload={"stack": "billing"})
    said = "5 events and 3 executions (default: 2 events, rule 1: 2 events, rule 2: 1 event)\n"
    assert hep("events", "cleanup", "--dry-run") == f"would remove: {said}"
    assert len(left(connection)) == 11
    assert hep("events", "cleanup") == f"removed: {said}"
    assert left(connection) == stays


def test_failed_events_go_by_the_age_of_their_rule_when_asked_to(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(
        monkeypatch,
        tmp_path,
        """
        [events]
        age = "20d"
        [[rule]]
        types = ["health.*"]
        events = { age = "2d" }
        [[rule]]
        types = ["payment.*"]
        events = { age = "2d", failed_age = "off" }
        """,
    )
    ages = {"health": (1, 3), "payment": (1, 3, 300), "task": (3, 19, 21)}
    dead = {
        (source, days): insert_event(connection, "failed", source=source, created_at=ago(days=days))
        for source, each in ages.items()
        for days in each
    }
    assert hep("events", "cleanup") == "removed: 0 events and 0 executions\n"
    said = "removed: 2 events and 0 executions (default: 1 event, rule 1: 1 event)\n"
    assert hep("events", "cleanup", "--failed") == said
    assert left(connection) == {event for key, event in dead.items() if key not in {("health", 3), ("task", 21)}}


def test_failed_events_without_any_age_are_no_quiet_nothing(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETENTION", "off")
    insert_event(connection, "failed", created_at=ago(days=900))
    for text in ("", '[events]\ncount = 5\n[executions]\nage = "1d"\n'):
        policy(monkeypatch, tmp_path, text)
        refused = hep.run("events", "cleanup", "--failed")
        assert refused.status == 2
        assert "neither RETENTION nor a rule has an age for failed events: give --older-than" in refused.errors
    assert hep("events", "cleanup", "--failed", "--older-than", "1d") == "removed: 1 event and 0 executions\n"


def test_a_count_keeps_the_newest(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy(monkeypatch, tmp_path, '[events]\nage = "off"\n[[rule]]\ntypes = ["file.*"]\nevents = { count = 3 }\n')
    others = {completed(connection, "task.done", 100) for _ in range(3)}
    files = [completed(connection, "file.modified", 100 - number) for number in range(8)]
    waiting = insert_event(connection, "pending", source="file", action="modified")
    done = hep.document("events", "cleanup", "--format", "json")
    assert (done["events"], done["executions"], done["rules"]) == (5, 5, {"rule 1": 5})
    assert left(connection) == {*others, *files[-3:], waiting}


def test_a_count_is_exact_however_much_was_published_before(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.execute("ALTER TABLE hook_events ALTER seq RESTART WITH 10_000_000_000")
    events = [completed(connection, "task.done", 100 - number) for number in range(8)]
    policy(monkeypatch, tmp_path, '[events]\nage = "off"\ncount = 3\n')
    assert hep("events", "cleanup") == "removed: 5 events and 5 executions\n"
    assert left(connection) == set(events[-3:])


def test_of_many_events_a_part_more_stays_than_the_count(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hook_event_processor.store.cleanup.counted._PARTS", 100)
    monkeypatch.setattr("hook_event_processor.store.cleanup.pace._MOST", 4)
    connection.execute(
        "INSERT INTO hook_events (source, action, seq, processed, processed_at, created_at)"
        " SELECT 'task', 'done', 100 * n, TRUE, now(), now() - interval '1 day' FROM generate_series(-500, 2499) AS n"
    )
    policy(monkeypatch, tmp_path, '[events]\nage = "off"\ncount = 2700\n')
    hep("events", "cleanup")
    rest = connection.execute("SELECT count(*), min(seq), max(seq) FROM hook_events").fetchone()
    assert rest is not None
    assert 2_700 <= rest[0] < 2_700 + 3_000 / 100
    assert rest[1:] == (249_900 - 100 * (rest[0] - 1), 249_900), "the newest"


def test_executions_go_by_age_and_by_each_hooks_count(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = completed(connection, "task.done", 20)
    noisy = completed(connection, "health.check", 20)
    waiting = insert_event(connection, "retrying")
    for days in range(1, 7):
        insert_execution(connection, event, "counted", executed_at=ago(days=days))
        insert_execution(connection, event, "kept", executed_at=ago(days=days))
        insert_execution(connection, waiting, "counted", executed_at=ago(days=days))
    policy(
        monkeypatch,
        tmp_path,
        '[executions]\nage = "10d"\n[[rule]]\ntypes = ["health.*"]\nexecutions = { age = "30d" }\n'
        '[[rule]]\nhooks = ["count*"]\nexecutions = { count = 4 }\n'
        '[[rule]]\nhooks = ["k??t"]\nexecutions = { age = "3d" }\n',
    )
    assert hep("events", "cleanup") == "removed: 0 events and 9 executions\n"
    found = connection.execute(
        "SELECT hook_name, event_id, count(*) FROM event_hook_executions GROUP BY 1, 2"
    ).fetchall()
    assert set(found) == {("greet", noisy, 1), ("counted", waiting, 6), ("counted", event, 2), ("kept", event, 2)}


def test_executions_are_counted_by_type_and_by_stack_each_hooks_apart(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = insert_event(connection, "retrying", source="health", action="check")
    ended = {
        insert_event(connection, "completed", source="health", action="check"): 3,
        insert_event(connection, "completed", source="payment", action="made", payload={"stack": "billing"}): 5,
        insert_event(connection, "completed", source="audit", action="made"): 10,
        insert_event(connection, "completed", source="task", action="done"): 2,
    }
    nobodys = uuid4()
    for hour in range(20, 10, -1):
        insert_execution(connection, waiting, "books", executed_at=ago(hours=hour))
        insert_execution(connection, nobodys, "left", executed_at=ago(hours=hour))
    for hour in range(10, 0, -1):
        for event in ended:
            insert_execution(connection, event, "books", executed_at=ago(hours=hour))
            insert_execution(connection, event, "mail", executed_at=ago(hours=hour))
    policy(
        monkeypatch,
        tmp_path,
        """
        [executions]
        count = 2
        [[rule]]
        types = ["health.*"]
        executions = { count = 3 }
        [[rule]]
        stacks = ["billing"]
        executions = { count = 5 }
        [[rule]]
        types = ["audit.*"]
        executions = { age = "3650d" }
        """,
    )
    said = "0 events and 48 executions\n"
    assert hep("events", "cleanup", "--dry-run") == f"would remove: {said}"
    assert hep("events", "cleanup") == f"removed: {said}"
    counts = "SELECT hook_name, event_id, count(*), min(executed_at) FROM event_hook_executions GROUP BY 1, 2"
    found = {(hook, event): (number, first) for hook, event, number, first in connection.execute(counts)}
    # Those of what waits are more than three, and stay; of the others the newest.
    assert found.pop(("books", waiting))[0] == 10
    assert found.pop(("left", nobodys))[0] == 2
    assert {key: number for key, (number, _) in found.items()} == {
        (hook, event): count for event, count in ended.items() for hook in ("books", "mail")
    }
    assert all(first > ago(hours=number + 0.5) for number, first in found.values())


def test_former_versions_go_and_the_one_that_runs_stays(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "greet.lua"
    for number in range(6):
        hook.write_text(f'return {{ name = "greet", event_type = "a.b", execute = function() return {number} end }}')
        hep("hook", "add", str(hook))
    hep("hook", "rollback", "greet", "--to", "2")
    connection.execute("UPDATE hook_versions SET created_at = now() - (20 - version) * interval '1 day'")
    before, current = versions(connection)
    policy(monkeypatch, tmp_path, '[versions]\ncount = 3\n[[rule]]\nhooks = ["other"]\nversions = { count = 1 }\n')
    stays = {current, *before[-3:]}
    said = f"removed: 0 events and 0 executions, {len(before) - len(stays)} hook versions\n"
    assert hep("events", "cleanup") == said
    assert versions(connection) == (sorted(stays), current)
    policy(monkeypatch, tmp_path, '[versions]\nage = "1d"\n')
    hep("events", "cleanup")
    assert set(versions(connection)[0]) == {current, before[-1]}, "nothing took the place of the newest"


def versions(connection: Connection) -> tuple[list[int], int]:
    """The versions of the one hook, and the one that runs."""
    row = connection.execute(
        "SELECT array_agg(v.version ORDER BY v.version), max(h.version)"
        " FROM hook_versions v JOIN hooks h ON h.id = v.hook_id"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.fixture
def history(connection: Connection) -> dict[str, set[str]]:
    """What was there, by table: completed and failed events with odd values and several runs."""
    for number in range(40):
        event = completed(connection, "task.done", 40, **(ODD if number % 2 else {}))
        insert_execution(connection, event, "other", success=False, output="é\n\x01\u2028", duration_ms=0.1 + 0.2)
    insert_event(connection, "failed", created_at=ago(days=90), priority=1)
    return {table: rows(connection, table) for table in TABLES}


def test_files_bring_back_exact_rows_once(
    hep: Hep, connection: Connection, tmp_path: Path, history: dict[str, set[str]]
) -> None:
    folder = tmp_path / "archive"
    done = hep.document(
        "events", "cleanup", "--older-than", "30d", "--failed", "--archive", str(folder), "--format", "json"
    )
    assert (done["events"], done["executions"]) == (41, 80)
    assert done["archives"] == archives(folder)
    assert left(connection) == set()
    said = "restored: 41 events and 80 executions\n"
    assert hep("events", "restore", "--check", str(folder)) == "whole: 1 file with 41 events and 80 executions\n"
    assert hep("events", "restore", *archives(folder)) == said
    assert {table: rows(connection, table) for table in TABLES} == history
    again = "restored: 0 events and 0 executions; 41 events were there already\n"
    assert hep("events", "restore", str(folder)) == again
    assert {table: rows(connection, table) for table in TABLES} == history


def test_what_comes_back_runs_only_when_asked_to(
    hep: Hep, connection: Connection, tmp_path: Path, history: dict[str, set[str]]
) -> None:
    hep("events", "cleanup", "--older-than", "30d", "--failed", "--archive", str(tmp_path / "archive"))
    newest = insert_event(connection)
    assert hep("events", "restore", "--run-again", str(tmp_path / "archive")).startswith("restored: 41 events and 0 ")
    states = connection.execute("SELECT state, count(*) FROM events GROUP BY 1").fetchall()
    assert states == [("pending", 42)]
    behind = (
        "SELECT bool_and(seq > (SELECT seq FROM hook_events WHERE id = %(id)s)) FROM hook_events WHERE id <> %(id)s"
    )
    assert connection.execute(behind, {"id": newest}).fetchone() == (True,)


def test_an_event_that_is_there_gets_no_executions_of_its_former_life(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would say of its hooks that they have succeeded already."""
    completed(connection, "task.done", 40)
    monkeypatch.setenv("RETENTION_ARCHIVE", str(tmp_path / "archive"))
    hep("events", "cleanup", "--older-than", "30d")
    [file] = (tmp_path / "archive").glob("events-*")
    hep("events", "restore", "--run-again", str(file))
    hep("events", "restore", str(file))
    assert connection.execute("SELECT count(*) FROM hook_events WHERE NOT processed").fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM event_hook_executions").fetchone() == (0,)


def archived_elsewhere(hep: Hep, connection: Connection, folder: Path, **columns: Any) -> None:
    """An archive of three events, with an execution each, and a database that has counted neither."""
    for _ in range(3):
        completed(connection, "task.done", 40, **columns)
    hep("events", "cleanup", "--archive", str(folder))
    connection.execute("TRUNCATE hook_events, event_hook_executions RESTART IDENTITY")


def numbers(connection: Connection) -> list[tuple[int, int]]:
    """The highest number and how many there are, of events and of executions."""
    found = connection.execute(
        "SELECT max(seq), count(*) FROM hook_events UNION ALL SELECT max(id), count(*) FROM event_hook_executions"
    )
    return found.fetchall()


def test_new_rows_are_numbered_behind_what_came_back(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    archived_elsewhere(hep, connection, tmp_path / "archive")
    assert hep("events", "restore", str(tmp_path / "archive")) == "restored: 3 events and 3 executions\n"
    for number in (4, 5):
        insert_execution(connection, insert_event(connection))
        assert numbers(connection) == [(number, number)] * 2


def test_numbers_that_are_further_stay_there(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    archived_elsewhere(hep, connection, tmp_path / "archive")
    for _ in range(7):
        insert_execution(connection, insert_event(connection), "other")
    hep("events", "restore", str(tmp_path / "archive"))
    insert_execution(connection, insert_event(connection))
    assert numbers(connection) == [(8, 11), (8, 11)]


def test_executions_whose_numbers_were_given_again_come_back_with_new_ones(
    hep: Hep, connection: Connection, tmp_path: Path
) -> None:
    """As after the restore of a dump that is older than the archive: the same hook has run on since."""
    folder = tmp_path / "archive"
    archived_elsewhere(hep, connection, folder)
    for _ in range(2):
        insert_execution(connection, insert_event(connection))
    present = rows(connection, "event_hook_executions")
    assert hep("events", "restore", str(folder)) == "restored: 3 events and 3 executions\n"
    found = rows(connection, "event_hook_executions")
    assert present < found
    back = [json.loads(row) for row in found - present]
    assert sorted(row["id"] for row in back) == [3, 4, 5]
    [file] = folder.iterdir()
    archived = [json.loads(line).get("executions", []) for line in gzip.decompress(file.read_bytes()).splitlines()]
    without_number = [{**row, "id": None} for row in back]
    assert all({**row, "id": None} in without_number for [row] in archived[1:-1])
    again = "restored: 0 events and 0 executions; 3 events were there already\n"
    assert hep("events", "restore", str(folder)) == again
    assert rows(connection, "event_hook_executions") == found


def test_executions_that_outlived_their_event_are_not_put_back_beside_themselves(
    hep: Hep, connection: Connection, tmp_path: Path, history: dict[str, set[str]]
) -> None:
    hep("events", "cleanup", "--older-than", "30d", "--failed", "--archive", str(tmp_path / "archive"))
    hep("events", "restore", str(tmp_path / "archive"))
    connection.execute("DELETE FROM hook_events")
    assert hep("events", "restore", str(tmp_path / "archive")) == "restored: 41 events and 0 executions\n"
    assert {table: rows(connection, table) for table in TABLES} == history


def test_nobody_takes_a_number_while_it_is_raised(
    hep: Hep, connection: Connection, database: Database, tmp_path: Path
) -> None:
    archived_elsewhere(hep, connection, tmp_path / "archive")
    with database.connect("tests") as other:
        insert_execution(other, uuid4(), "other")
        refusal = hep.fault("events", "restore", str(tmp_path / "archive"))
        assert "inserted rows into event_hook_executions, and not committed for 2 seconds: restore again" in refusal
        assert left(connection) == set()
        other.commit()
    assert hep("events", "restore", str(tmp_path / "archive")) == "restored: 3 events and 3 executions\n"


def test_a_number_of_a_writers_choice_at_the_end_leaves_room(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    archived_elsewhere(hep, connection, tmp_path / "archive", seq=2**63 - 1)
    hep("events", "restore", str(tmp_path / "archive"))
    event = insert_event(connection)
    assert connection.execute("SELECT seq FROM hook_events WHERE id = %s", (event,)).fetchone() == (1,)


def test_two_ways_to_one_directory_are_two_archives(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for event_type in ("payment.made", "task.done"):
        completed(connection, event_type, 40)
    folder = tmp_path / "archive"
    monkeypatch.setenv("RETENTION_ARCHIVE", f"{folder}/")
    text = f'[events]\nage = "30d"\n[[rule]]\ntypes = ["payment.*"]\nevents = {{ age = "30d", archive = "{folder}" }}\n'
    policy(monkeypatch, tmp_path, text)
    hep("events", "cleanup")
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (0,)
    hep("events", "restore", *map(str, sorted(folder.glob("events-*"))))
    assert connection.execute("SELECT count(*) FROM hook_events").fetchone() == (2,)


def test_an_archive_in_tables_holds_the_rows_as_they_were(
    hep: Hep, connection: Connection, history: dict[str, set[str]]
) -> None:
    said = hep("events", "cleanup", "--older-than", "30d", "--failed", "--archive", "table")
    assert said.endswith("; archived in the tables hook_archived_events and hook_archived_executions\n")
    assert left(connection) == set()
    for table, archive in zip(TABLES, ("hook_archived_events", "hook_archived_executions"), strict=True):
        found = connection.execute(f"SELECT (to_jsonb(t) - 'archived_at')::text FROM {archive} t")
        assert {row[0] for row in found} == history[table]


def test_both_archives_have_the_columns_of_their_tables(connection: Connection) -> None:
    query = (
        "SELECT attname, atttypid FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    )
    for table, archive in zip(TABLES, ("hook_archived_events", "hook_archived_executions"), strict=True):
        columns = set(connection.execute(query, (table,)))
        archived = set(connection.execute(query, (archive,)))
        assert {name for name, _ in archived - columns} == {"archived_at"}
        assert columns <= archived, "a migration that adds a column adds it to the archive, too"


def test_an_archive_without_a_column_is_refused_before_anything_goes(hep: Hep, connection: Connection) -> None:
    completed(connection, "task.done", 40)
    connection.execute("ALTER TABLE hook_events ADD COLUMN extra text")
    refusal = hep.fault("events", "cleanup", "--older-than", "1d", "--archive", "table")
    assert "hook_archived_events lacks the columns extra of hook_events" in refusal
    assert len(left(connection)) == 1


def test_what_cannot_be_archived_is_not_removed(
    hep: Hep, connection: Connection, tmp_path: Path, history: dict[str, set[str]]
) -> None:
    taken = tmp_path / "archive"
    taken.write_text("a file")
    refusal = hep.fault("events", "cleanup", "--older-than", "1d", "--archive", str(taken))
    assert f"{taken}: nothing more is archived or removed: File exists" in refusal
    assert rows(connection) == history["hook_events"]


def test_what_was_changed_after_it_was_archived_stays(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed event that is retried between the writing of the file and its removal."""
    event = insert_event(connection, "failed", created_at=ago(days=40))
    before_removal(monkeypatch, connection, "UPDATE hook_events SET retry_count = 0")
    said = hep("events", "cleanup", "--older-than", "1d", "--failed", "--archive", str(tmp_path / "archive"))
    assert said.startswith("removed: 0 events")
    assert left(connection) == {event}


def test_what_was_changed_and_lies_where_it_lay_stays(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed event that is retried; what it becomes then takes the place that VACUUM has freed."""
    event = insert_event(connection, "failed", created_at=ago(days=40))
    lay = connection.execute("SELECT ctid::text FROM hook_events").fetchall()
    before_removal(
        monkeypatch,
        connection,
        "UPDATE hook_events SET failed_at = NULL, available_at = now()",
        "VACUUM (INDEX_CLEANUP ON) hook_events",
        "UPDATE hook_events SET processed = TRUE, processed_at = now()",
    )
    said = hep("events", "cleanup", "--older-than", "1d", "--failed", "--archive", str(tmp_path / "archive"))
    assert said.startswith("removed: 0 events")
    assert left(connection) == {event}
    assert connection.execute("SELECT ctid::text FROM hook_events").fetchall() == lay, "else this tests nothing"


def test_what_was_frozen_after_it_was_archived_goes(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed(connection, "task.done", 40)
    before_removal(monkeypatch, connection, "VACUUM (FREEZE) hook_events")
    said = hep("events", "cleanup", "--older-than", "1d", "--archive", str(tmp_path / "archive"))
    assert said.startswith("removed: 1 event and 1 execution")
    assert left(connection) == set()


def before_removal(monkeypatch: pytest.MonkeyPatch, connection: Connection, *statements: str) -> None:
    """Have this happen between the writing of a file and the removal of what it holds."""
    publish = ArchiveWriter.publish

    def later(writer: ArchiveWriter) -> Path:
        for statement in statements:
            connection.execute(statement)
        return publish(writer)

    monkeypatch.setattr(ArchiveWriter, "publish", later)


def test_a_row_that_somebody_holds_is_left_for_the_next_time(hep: Hep, connection: Connection, database: Any) -> None:
    held, free = completed(connection, "task.done", 40), completed(connection, "task.done", 40)
    with database.session("tests") as other, other.transaction():
        other.execute("SELECT FROM hook_events WHERE id = %s FOR UPDATE", (held,))
        assert hep("events", "cleanup") == "removed: 1 event and 1 execution\n"
    assert left(connection) == {held}
    assert free not in left(connection)


@pytest.mark.parametrize("arguments", [("cleanup", "--older-than", "1d", "--archive", ""), ("restore", "")])
def test_an_empty_path_is_not_the_directory_one_is_in(
    hep: Hep, connection: Connection, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    completed(connection, "task.done", 40)
    before = sorted(Path.cwd().iterdir())
    refused = hep.run("events", *arguments)
    assert refused.status == 2
    assert "an empty name is none" in refused.errors
    assert (len(left(connection)), sorted(Path.cwd().iterdir())) == (1, before)


def test_a_broken_file_puts_nothing_back(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    for _ in range(2):
        completed(connection, "task.done", 40)
        hep("events", "cleanup", "--archive", str(folder))
    first, second = sorted(folder.iterdir())
    lines = gzip.decompress(second.read_bytes()).splitlines(keepends=True)
    second.write_bytes(gzip.compress(b"".join([lines[0], lines[1].replace(b'"task"', b'"tusk"'), *lines[2:]])))
    refusal = hep.fault("events", "restore", str(first), str(second))
    assert f"{second}: line 2: it was altered" in refusal
    assert left(connection) == set()


def test_an_archive_of_a_newer_schema_is_refused(hep: Hep, connection: Connection, tmp_path: Path) -> None:
    connection.execute("ALTER TABLE hook_events ADD COLUMN later text")
    completed(connection, "task.done", 40)
    hep("events", "cleanup", "--archive", str(tmp_path / "archive"))
    connection.execute("ALTER TABLE hook_events DROP COLUMN later")
    assert "hook_events of this database lacks the columns later" in hep.fault(
        "events", "restore", str(tmp_path / "archive")
    )


def test_files_are_closed_when_they_are_large(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hook_event_processor.store.cleanup.to_files.MOST_EVENTS", 1_000)
    connection.execute(
        "INSERT INTO hook_events (source, action, processed, processed_at, created_at, payload) SELECT 'task', 'done',"
        " TRUE, now() - interval '40 days', now() - interval '41 days', jsonb_build_object('text', repeat('x', 300))"
        " FROM generate_series(1, 5000)"
    )
    history = rows(connection)
    monkeypatch.setenv("RETENTION_ARCHIVE", str(tmp_path / "archive"))
    hep("events", "cleanup")
    assert left(connection) == set()
    assert len(archives(tmp_path / "archive")) > 1
    hep("events", "restore", *archives(tmp_path / "archive"))
    assert rows(connection) == history


def test_a_pattern_that_is_none_is_refused(hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(monkeypatch, tmp_path, '[[rule]]\ntypes = ["~("]\nevents = { age = "1d" }\n')
    refused = hep.run("events", "cleanup")
    assert refused.status == 78
    assert refused.errors.startswith("hep: RETENTION_POLICY: the pattern '~(' is not a regular")


def test_the_settings_are_shown_as_they_were_given(hep: Hep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETENTION_ARCHIVE", "table")
    shown = {line["name"]: line["value"] for line in json.loads(hep("config", "--format", "json"))}
    assert shown["RETENTION_ARCHIVE"] == "table"
