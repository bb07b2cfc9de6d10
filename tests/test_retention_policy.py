"""The file with the rules of retention: what it says, and how it is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from hook_event_processor.errors import SettingsError
from hook_event_processor.retention_policy import Keep, RetentionPolicy, default_policy, read_retention

DEFAULT = default_policy(timedelta(days=30), "/srv/archive")


def read(folder: Path, text: str) -> RetentionPolicy:
    path = folder / "retention.toml"
    path.write_text(text)
    return read_retention(path, DEFAULT)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == DEFAULT


def test_rules_come_in_their_order_and_the_default_last(tmp_path: Path) -> None:
    policy = read(
        tmp_path,
        """
        [events]
        failed_age = "90d"
        [executions]
        age = "7d"
        [versions]
        count = 20
        [[rule]]
        types = ["health.*", "~^file\\\\."]
        events = { age = "24h", count = 1000, archive = "off" }
        executions = { count = 5000 }
        [[rule]]
        stacks = ["billing"]
        events = { age = "3650d", archive = "table" }
        versions = { age = "off" }
        [[rule]]
        hooks = ["greet*"]
        executions = { count = 100 }
        """,
    )
    day = timedelta(days=1)
    assert policy.events == (
        Keep("rule 1", types=("health.*", r"~^file\."), age=day, count=1000),
        Keep("rule 2", stacks=("billing",), age=3650 * day, archive="table"),
        Keep(age=30 * day, failed_age=90 * day, archive="/srv/archive"),
    )
    assert policy.executions == (
        Keep("rule 1", types=("health.*", r"~^file\."), count=5000),
        Keep("rule 3", hooks=("greet*",), count=100),
        Keep(age=7 * day),
    )
    assert policy.versions == (Keep("rule 2", stacks=("billing",)), Keep(count=20))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age = 1", "unknown entry 'age': it takes [PART] and [[rule]]"),
        ("rule = 1", "unknown entry 'rule'"),
        ("[events]\nage = 30", "[events]: age: it is 30: it takes a number of hours or days"),
        ("[events]\nage = '5 days'", "[events]: age: it is '5 days': it takes a number of hours or days"),
        ("[events]\ncount = 0", "[events]: count: it is 0: it takes a whole number from 1"),
        ("[events]\ncount = true", "[events]: count: it is True: it takes a whole number from 1"),
        ("[events]\narchive = 'here'", "[events]: archive: it is 'here': it takes off, table, or the absolute path"),
        ("[versions]\nfailed_age = '1d'", "[versions]: unknown key 'failed_age': it takes age, count"),
        ("events = 3", "[events]: it is no table: it takes age, count, failed_age, archive"),
        ("[[rule]]\ntypes = ['a.b']", "[[rule]] 1: it lacks what it is for, or what it says of it"),
        ("[[rule]]\nevents = {}", "[[rule]] 1: it lacks what it is for, or what it says of it"),
        ("[[rule]]\ntypes = 'a.b'\nevents = {}", "[[rule]] 1: types: it is 'a.b': it takes a list of strings"),
        ("[[rule]]\ntypes = ['a.b']\nkeep = 1", "[[rule]] 1: unknown key 'keep': it takes types, stacks, hooks and"),
        ("[[rule]]\nhooks = ['a']\nevents = {}", "[[rule]] 1: events cannot go by hooks: it takes for events: types"),
        ("[[rule]]\ntypes = ['a']\nversions = {}", "[[rule]] 1: versions cannot go by types"),
        ("[[rule", "retention.toml: "),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).startswith("RETENTION_POLICY: ")
    assert said.replace("PART", "events, executions or versions") in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file or directory$"):
        read_retention(tmp_path / "none.toml", DEFAULT)


def test_a_rule_removes_by_an_age_or_a_count() -> None:
    day = timedelta(days=1)
    assert [Keep().removes, Keep(age=day).removes, Keep(failed_age=day).removes, Keep(count=1).removes] == [
        False,
        True,
        True,
        True,
    ]
