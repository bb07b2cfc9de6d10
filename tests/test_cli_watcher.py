"""`hep watcher`: every option of every type, the first documents' words, what a trial and the daemon do."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Hep
from factories import ago
from psycopg import Connection
from waiting import wait_for

from hook_event_processor.cli.parser import commands_of, parser, whole_parser
from hook_event_processor.store import watchers
from hook_event_processor.store.watchers import Looked, NewWatcher
from hook_event_processor.watchers import kinds
from hook_event_processor.watchers.host import proc

SEED = """\
my-agent --type file --path /etc/nginx/nginx.conf --when changed --interval 10s --check-hash
my-agent --type file --path /var/log/app/ --when created --interval 30s
my-agent --type cpu --threshold 80 --interval 15s
my-agent --type memory --threshold 90 --interval 30s
my-agent --type process --name nginx --when stopped --interval 10s
my-agent --type port --port 8080 --when closed --interval 5s
my-agent --type service --name docker --when failed --interval 20s"""


@pytest.fixture(autouse=True)
def _this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST_NAME", "web-1")


def create(hep: Hep, *arguments: str) -> Any:
    return hep.document("watcher", "create", *arguments, "--format", "json")


@pytest.mark.parametrize("line", SEED.splitlines())
def test_the_first_documents_watchers_are_created_as_they_are_written(hep: Hep, line: str) -> None:
    said = hep("agent", "watcher", "create", *line.split())
    assert said.startswith("created: watcher-")
    assert " on my-agent\n" in said
    assert said.splitlines()[2] == (
        "Nothing watches on my-agent yet: 'hep up' starts the daemon where it runs, else 'hep watcher run' does."
    )
    [watcher] = hep.document("agent", "watcher", "list", "my-agent", "--format", "json")
    words = line.split()
    assert (watcher["type"], watcher["host"]) == (words[2], "my-agent")
    for flag in ("--path", "--threshold", "--name", "--port"):
        if flag in words:
            given = words[words.index(flag) + 1]
            assert watcher["options"][flag[2:]] == given
            assert given.rstrip("/") in watcher["target"]
    if "--when" in words:
        assert watcher["conditions"] == [words[words.index("--when") + 1]]
    assert f"{watcher['interval_seconds']:g}s" == words[words.index("--interval") + 1]


def test_get_and_delete_take_host_and_id_in_either_order(hep: Hep) -> None:
    watcher = create(hep, "db-1", "--type", "cpu")["id"]
    for arguments in ((watcher,), (watcher, "db-1"), ("db-1", watcher)):
        shown = hep("agent", "watcher", "get", *arguments)
        assert f"{watcher}\n" in shown
        assert "system.cpu_high" in shown
    assert f"there is no watcher {watcher!r} on web-9" in hep.fault("watcher", "get", "web-9", watcher)
    assert hep("agent", "watcher", "delete", "db-1", watcher) == f"deleted: {watcher} on db-1\n"
    assert hep.fault("watcher", "get", watcher) == (
        f"hep: there is no watcher {watcher!r}: 'hep watcher list --all' lists them"
    )


@pytest.mark.parametrize("words", [("db-1", "idle"), ("idle", "db-1"), ("db-9", "busy"), ("busy", "db-9")])
def test_the_host_of_two_words_that_name_no_watcher_is_told_apart(hep: Hep, words: tuple[str, str]) -> None:
    create(hep, "db-1", "--type", "cpu", "--name", "busy")
    name, host = sorted(words, key=lambda word: word.startswith("db-"))
    for command in ("get", "delete"):
        assert hep.fault("watcher", command, *words) == (
            f"hep: there is no watcher {name!r} on {host}: 'hep watcher list {host}' lists what there is"
        )


def test_two_watchers_at_a_time_are_misuse(hep: Hep) -> None:
    one, other = (create(hep, "--type", "cpu")["id"] for _ in range(2))
    finished = hep.run("watcher", "disable", one, other)
    assert (finished.status, finished.fault) == (
        2,
        f"hep: {one!r} and {other!r} are two watchers: name one at a time",
    )


def test_the_host_is_this_one_unless_another_is_named(hep: Hep) -> None:
    create(hep, "--type", "cpu")
    create(hep, "db-1", "--type", "load", "--threshold", "8")
    assert [watcher["host"] for watcher in hep.document("watcher", "list", "--format", "json")] == ["web-1"]
    assert "load" in hep("watcher", "list", "db-1")
    assert "2 watchers" in hep("watcher", "list", "--all")
    assert "1 watcher\n" in hep("watcher", "list", "--all", "--type", "load")
    assert hep("watcher", "list", "web-9") == (
        "No watchers on web-9; 'hep watcher list --all' shows 2 watchers of other hosts.\n"
    )
    finished = hep.run("watcher", "list", "web-1", "--all")
    assert (finished.status, finished.fault) == (2, "hep: give either HOST or --all, which is every host")


def test_that_there_are_no_watchers_of_some_types_is_said_of_these(hep: Hep) -> None:
    create(hep, "--type", "cpu")
    create(hep, "db-1", "--type", "load", "--threshold", "8")
    assert hep("watcher", "list", "--type", "load,port") == (
        "No watchers of type load or port on web-1;"
        " 'hep watcher list --all --type load,port' shows 1 watcher of other hosts.\n"
    )
    assert hep("watcher", "list", "--all", "--type", "port") == "No watchers of type port.\n"


@pytest.mark.parametrize("arguments", [("list", "--all"), ("run",)])
def test_a_type_that_there_is_not_is_misuse(hep: Hep, arguments: tuple[str, ...]) -> None:
    for given, hint in (("nope", "types are file, "), ("fil", "did you mean file?")):
        finished = hep.run("watcher", *arguments, "--type", given)
        assert (finished.status, f"there is no watcher type {given!r}; " in finished.fault) == (2, True)
        assert hint in finished.fault


def test_the_list_has_the_first_documents_columns_and_how_watchers_do(hep: Hep, connection: Connection) -> None:
    watcher = create(hep, "--type", "file", "--path", "/tmp/test.txt", "--interval", "3s")["id"]
    header, row, *_ = hep("watcher", "list").splitlines()
    assert header.split("  ")[0] == "ID"
    names = ("ID", "Type", "Path/Target", "When", "Interval", "Status", "Last Check", "Last Event")
    assert [header.index(name) for name in names] == sorted(header.index(name) for name in names)
    assert row.split() == [
        watcher[: len("watcher-") + 10],
        "file",
        "/tmp/test.txt",
        "changed",
        "3s",
        "active",
        "-",
        "-",
    ]
    watchers.say_looked(connection, [Looked(watcher, ago(), "no such directory: /tmp")])
    connection.execute("UPDATE watchers SET last_event = now() - interval '5 seconds'")
    header, row, *_ = hep("watcher", "list").splitlines()
    assert "Last Error" in header
    assert "failing" in row
    assert row.endswith("no such directory: /tmp")
    shown = hep.document("watcher", "get", watcher, "--format", "json")
    assert shown["last_check"] > shown["last_event"]
    assert (shown["status"], shown["last_error"]) == ("failing", "no such directory: /tmp")


def test_the_options_of_a_watcher_are_shown_as_create_takes_them(hep: Hep) -> None:
    given = ("--path", "/tmp/my logs", "--recursive", "--pattern", "*.log")
    watcher = create(hep, "--type", "file", *given)
    shown = next(line for line in hep("watcher", "get", watcher["id"]).splitlines() if line.startswith("Options:"))
    again = create(hep, "--type", "file", *shlex.split(shown.partition(":")[2]))
    assert again["options"] == watcher["options"]


def test_ids_are_printed_as_short_as_they_are_still_good(hep: Hep, connection: Connection) -> None:
    for identifier in ("watcher-1759942165000000001", "watcher-1759942165000000002", "watcher-1759942199000000000"):
        connection.execute("INSERT INTO watchers (id, type, host) VALUES (%s, 'cpu', 'web-1')", (identifier,))
    lines = hep("watcher", "list").splitlines()[1:4]
    short = [line.split()[0] for line in lines]
    assert short == ["watcher-1759942165000000001", "watcher-1759942165000000002", "watcher-1759942199"]
    assert "watcher-1759942199000000000" in hep("watcher", "get", "1759942199")
    assert "stands for more than one watcher" in hep.fault("watcher", "get", "watcher-1759942165")


def test_a_watcher_is_disabled_and_enabled_once(hep: Hep) -> None:
    watcher = create(hep, "--type", "cpu", "--name", "busy", "--disabled")["id"]
    assert "disabled" in hep("watcher", "list")
    assert hep("watcher", "enable", "busy") == f"enabled: {watcher} busy on web-1\n"
    assert hep("watcher", "enable", "busy") == f"{watcher} busy on web-1 is enabled already\n"
    assert hep("watcher", "disable", watcher).startswith("disabled: ")


def test_conditions_are_repeated_or_separated_by_commas(hep: Hep) -> None:
    watcher = create(hep, "--type", "file", "--path", "/tmp", "--when", "created,deleted", "--when", "renamed,created")
    assert watcher["conditions"] == ["created", "deleted", "renamed"]
    assert watcher["event_types"] == ["file.created", "file.deleted", "file.renamed"]


def test_where_a_type_takes_a_name_the_watcher_has_a_label(hep: Hep) -> None:
    watcher = create(hep, "--type", "process", "--name", "nginx", "--label", "web server")
    assert (watcher["name"], watcher["options"]) == ("web server", {"name": "nginx"})
    assert create(hep, "--type", "cpu", "--name", "busy")["name"] == "busy"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--type cpuu", "there is no watcher type 'cpuu'; did you mean cpu? types are file, directory"),
        ("--type cpu --when norml", "has no condition 'norml'; did you mean normal? it has above, below"),
        ("--type cpu --label x", "the name of a cpu watcher is --name: --label is for types that take a --name"),
        ("--type cpu --interval 400d", "the interval is 34560000 s: it takes 0.1 s to one day"),
        ("--type log --path /x --pattern (", "--pattern: '(' is no regular expression: missing ): ("),
        ("--type cpu --when hot", "a cpu watcher has no condition 'hot'; it has above, below, changed, high, normal"),
        ("--type cpu --path /x", "a cpu watcher does not take --path; it takes --threshold, --per-core"),
        ("--type cpu --threshold 900", "--threshold is '900': a cpu watcher takes a percentage from 0 to 100"),
        ("--type file", "a file watcher needs --path"),
        ("--type file --path etc", "--path is 'etc': a file watcher takes an absolute path"),
        ("--type cpu --interval soon", "'soon' is not a duration: write 200ms, 10s, 5m or 1h30m"),
        ("--type cpu --interval 1ms", "the interval is 0.001 s: it takes 0.1 s to one day"),
        ("--threshold 80", "the following arguments are required: -t/--type"),
        ("--type cpuu --pth 5", "no type of watchers takes --pth"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(hep: Hep, arguments: str, said: str) -> None:
    finished = hep.run("watcher", "create", *arguments.split())
    assert finished.status == 2
    assert said in finished.fault
    assert hep.document("watcher", "list", "--all", "--format", "json") == []


@pytest.mark.parametrize(("given", "shown"), [("500GB", "500G"), ("1.5g", "1536M"), ("0", "0 bytes")])
def test_a_size_is_listed_as_it_is_read(hep: Hep, given: str, shown: str) -> None:
    target = create(hep, "--type", "disk", "--path", "/srv/a b", "--free", given)["target"]
    assert target == f"/srv/a b, free: {shown}"


def test_a_name_is_given_once_a_host(hep: Hep) -> None:
    create(hep, "--type", "cpu", "--name", "busy")
    assert "web-1 has a watcher named 'busy' already" in hep.fault(
        "watcher", "create", "--type", "load", "--threshold", "4", "--name", "busy"
    )


def test_a_row_that_makes_no_sense_is_listed_with_its_fault(hep: Hep, connection: Connection) -> None:
    watchers.add(connection, NewWatcher("web-1", "cpu", options={"treshold": "5"}))
    assert "a cpu watcher does not take --treshold" in hep("watcher", "list")
    assert hep.document("watcher", "list", "--format", "json")[0]["status"] == "failing"


@pytest.mark.parametrize(
    "config",
    ['{"options": [1]}', '{"conditions": 5}', f'{{"interval": 1{"0" * 400}}}', f'{{"interval": 1{"0" * 5000}}}'],
)
def test_a_row_that_nobody_can_read_is_listed_shown_disabled_and_deleted(
    hep: Hep, connection: Connection, config: str
) -> None:
    connection.execute(
        "INSERT INTO watchers (id, type, host, config) VALUES ('watcher-9', 'cpu', 'web-1', %s)", (config,)
    )
    assert "its config h" in " ".join(hep("watcher", "list").split())
    [listed] = hep.document("watcher", "list", "--format", "json")
    assert (listed["id"], listed["status"], listed["last_error"][:12]) == ("watcher-9", "failing", "its config h")
    assert listed["last_error"] in hep("watcher", "get", "watcher-9")
    assert hep.document("watcher", "get", "watcher-9", "--format", "json") == listed
    assert listed["last_error"] in hep.fault("watcher", "test", "watcher-9")
    hep("watcher", "disable", "watcher-9")
    hep("watcher", "delete", "watcher-9")
    assert hep.document("watcher", "list", "--format", "json") == []


def test_every_option_of_every_type_is_an_option_of_create() -> None:
    [create_command] = [command for command in commands_of(whole_parser()) if command.prog == "hep watcher create"]
    flags = {flag for action in create_command._actions for flag in action.option_strings}
    for name in kinds.NAMES:
        assert flags >= {f"--{option.replace('_', '-')}" for option in kinds.kind(name).options}


@pytest.mark.parametrize("name", kinds.NAMES)
def test_help_of_a_type_tells_of_it_alone(hep: Hep, name: str) -> None:
    kind = kinds.kind(name)
    said = " ".join(hep("watcher", "create", "--type", name, "--help").split())
    assert f"{name}: {kind.summary}. Conditions: " in said
    assert all(condition in said for condition in kind.conditions)
    assert all(f"--{option.replace('_', '-')}" in said for option in kind.options)
    assert ("--per-core" in said) == (name == "cpu")


@pytest.mark.parametrize("name", kinds.NAMES)
def test_help_of_a_type_says_what_its_options_take(hep: Hep, name: str) -> None:
    said = " ".join(hep("watcher", "create", "--type", name, "--help").split())
    for option in kinds.kind(name).options.values():
        takes = "" if option.flag else f"; takes {option.takes}"
        assert f"{option.help}{takes}{' (needed)' if option.required else ''}" in said
    assert ("--name NAME a name for the watcher" in said) == ("name" not in kinds.kind(name).options)


def test_no_type_is_loaded_for_other_commands() -> None:
    code = (
        "import sys; from hook_event_processor.cli.parser import parser; parser().format_help();"
        " loaded = [name for name in sys.modules if name.startswith('hook_event_processor.watchers')];"
        " assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert parser().parse_args(["watcher", "create", "--type", "cpu"]).type == "cpu"


def test_a_trial_needs_no_database_and_says_what_it_does(offline_hep: Hep) -> None:
    said = offline_hep("watcher", "test", "--type", "memory")
    assert "looked for the first time" in said
    assert "tell by system.memory_low, system.memory_normal" in said
    assert "--wait looks again" in said
    assert (
        "it cannot look" in offline_hep.run("watcher", "test", "--type", "log", "--path", "/", "--pattern", "x").errors
    )


def test_a_trial_that_waits_prints_what_would_be_told(offline_hep: Hep, tmp_path: Path) -> None:
    command = ("watcher", "test", "--type", "memory", "--threshold", "0", "--until-normal", "0", "--interval", "100ms")
    said = offline_hep(*command, "--wait")
    assert "looked again" in said
    assert "\nsystem.memory_low memory\n" in said
    document = offline_hep.document(*command, "--wait", "--format", "json")
    assert [len(look["events"]) for look in document["looks"]] == [0, 1]
    assert document["looks"][1]["events"][0]["data"]["threshold"] == 0
    quiet = offline_hep("watcher", "test", "--type", "file", "--path", str(tmp_path), "--interval", "100ms", "--wait")
    assert "Nothing that its conditions stand for has happened meanwhile." in quiet


def test_a_trial_prints_what_was_read(offline_hep: Hep) -> None:
    trial = ("watcher", "test", "--type")
    assert re.search(r"^now: memory [1-9][0-9.]*$", offline_hep(*trial, "memory"), re.MULTILINE)
    assert re.search(r"^now: connections [0-9]+$", offline_hep(*trial, "connection", "--threshold", "3"), re.MULTILINE)
    [look] = offline_hep.document(*trial, "disk", "--path", "/", "--format", "json")["looks"]
    assert list(look["measured"]) == ["/"]


def test_a_trial_prints_what_has_a_name_that_is_no_text(
    offline_hep: Hep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = tmp_path / os.fsdecode(b"caf\xe9")
    point.mkdir()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/filesystems").write_text("\text4\n")
    (tmp_path / "proc/self/mountinfo").write_bytes(b"27 1 8:1 / %s rw - ext4 /dev/sda1 rw\n" % os.fsencode(str(point)))
    monkeypatch.setattr(proc, "ROOT", str(tmp_path / "proc"))
    trial = ("watcher", "test", "--type", "disk", "--threshold", "0", "--interval", "100ms", "--wait")
    said = offline_hep(*trial)
    assert "/caf\\\\udce9" in said.partition("\nsystem.disk_full ")[2]
    looks = offline_hep.document(*trial, "--format", "json")["looks"]
    assert list(looks[0]["measured"]) == [f"{tmp_path}/caf\\udce9"]
    assert looks[1]["events"][0]["resource"] == f"{tmp_path}/caf\\udce9"


def test_a_trial_prints_the_lines_of_a_program_that_has_ended(
    offline_hep: Hep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCH_EXEC", "echo")
    said = offline_hep("watcher", "test", "--type", "custom", "--once", "--command", """echo '{"door": 3}'""")
    assert re.search("looked for the first time, in .*: 1 event$", said, re.MULTILINE)
    assert '{"door":3,' in said


@pytest.mark.parametrize(
    ("options", "events"),
    [
        (("port", "--port", "1"), "port.opened, port.closed"),
        (("port", "--port", "1", "--latency", "1ms", "--when", "above"), "port.latency_high"),
        (("process", "--name", "x", "--when", "changed"), "process.started, process.stopped, process.crashed"),
        (("process", "--name", "x", "--rss", "1G", "--when", "high"), "system.resource_high"),
        (("network",), "network.down, network.up"),
        (("network", "--speed", "10"), "network.down, network.up, network.slow, network.normal"),
        (("connection",), "connection.opened, connection.closed"),
        (("connection", "--threshold", "3"), "connection.count_high, connection.count_normal"),
    ],
)
def test_events_that_the_options_cannot_bring_about_are_not_promised(
    hep: Hep, options: tuple[str, ...], events: str
) -> None:
    watcher = create(hep, "--type", *options)["id"]
    assert hep.document("watcher", "get", watcher, "--format", "json")["event_types"] == events.split(", ")


def test_a_stored_watcher_is_tried_without_being_changed(hep: Hep) -> None:
    watcher = create(hep, "--type", "memory", "--threshold", "0")["id"]
    before = hep.document("watcher", "get", watcher, "--format", "json")
    assert "system.memory_low" in hep("watcher", "test", watcher, "--interval", "100ms", "--wait")
    assert hep.document("watcher", "get", watcher, "--format", "json") == before
    assert "takes the id of a watcher, or --type" in hep.fault("watcher", "test")
    for options in (("--when", "above"), ("--threshold", "5"), ("--until-normal", "5"), ("--check-hash",)):
        finished = hep.run("watcher", "test", watcher, *options)
        assert (finished.status, f"{options[0]} goes with --type" in finished.fault) == (2, True)


def test_the_daemon_watches_until_it_is_told_to_end(
    hep: Hep, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEP_HOME", str(tmp_path / "home"))
    watched = tmp_path / "watched"
    watched.write_text("one")
    watcher = create(hep, "--type", "file", "--path", str(watched), "--interval", "200ms", "--check-hash")["id"]
    program = (sys.executable, "-m", "hook_event_processor", "watcher", "run", "--type", "file,cpu")
    with subprocess.Popen(program, env=os.environ, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: hep.document("watcher", "get", watcher, "--format", "json")["last_check"] is not None, 20)
            # At once: it looks all the time, and would tell of a file that is empty for a moment.
            (tmp_path / "new").write_text("two, and more")
            (tmp_path / "new").rename(watched)
            query = "SELECT payload->>'new_size' FROM hook_events WHERE source = 'file' AND action = 'modified'"
            wait_for(lambda: connection.execute(query).fetchall() == [("13",)], 20)
            assert "Nothing watches" not in hep("watcher", "list")
            [host] = hep.document("hosts", "--format", "json")
            assert (host["name"], host["status"], host["enabled_count"]) == ("web-1", "connected", 1)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert hep.document("hosts", "show", "web-1", "--format", "json")["status"] == "stopped"


def test_the_daemon_takes_types_that_there_are(hep: Hep) -> None:
    assert "there is no watcher type 'fle'" in hep.fault("watcher", "run", "--type", "cpu,fle")


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ("process --name sleep --cpu 50 --rss 100M --when above", "name: sleep, cpu: 50%, rss: 100M"),
        ("load --threshold 2 --per-cpu --window 5", "threshold: 2 per cpu, window: 5m"),
        ("disk --path / --inodes --threshold 50", "/, threshold: 50% of inodes"),
    ],
)
def test_lists_show_what_is_too_much(hep: Hep, arguments: str, target: str) -> None:
    assert create(hep, "--type", *arguments.split())["target"] == target


@pytest.mark.parametrize("kind", kinds.NAMES)
def test_the_example_of_a_type_is_one_of_its_own(hep: Hep, kind: str) -> None:
    example = hep("watcher", "create", "--type", kind, "--help").splitlines()[-1]
    assert example.startswith(f"example: hep watcher create --type {kind}")
    hep(*shlex.split(example)[2:])
    [watcher] = hep.document("watcher", "list", "--format", "json")
    assert (watcher["type"], watcher["last_error"]) == (kind, None)


def test_what_does_nothing_on_this_host_is_said(hep: Hep, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    said = f"{path} is a file: --pattern is about the files in a directory, and does nothing here.\n"
    pattern = ("--type", "file", "--pattern", "*.conf", "--path")
    assert said in hep("watcher", "create", *pattern, str(path))
    assert said in hep("watcher", "test", *pattern, str(path))
    assert said not in hep("watcher", "create", "elsewhere", *pattern, str(path))
    assert " is a file" not in hep("watcher", "create", *pattern, str(tmp_path))
    assert " is a file" not in hep("watcher", "create", "--type", "file", "--path", str(path))


def test_an_interface_that_is_not_there_or_has_no_speed_is_said(hep: Hep) -> None:
    create_network = ("watcher", "create", "--type", "network", "--interface")
    assert "This host has no interface nosuch0 now: nothing is told until one comes." in hep(*create_network, "nosuch0")
    assert "No speed is known now of lo: it cannot" in hep(*create_network, "lo", "--speed", "10", "--when", "slow")
    assert " now" not in hep(*create_network, "lo")
    assert "This host has no interface nosuch0" in hep(
        "watcher", "get", create(hep, *create_network[2:], "nosuch0")["id"]
    )
