"""notify: messages that hooks send to chat services, webhooks and by mail, to real servers on loopback addresses."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from certificates import resolve, server_context, trust
from chunks import error, event, execute, library, outcomes, output, runtime
from smtp import Post, post_office
from web import Answer, Site, serving

from hook_event_processor.event import Outcome
from hook_event_processor.run import ChunkResult

_HERE = ("127.0.0.1",)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def post() -> Iterator[Post]:
    with post_office() as running:
        yield running


def _run(body: str, *events: Any, allow: tuple[str, ...] = _HERE, **options: Any) -> ChunkResult:
    lua = runtime(library=library(http_allow=allow))
    return execute(f'local notify = require("notify")\n{body}', *events, within=lua, **options)


def _told(call: str, **options: Any) -> str:
    """What the call returns: true, or nil and why."""
    return output(_run(f"local ok, why = {call} return true, tostring(ok) .. (why and ' ' .. why or '')", **options))


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        ('slack("URL", "text")', {"text": "text"}),
        (
            'slack("URL", {text = "t", username = "u", channel = "#c", icon_emoji = ":x:", attachments = {{a = 1}}})',
            {"text": "t", "username": "u", "channel": "#c", "icon_emoji": ":x:", "attachments": [{"a": 1}]},
        ),
        ('discord("URL", "text")', {"content": "text"}),
        ('discord("URL", {content = "c", embeds = {{title = "x"}}})', {"content": "c", "embeds": [{"title": "x"}]}),
        ('teams("URL", "text")', {"text": "text"}),
        ('teams("URL", {type = "message"})', {"type": "message"}),
        ('webhook("URL", {a = {1, 2}})', {"a": [1, 2]}),
        ('webhook("URL", {1, 2}, {headers = {["X-Key"] = "k"}})', [1, 2]),
    ],
)
def test_a_message_is_posted_as_json(site: Site, call: str, sent: object) -> None:
    assert _told(f"notify.{call.replace('URL', site.url + '/hook')}") == "true"
    received = site.received[0]
    assert (received.method, received.path) == ("POST", "/hook")
    assert received.headers["content-type"] == "application/json"
    assert json.loads(received.body) == sent
    assert received.headers["x-key"] == ("k" if "X-Key" in call else None)
    assert received.headers["idempotency-key"]


def test_telegram_is_asked_at_its_own_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(tls=server_context(tmp_path, "api.telegram.org")) as site:
        trust(monkeypatch, tmp_path / "ca.pem")
        resolve(monkeypatch, api_telegram_org=(site.host, site.port))
        assert _told('notify.telegram("12:ab-C", -5, "text")', allow=("api.telegram.org",)) == "true"
        assert site.received[0].path == "/bot12:ab-C/sendMessage"
        assert json.loads(site.received[0].body) == {"chat_id": -5, "text": "text"}


def test_an_answer_that_is_no_success_is_nil_and_what_it_says(site: Site) -> None:
    site.answers(Answer(404, body=b"no_service"), Answer(500, body=b"no " + b"x" * 500))
    told = _told(f'notify.slack("{site.url}/T0/B0/secret", "text")')
    assert told == "nil the server answered 404 Not Found: no_service"
    told = _told(f'notify.slack("{site.url}/T0/B0/secret", "text")')
    assert told == "nil the server answered 500 Internal Server Error: no " + "x" * 197 + "[cut]"
    site.answers(Answer(204))
    assert _told(f'notify.discord("{site.url}", "text")') == "true"
    site.answers(Answer(302, {"Location": "/elsewhere"}))
    assert _told(f'notify.webhook("{site.url}", {{}})') == "nil the server answered 302 Found"


def test_a_server_that_is_not_there_is_nil_and_a_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert _told(f'notify.teams("{url}/path", "text")') == f"nil {url[7:]}: Connection refused"


def test_a_message_is_retried_under_one_key(site: Site) -> None:
    site.answers(Answer(503), Answer())
    assert _told(f'notify.slack("{site.url}", "text", {{retries = 1, retry_delay = 0}})') == "true"
    first, second = (each.headers["idempotency-key"] for each in site.received)
    assert first == second


def test_the_rules_of_http_hold_for_messages(site: Site) -> None:
    result = _run(f'notify.slack("{site.url}", "text")', allow=("*",))
    assert "the permission 'http' is not granted" in error(result)
    result = _run(
        'notify.email({smtp_host = "127.0.0.1", from = "a@b.c", to = "d@e.f", subject = "", body = ""})', allow=()
    )
    assert "may not use 127.0.0.1:587" in error(result)
    assert site.received == []


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("notify.slack(5, 'x')", "notify.slack takes a URL, not a number"),
        ("notify.slack('http://127.0.0.1')", "notify.slack takes a text or a table, not a nil"),
        ("notify.webhook('http://127.0.0.1')", "notify.webhook takes a payload"),
        ("notify.teams('ftp://x', 'x')", "notify.teams takes a URL that begins with http:// or https://"),
        ("notify.discord('http://a', 'x', {retry = 1})", "notify.discord: unknown option retry; it takes headers"),
        ("notify.discord('http://a', 'x', {retries = 0.5})", "notify.discord: retries takes a whole number"),
        ("notify.discord('http://a', 'x', {headers = {a = 'b\\r\\nc'}})", "the header a holds a line break"),
        ("notify.telegram('a/../b', 1, 'x')", "notify.telegram takes a bot's token"),
        ("notify.telegram('a', 1.5, 'x')", "notify.telegram takes a chat's id"),
        ("notify.email('x')", "notify.email takes a table, not a string"),
        ("notify.email({host = 'x'})", "notify.email: unknown field host; it takes smtp_host"),
        ("notify.email({smtp_host = 'x'})", "notify.email: from takes a string, not a nil"),
        ("notify.email({smtp_port = 0.5})", "notify.email: smtp_port takes a number from 1 to 65535"),
        ("notify.email({tls = 'yes'})", "notify.email: tls takes true or false"),
    ],
)
def test_misuse_is_an_error_at_the_hooks_line(call: str, reason: str) -> None:
    result = _run(f"\nlocal r = {call} return true")
    assert outcomes(result) == [Outcome.FAILED]
    assert error(result).startswith("hook.lua:5: ")
    assert reason in error(result)


def _email(post: Post, **fields: str) -> str:
    """The call with fields as Lua writes them, on top of those that are needed."""
    given = {
        "smtp_host": f'"{post.host}"',
        "smtp_port": str(post.port),
        "from": '"Ops <ops@example.com>"',
        "to": '"you@example.com"',
        "subject": '"It failed"',
        "body": '"why"',
    } | fields
    return f"notify.email({{{', '.join(f'{name} = {value}' for name, value in given.items())}}})"


def test_a_mail_is_delivered(post: Post) -> None:
    call = _email(
        post,
        to='{"you@example.com", "Zoë <zoe@example.com>"}',
        cc='"c@example.com, d@example.com"',
        bcc='"hidden@example.com"',
        reply_to='"team@example.com"',
        subject='"It fäiled"',
        body='"line\\n.dot\\nä"',
    )
    assert _told(call) == "true"
    mail = post.mails[0]
    assert mail.sender == "ops@example.com"
    names = ("you", "zoe", "c", "d", "hidden")
    assert mail.recipients == [f"{name}@example.com" for name in names]
    message = mail.message
    assert message["From"] == "Ops <ops@example.com>"
    assert message["To"] == "you@example.com, Zoë <zoe@example.com>"
    assert message["Cc"] == "c@example.com, d@example.com"
    assert message["Reply-To"] == "team@example.com"
    assert message["Subject"] == "It fäiled"
    assert message.get_content().replace("\r\n", "\n") == "line\n.dot\nä\n"
    assert b"hidden" not in mail.raw
    assert "Date" in message


def test_a_mail_may_have_html_beside_its_text(post: Post) -> None:
    assert _told(_email(post, html='"<b>why</b>"')) == "true"
    message = post.mails[0].message
    parts = [part.get_content_type() for part in message.iter_parts()]
    assert parts == ["text/plain", "text/html"]


def test_each_attempt_at_an_event_sends_the_same_message_id(post: Post) -> None:
    _run(_email(post))
    _run(f"{_email(post)} {_email(post)}", event(attempt=2))
    first, again, second = (mail.message["Message-ID"] for mail in post.mails)
    assert first == again != second
    assert first.endswith("@example.com>")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("subject", '"a\\r\\nBcc: evil@example.com"', "subject holds a line break"),
        ("subject", '"a\\nb"', "subject holds a line break"),
        ("from", '"a@b.c\\r\\nRCPT TO:<evil@example.com>"', "from holds a line break"),
        ("to", '{"a@b.c\\nBcc: evil@example.com"}', "to holds a line break"),
        ("to", '"a@b.c> SIZE=1"', "to takes addresses like name@example.com"),
        ("reply_to", '"a@b.c\\rX: y"', "reply_to holds a line break"),
        ("username", '"a\\r\\nb"', "username holds a line break"),
        ("smtp_host", '"a\\r\\nb"', "smtp_host holds a line break"),
        ("smtp_host", '"a b"', "smtp_host is 'a b': it takes a host"),
        ("to", '"nobody"', "to takes addresses like name@example.com, not 'nobody'"),
        ("to", "{}", "notify.email takes one address in from, and 1 to 100"),
        ("from", '"a@b.c, d@e.f"', "notify.email takes one address in from"),
        ("subject", '("x"):rep(3000)', "subject has 3000 characters: at most 2000"),
        ("subject", '"\\255"', "a field is not UTF-8"),
        ("body", '"\\255"', "body is not UTF-8"),
        ("body", '("x"):rep(2^20 + 1)', "body has 1048577 bytes: at most 1048576"),
        ("html", '("x"):rep(2^20 + 1)', "html has 1048577 bytes: at most 1048576"),
        ("username", '"m\u00fc"', "username holds a character that is not ASCII"),
        ("password", '"p\u00e4ss"', "password holds a character that is not ASCII"),
    ],
)
def test_what_would_forge_a_header_is_refused(post: Post, field: str, value: str, reason: str) -> None:
    result = _run(_email(post, **{field: value}))
    assert outcomes(result) == [Outcome.FAILED]
    assert reason in error(result)
    assert post.commands == []


@pytest.mark.parametrize(
    "value",
    [
        '{("\u00e4"):rep(30000) .. " <a@b.c>"}',
        '{("\u00e4 "):rep(400) .. " <a@b.c>"}',
        'many(50, ("\u00e4 "):rep(5))',
        'many(101, "")',
        'many(100, ("x "):rep(400))',
        '("a@b.c,"):rep(100000)',
        '("<"):rep(40000)',
        '("["):rep(40000)',
        '("("):rep(40000)',
        '(":"):rep(40000)',
    ],
)
def test_attack_addresses_that_take_minutes_to_read_or_write(post: Post, value: str) -> None:
    started = perf_counter()
    _run(f"{_MANY} {_email(post, to=value)}", timeout=30)
    assert perf_counter() - started < 20


_MANY = """
local function many(n, name)
  local list = {}
  for i = 1, n do list[i] = name .. " <a" .. i .. "@b.c>" end
  return list
