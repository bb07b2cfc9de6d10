"""Settings: what each variable is read as, what is refused, and which database is named."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from hook_event_processor.errors import SettingsError
from hook_event_processor.settings import LIBPQ_VARIABLES, VARIABLES, Settings, load

READ: list[tuple[str, str, Any]] = [
    ("DB_SCHEMA", "hooks", "hooks"),
    ("POLL_INTERVAL", "0.01", 0.01),
    ("POLL_INTERVAL", "3600", 3600.0),
    ("BATCH_SIZE", "10000", 10_000),
    ("WORKERS", "1", 1),
    ("HOOK_MEMORY_MB", "2", 2 * 1024 * 1024),
    ("LISTEN", "Off", False),
    ("HEP_INSTANCE", "a-1_b.c@d", "a-1_b.c@d"),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("HOOK_EXEC", "ON", True),
    ("HOOK_EXEC", "off", False),
    ("HOOK_EXEC", "git, /usr/bin/make", ("git", "/usr/bin/make")),
    ("HOOK_HTTP_ALLOW", "*.example.com:443,10.0.0.0/8", ("*.example.com:443", "10.0.0.0/8")),
    ("HOOK_FILE_ROOTS", "/srv/a:/srv/b", (Path("/srv/a"), Path("/srv/b"))),
    ("HOOK_SECRET_KEY_FILE", "/etc/a:b", Path("/etc/a:b")),
    ("HOST_NAME", "web-1.example.com", "web-1.example.com"),
    ("HOST_TAGS", " web, ,eu ", ("web", "eu")),
    ("SPOOL_POLICY", "DROP_NEWEST", "drop_newest"),
    ("RETENTION", "30d", timedelta(days=30)),
    ("RETENTION", "36500d", timedelta(days=36_500)),
    ("AUDIT_RETENTION", "OFF", None),
    ("RETENTION_ARCHIVE", "Table", "table"),
    ("RETENTION_ARCHIVE", "/srv/archive", "/srv/archive"),
]
REFUSED = [
    ("DB_SCHEMA", "a-b"),
    ("POLL_INTERVAL", "0.009"),
    ("POLL_INTERVAL", "nan"),
    ("BATCH_SIZE", "0"),
    ("BATCH_SIZE", "10001"),
    ("BATCH_SIZE", "1.5"),
    ("LISTEN", "yes"),
    ("HEP_INSTANCE", "a" * 65),
    ("LOG_LEVEL", "LOUD"),
    ("HOOK_HTTP_ALLOW", "example.com:65536"),
    ("HOOK_FILE_ROOTS", "/srv/a:files"),
    ("HOOK_POLICY", ":"),
    ("HOOK_POLICY", "policy.toml"),
    ("HOOK_SECRET_KEY_FILE", "/etc/a\0b"),
    ("HOST_NAME", "-web"),
    ("HOST_NAME", "a" * 254),
    ("SPOOL_POLICY", "drop"),
    ("RETENTION", "30"),
    ("RETENTION", "36501d"),
    ("RETENTION_ARCHIVE", "archive"),
]


def _load(folder: Path, **variables: str) -> Settings:
    return load({"HEP_HOME": str(folder), **variables}, folder / ".env")


@pytest.mark.parametrize(("variable", "text", "value"), READ, ids=str)
def test_a_variable_is_read(tmp_path: Path, variable: str, text: str, value: Any) -> None:
    assert getattr(_load(tmp_path, **{variable: text}), VARIABLES[variable][0]) == value


@pytest.mark.parametrize(("variable", "text"), REFUSED, ids=str)
def test_what_a_variable_does_not_take_is_refused_with_what_it_takes(tmp_path: Path, variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, **{variable: text})
    assert str(refused.value) == f"{variable} is {text!r}: it takes {VARIABLES[variable][1].__doc__}"


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, LANES="4", HOOK_MEMORY_MB="40", RETRY_DELAY="10", RETRY_MAX_DELAY="9.5")
    assert str(refused.value) == (
        "HOOK_MEMORY_TOTAL_MB is 256: with LANES 4 and HOOK_MEMORY_MB 40 it takes at least 280;"
        " RETRY_MAX_DELAY is 9.5: it takes at least RETRY_DELAY, 10"
    )
    together = _load(tmp_path, LANES="4", HOOK_MEMORY_MB="40", HOOK_MEMORY_TOTAL_MB="280", RETRY_MAX_DELAY="1")
    assert (together.hook_memory_total, together.retry_max_delay) == (280 << 20, 1.0)


def test_the_environment_wins_over_the_file_even_by_saying_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BATCH_SIZE=5\nWORKERS=6\nLANES=5\nDB_PASSWORD=a$HOME$b\n")
    settings = _load(tmp_path, BATCH_SIZE="7", WORKERS="")
    assert (settings.batch_size, settings.workers, settings.lanes) == (7, 100, 5)
    assert conninfo_to_dict(settings.conninfo or "")["password"] == "a$HOME$b"


def test_a_line_of_the_file_that_is_no_setting_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('LANES=5\n\n \nWORKERS="5\nBATCH_SIZE 5\n# LISTEN on\n')
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path)
    takes = "it takes NAME=value, with any quote closed"
    assert str(refused.value) == f"{tmp_path}/.env:4 is no setting: {takes}; {tmp_path}/.env:5 is no setting: {takes}"


def test_a_password_alone_names_the_original_services_database(tmp_path: Path) -> None:
    named = conninfo_to_dict(_load(tmp_path, DB_PASSWORD="pw").conninfo or "")
    place = {"host": "localhost", "port": "5436", "user": "postgres", "dbname": "omninode_bridge", "password": "pw"}
    assert named == place
    other = _load(tmp_path, DB_PASSWORD="pw", DB_HOST="h", DB_PORT="1", DB_USER="u", DB_NAME="n").conninfo
    assert conninfo_to_dict(other or "") == {"host": "h", "port": "1", "user": "u", "dbname": "n", "password": "pw"}


def test_libpqs_variables_fill_what_the_url_leaves_open(tmp_path: Path) -> None:
    url = "postgresql://u@db.example.com/shop"
    named = conninfo_to_dict(_load(tmp_path, DATABASE_URL=url, PGUSER="other", PGSSLMODE="require").conninfo or "")
    assert named == {"host": "db.example.com", "user": "u", "dbname": "shop", "sslmode": "require"}
    assert conninfo_to_dict(_load(tmp_path, PGHOST="h", DB_PASSWORD="pw").conninfo or "") == {"host": "h"}
    assert _load(tmp_path, PGSSLMODE="require").conninfo is None  # it names no server


PORTS = "a number from 1 to 65535, or one for each host, separated by commas"


@pytest.mark.parametrize(
    ("variable", "text", "takes", "others"),
    [
        ("DB_PORT", "abc", PORTS, {"DB_PASSWORD": "pw"}),
        ("DB_PORT", "0", PORTS, {"DB_PASSWORD": "pw"}),
        ("DB_PORT", "5_4", PORTS, {"DB_PASSWORD": "pw"}),
        ("DB_PORT", "1,2", "one port, or as many as there are hosts (1)", {"DB_PASSWORD": "pw"}),
        ("PGPORT", "65536", PORTS, {}),
        ("PGPORT", "1,x", PORTS, {"PGHOST": "a,b"}),
        ("PGPORT", "abc", PORTS, {"DATABASE_URL": "postgresql://h/d"}),
        ("PGPORT", "1,2,3", "one port, or as many as there are hosts (2)", {"PGHOST": "a,b"}),
        ("PGCONNECT_TIMEOUT", "soon", "a number of seconds", {"PGHOST": "h"}),
        ("PGSSLMODE", "on", "disable, allow, prefer, require, verify-ca or verify-full", {"DB_PASSWORD": "pw"}),
        ("PGCHANNELBINDING", "on", "disable, prefer or require", {"PGHOST": "h"}),
        ("PGGSSENCMODE", "on", "disable, prefer or require", {"PGHOST": "h"}),
        (
            "PGTARGETSESSIONATTRS",
            "rw",
            "any, read-write, read-only, primary, standby or prefer-standby",
            {"PGHOST": "h"},
        ),
    ],
)
def test_a_connection_that_cannot_be_is_a_wrong_setting_not_an_outage(
    variable: str, text: str, takes: str, others: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, **{variable: text}, **others)
    assert str(refused.value) == f"{variable} is {text!r}: it takes {takes}"


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:s3/cret@h/d", "postgresql://h/d?port=s3", "host=a,b,c port=1,2", "host=h port=s3cret"],
)
def test_a_wrong_part_of_the_url_is_named_and_not_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^DATABASE_URL has a wrong port: it takes .* %2F, %3A and %40 for"
    ) as told:
        _load(tmp_path, DATABASE_URL=url)
    assert "s3" not in str(told.value)


@pytest.mark.parametrize(
    "given",
    [
        {"DATABASE_URL": "postgresql://a:1,b:2/d?sslmode=require&connect_timeout=2.5&target_session_attrs=any"},
        {"DATABASE_URL": "postgresql://a,b:2/d"},
        {"DATABASE_URL": "postgresql:///d?host=/tmp&port=&sslmode="},
        {"PGHOSTADDR": "10.0.0.1,10.0.0.2", "PGPORT": "1,2"},
        {"PGSERVICE": "hooks", "PGPORT": "1,2"},
        {"DATABASE_URL": "postgresql://h:1/d", "PGPORT": "abc"},
        {"PGHOST": "h", "DB_PORT": "abc"},
    ],
)
def test_what_libpq_takes_and_what_does_not_count_is_not_refused(given: dict[str, str], tmp_path: Path) -> None:
    assert _load(tmp_path, **given).conninfo


def test_libpqs_variables_fill_what_is_left_open_beside_a_password(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PGSSLMODE=require\nPGPASSWORD=other\n")
    named = conninfo_to_dict(_load(tmp_path, DB_PASSWORD="pw").conninfo or "")
    assert (named["sslmode"], named["password"], named["port"]) == ("require", "pw", "5436")


def test_a_credential_of_systemd_is_a_url_or_a_password(tmp_path: Path) -> None:
    (tmp_path / "db_password").write_text("from systemd\n")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert conninfo_to_dict(_load(tmp_path, **given).conninfo or "")["password"] == "from systemd"
    (tmp_path / "database_url").write_text("postgresql://h/d\n")
    assert conninfo_to_dict(_load(tmp_path, **given).conninfo or "") == {"host": "h", "dbname": "d"}
    (tmp_path / "database_url").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="the credential database_url cannot be read"):
        _load(tmp_path, **given)
    (tmp_path / "database_url").write_bytes(b"postgresql://h/d\0")
    with pytest.raises(SettingsError, match="the credential database_url holds a NUL character"):
        _load(tmp_path, **given)


def test_a_password_keeps_its_spaces(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('DB_HOST=" db "\nDB_PASSWORD=" of two  "\n')
    named = conninfo_to_dict(_load(tmp_path).conninfo or "")
    assert (named["host"], named["password"]) == ("db", " of two  ")
    assert conninfo_to_dict(_load(tmp_path, PGHOST="h", PGPASSWORD=" x").conninfo or "")["password"] == " x"
    (tmp_path / "db_password").write_text(" in a file \n")
    (tmp_path / ".env").unlink()
    credential = _load(tmp_path, CREDENTIALS_DIRECTORY=str(tmp_path)).conninfo
    assert conninfo_to_dict(credential or "")["password"] == " in a file "


def test_the_home_is_the_users_own_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"HEP_HOME": "~/hep"}, tmp_path / ".env").home == tmp_path / "hep"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    settings = load({}, tmp_path / ".env")
    assert settings.home == tmp_path / ".local/share/hook-event-processor"
    assert settings.hook_file_roots == (settings.home / "files",)
    assert settings.hook_secret_key_file == settings.home / "secret.key"
    assert load({"XDG_DATA_HOME": "/data"}, tmp_path / ".env").home == Path("/data/hook-event-processor")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert load({}, tmp_path / ".env").home == Path("/var/lib/hook-event-processor-root")


def test_every_variable_of_libpq_stands_for_a_parameter_that_libpq_has() -> None:
    has = {option.envvar.decode(): option.keyword.decode() for option in Conninfo.get_defaults() if option.envvar}
    assert LIBPQ_VARIABLES.items() <= has.items()


def test_the_file_of_services_is_left_to_libpq(tmp_path: Path) -> None:
    settings = _load(tmp_path, PGSERVICE="hooks", PGSERVICEFILE="/etc/hooks.conf")
    assert conninfo_to_dict(str(settings.conninfo)) == {"service": "hooks"}


@pytest.mark.parametrize("name", ["~nobody-at-all/hep", ""])
def test_a_home_that_nobody_has_is_refused_with_all_other_faults(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(
        SettingsError, match=r"LISTEN is 'maybe'.*; HEP_HOME is '.*': where the user has no home, it takes a path"
    ):
        load({"HEP_HOME": name, "LISTEN": "maybe"}, tmp_path / ".env")


@pytest.mark.parametrize("variable", ["DATABASE_URL", "DB_PASSWORD", "PGPASSWORD", "PGUSER"])
@pytest.mark.parametrize("value", ["postgresql://u:hunter\udce9@h/d", "host=hunter\0"])
def test_what_libpq_cannot_take_is_named_and_not_told(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        _load(tmp_path, **{variable: value})
    assert str(refused.value) == f"{variable}: it takes text in UTF-8, without a NUL"


def test_a_home_with_a_nul_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HEP_HOME=/srv/a\0b\n")
    with pytest.raises(SettingsError, match=r"HEP_HOME is '/srv/a\\x00b': it takes a path, without a NUL"):
        load({}, tmp_path / ".env")
