"""Files of archived events: whole ones are read as they were written, and others are refused with the place."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hook_event_processor import archive_file
from hook_event_processor.archive_file import ArchiveWriter
from hook_event_processor.errors import ArchiveRefused

HEAD: dict[str, Any] = {"host": "here", "columns": {}}


def written(folder: Path, events: int = 3) -> Path:
    with ArchiveWriter(folder, HEAD) as writer:
        for number in range(events):
            writer.add(f'{{"id":{number},"payload":{{"n":1e400,"text":"é\\n"}}}}', '[{"id":1},\n {"id":2}]', 2)
        return writer.publish()


def rewritten(path: Path, change: Any) -> Path:
    """The file with its lines changed, compressed as if that had been meant."""
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(change(lines))))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    totals = archive_file.verify(path)
    assert (totals.events, totals.executions) == (3, 6)
    lines = [line for _, line in archive_file.lines(path)]
    assert [json.loads(line)["event"]["id"] for line in lines] == [0, 1, 2]
    assert b'"n":1e400' in lines[0]
    assert path.stat().st_mode & 0o777 == 0o600


def test_zcat_and_other_programs_read_it(tmp_path: Path) -> None:
    shown = subprocess.run(["zcat", str(written(tmp_path))], capture_output=True, text=True, check=True).stdout
    head, *events, end = map(json.loads, shown.splitlines())
    assert head["archive"] == "hook-event-processor"
    assert [event["executions"] for event in events] == [[{"id": 1}, {"id": 2}]] * 3
    assert end["end"]["events"] == 3


def test_names_sort_by_time_and_take_no_others_place(tmp_path: Path) -> None:
    paths = [written(tmp_path) for _ in range(3)]
    assert sorted(paths) == paths
    assert archive_file.files([tmp_path]) == paths


def test_what_was_not_published_leaves_nothing(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path, HEAD) as writer:
        writer.add("{}", "[]", 0)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveRefused, match=r": line \d+: "):
            archive_file.verify(path)


def test_a_bit_that_was_turned_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for place in range(10, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ArchiveRefused):
            archive_file.verify(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [line.replace(b'"id":1,', b'"id":7,') for line in lines], "line 3: it was altered"),
        (lambda lines: lines[:2] + lines[3:], "line 3: it was altered, or what stood before it was"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2: it was altered"),
        (lambda lines: lines[:2] + lines[1:], "line 3: it was altered"),
        (lambda lines: lines[:3], "line 4: the file ends before its last line: it was cut"),
        (lambda lines: lines[:3] + lines[4:], "line 4: the file holds 2 events, and not the 3"),
        (lambda lines: [lines[0].replace(b"here", b"there"), *lines[1:]], "line 2: it was altered, or what stood"),
        (lambda lines: [*lines, lines[1]], "line 6: something follows the last line"),
        (lambda lines: [*lines[:4], b'{"end":{}}\n'], "line 5: the last line was altered"),
        (lambda lines: lines[1:], "line 1: it is no archive of hook-event-processor"),
        (lambda lines: [lines[0].replace(b'"format": 1', b'"format": 9'), *lines[1:]], "line 1: its format is 9"),
        (lambda lines: [lines[0], lines[1].rstrip(b"\n")], "line 2: the line has no end"),
    ],
)
def test_an_altered_file_says_where(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(ArchiveRefused, match=f": {said}"):
        archive_file.verify(rewritten(written(tmp_path), change))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes"
    text.write_text("hello")
    with pytest.raises(ArchiveRefused, match="line 1: it is no gzip file"):
        archive_file.verify(text)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveRefused, match=r"empty holds no file whose name ends in \.jsonl\.gz"):
        archive_file.files([tmp_path / "empty"])
    with pytest.raises(ArchiveRefused, match="is not there"):
        archive_file.files([tmp_path / "other"])