end
"""


def test_a_recipient_that_is_refused_is_named(post: Post) -> None:
    post.refused.add("you@example.com")
    both = '{"me@example.com", "you@example.com"}'
    reason = "nil 127.0.0.1 did not take the message: you@example.com: 550 no such user"
    assert _told(_email(post, to=both)) == reason
    assert [mail.recipients for mail in post.mails] == [["me@example.com"]]
    assert _told(_email(post)) == reason
    assert len(post.mails) == 1


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"554 go away\r\n", "127.0.0.1 did not take the message: 554 go away"),
        (b"SSH-2.0-OpenSSH\r\n", "127.0.0.1 did not take the message: -1 2.0-OpenSSH"),
        (b"220 " + b"x" * 20_000 + b"\r\n", "127.0.0.1 did not take the message: 500 Line too long."),
        (b"220-x\r\n" * 300_000, "the connection to 127.0.0.1 was lost: the server's answers have more than"),
    ],
)
def test_a_server_that_is_none_is_nil_and_a_reason(post: Post, greeting: bytes, reason: str) -> None:
    post.greeting = greeting
    assert _told(_email(post)).startswith(f"nil {reason}")


def test_a_mail_server_that_says_nothing_is_left_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = perf_counter()
        told = _told(_email(Post("127.0.0.1", silent.getsockname()[1]), timeout="0.2"))
        assert told == "nil 127.0.0.1 did not take the message within 0.2 seconds"
        assert perf_counter() - started < 5


def test_a_run_ends_at_its_deadline_while_it_sends_mail() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = _run(f"pcall(function() {_email(Post('127.0.0.1', silent.getsockname()[1]))} end)", timeout=0.2)
        assert outcomes(result) == [Outcome.TIMEOUT]


def test_tls_is_used_where_it_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with post_office(tls=server_context(tmp_path, "127.0.0.1")) as post:
        assert "certificate verify failed" in _told(_email(post))
        trust(monkeypatch, tmp_path / "ca.pem")
        assert _told(_email(post)) == "true"
        assert _told(_email(post, username='"me"', password='"right"')) == "true"
        assert _told(_email(post, tls="false")) == "true"
        assert [(mail.secure, mail.login) for mail in post.mails] == [
            (True, None),
            (True, ("me", "right")),
            (False, None),
        ]


def test_tls_from_the_start_on_its_own_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with post_office(tls=server_context(tmp_path, "smtp.example"), implicit=True) as post:
        trust(monkeypatch, tmp_path / "ca.pem")
        resolve(monkeypatch, smtp_example=(post.host, post.port))
        told = _told(_email(post, smtp_host='"smtp.example"', smtp_port="465"), allow=("smtp.example:465",))
        assert told == "true"
        assert post.mails[0].secure


def test_what_was_said_before_tls_counts_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with post_office(tls=server_context(tmp_path, "127.0.0.1"), injected=b"250 forged\r\n") as post:
        trust(monkeypatch, tmp_path / "ca.pem")
        assert _told(_email(post, username='"me"', password='"right"')) == "true"
        assert post.mails[0].login == ("me", "right")


def test_a_mail_server_is_not_offered_http(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that speaks both must not be confused by requests that were sent before."""
    context = server_context(tmp_path, "127.0.0.1")
    context.set_alpn_protocols(["http/1.1"])
    with serving(tls=context) as site, post_office(tls=context) as post:
        trust(monkeypatch, tmp_path / "ca.pem")
        assert _told(f'notify.webhook("{site.url}", {{}})') == "true"
        assert _told(_email(post)) == "true"
        assert post.protocols == [None]


def test_no_password_goes_over_the_wire_unprotected(post: Post) -> None:
    told = _told(_email(post, username='"me"', password='"right"'))
    assert "the server offers no TLS (STARTTLS)" in told
    assert "the server offers no TLS (STARTTLS)" in _told(_email(post, tls="true"))
    result = _run(_email(post, username='"me"', password='"right"', tls="false"))
    assert "a password is sent over TLS only" in error(result)
    assert not any("AUTH" in command for command in post.commands)
    assert post.mails == []


def test_a_wrong_password_is_nil_and_what_the_server_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with post_office(tls=server_context(tmp_path, "127.0.0.1")) as post:
        trust(monkeypatch, tmp_path / "ca.pem")
        told = _told(_email(post, username='"me"', password='"wrong"'))
        assert told == "nil 127.0.0.1 did not take the message: 535 wrong password"
        assert post.mails == []


def test_a_dry_run_shows_what_would_be_sent(site: Site, post: Post) -> None:
    shown: list[str] = []
    lua = runtime(library=library(show=shown.append, http_allow=_HERE))
    body = f"""local notify = require("notify")
        return true, tostring(notify.slack("{site.url}", "text")) .. tostring({_email(post)})"""
    assert output(execute(body, within=lua)) == "truetrue"
    mail = f"email from ops@example.com to you@example.com by 127.0.0.1:{post.port}"
    assert shown == [
        f'http: POST {site.url}, 15 bytes: {{"text":"text"}}',
        f"notify: {mail}, subject 'It failed', 3 bytes: why",
    ]
    assert (site.received, post.commands) == ([], [])
