"""http: requests that hooks send, to real servers on loopback addresses."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import re
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
from certificates import resolve, server_context, trust
from chunks import error, event, execute, library, outcomes, output, run, runtime
from ports import free_ports
from web import Answer, Received, Site, serving

from hook_event_processor.event import Outcome
from hook_event_processor.lua.loader import program
from hook_event_processor.lua.modules.http import retry_after
from hook_event_processor.lua.room import ROOM_BYTES
from hook_event_processor.lua.web import exchange
from hook_event_processor.run import ChunkResult

_HERE = ("127.0.0.1",)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def _run(body: str, *events: Any, allow: tuple[str, ...] = _HERE, **options: Any) -> ChunkResult:
    lua = runtime(library=library(http_allow=allow, http_deny=options.pop("deny", ())))
    return execute(f'local http = require("http")\n{body}', *events, within=lua, **options)


def _reason(call: str, **options: Any) -> str:
    """Why the call failed, as the hook is told."""
    return output(_run(f"local r, why = {call} assert(r == nil) return true, why", **options))


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete", "head"])
def test_each_verb_sends_its_method(site: Site, verb: str) -> None:
    assert output(_run(f'return true, http.{verb}("{site.url}/a").status_code')) == "200"
    assert [(each.method, each.path) for each in site.received] == [(verb.upper(), "/a")]


@pytest.mark.parametrize(
    "call",
    [
        'http.post("URL/a?b=1", {headers = {["X-Name"] = "v"}, body = "text"})',
        'http.post({url = "URL/a?b=1", headers = {["X-Name"] = "v"}, body = "text"})',
        'http.request({method = "post", url = "URL/a?b=1", headers = {["X-Name"] = "v"}, body = "text"})',
    ],
)
def test_the_call_takes_both_shapes(site: Site, call: str) -> None:
    assert output(_run(f"return true, {call.replace('URL', site.url)}.body")) == "ok"
    received = site.received[0]
    assert (received.method, received.path, received.headers["x-name"]) == ("POST", "/a?b=1", "v")
    assert received.body == b"text"
    assert "Content-Type" not in received.headers


def test_json_is_encoded_and_named(site: Site) -> None:
    _run(f'http.put("{site.url}", {{json = {{a = {{1, 2}}}}}})')
    assert json.loads(site.received[0].body) == {"a": [1, 2]}
    assert site.received[0].headers["content-type"] == "application/json"
    _run(f'http.put("{site.url}", {{json = {{}}, headers = {{["content-type"] = "application/x"}}}})')
    assert site.received[1].headers.get_all("content-type") == ["application/x"]


def test_a_body_is_sent_byte_for_byte(site: Site) -> None:
    text = "local t = {} for i = 0, 255 do t[#t + 1] = string.char(i) end"
    _run(f'{text} http.post("{site.url}", {{body = table.concat(t)}})')
    assert site.received[0].body == bytes(range(256))
    _run(f'http.post("{site.url}", {{body = ("x"):rep(200000)}})')
    assert site.received[1].body == b"x" * 200_000
    assert "transfer-encoding" not in site.received[1].headers


def test_a_query_is_escaped_and_added(site: Site) -> None:
    query = '{b = "x &=/ü", a = {1, true}, c = "\\255"}'
    _run(f'http.get("{site.url}/p?z=0#part", {{query = {query}}})')
    _run(f'http.get("{site.url}/p", {{query = {query}}})')
    assert [each.path for each in site.received] == [
        "/p?z=0&a=1&a=true&b=x%20%26%3D%2F%C3%BC&c=%FF",
        "/p?a=1&a=true&b=x%20%26%3D%2F%C3%BC&c=%FF",
    ]


@pytest.mark.parametrize(
    ("url", "options", "sent"),
    [
        ("", '{basic = {"me", "pä:ss"}}', "Basic bWU6cMOkOnNz"),
        ("", '{bearer = "token"}', "Bearer token"),
        ("", r'{bearer = " token \t"}', "Bearer token"),
        ("", r'{headers = {authorization = " mine\t"}}', "mine"),
        ("me:p%20w@", "{}", "Basic bWU6cCB3"),
        ("me:pw@", '{headers = {authorization = "mine"}}', "mine"),
        ("", "{}", None),
    ],
)
def test_credentials_are_sent_as_told(site: Site, url: str, options: str, sent: str | None) -> None:
    address = site.url.replace("//", f"//{url}")
    assert output(_run(f'return true, http.get("{address}", {options}).url')) == site.url
    assert site.received[0].headers.get_all("authorization", []) == ([sent] if sent else [])


def test_the_environment_decides_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password pw")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert output(_run(f'return true, http.get("{site.url}").body')) == "ok"
    assert "authorization" not in site.received[0].headers


def test_a_cookie_is_sent_to_nobody(site: Site) -> None:
    site.answers(Answer(headers={"Set-Cookie": "session=1"}))
    _run(f'http.get("{site.url}") http.get("{site.url}")')
    assert ["cookie" in each.headers for each in site.received] == [False, False]


def test_a_response_has_its_fields(site: Site) -> None:
    site.answers(Answer(201, {"X-Kind": "a", "Content-Type": "application/json"}, b'{"n": [1, null]}'))
    shown = """return true, table.concat({r.status_code, r.status, r.reason, r.headers["x-kind"], r.headers["X-KIND"],
        r.headers.nothing or "nil", r.json().n[1], r.body, r.url, math.type(r.elapsed_ms)}, "|")"""
    assert output(_run(f'local r = http.get("{site.url}/x") {shown}')) == (
        f'201|201|Created|a|a|nil|1|{{"n": [1, null]}}|{site.url}/x|integer'
    )


def test_a_response_can_be_encoded(site: Site) -> None:
    text = output(_run(f'return true, require("json").encode(http.get("{site.url}"))'))
    assert json.loads(text)["status_code"] == 200


def test_a_body_that_is_no_json_is_nil_and_a_reason(site: Site) -> None:
    text = output(_run(f'local v, why = http.get("{site.url}").json() return true, tostring(v) .. " " .. why'))
    assert text.startswith("nil invalid JSON at byte 1")


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_an_error_of_the_server_is_a_response(site: Site, status: int) -> None:
    site.answers(Answer(status, body=b"why"))
    assert output(_run(f'local r = http.get("{site.url}") return true, r.status .. r.body')) == f"{status}why"


def test_headers_of_one_name_are_joined(site: Site) -> None:
    def write(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\nContent-Length: 0\r\n\r\n")

    site.answers(Answer(write=write))
    assert output(_run(f'return true, http.get("{site.url}").headers.a')) == "1, 2"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(b"text" * 99, mtime=0)),
        ("x-gzip", gzip.compress(b"text" * 99, mtime=0)),
        ("deflate", zlib.compress(b"text" * 99)),
        ("deflate", zlib.compress(b"text" * 99)[2:-4]),
        ("identity", b"text" * 99),
    ],
)
def test_a_compressed_body_is_decompressed(site: Site, coding: str, body: bytes) -> None:
    site.answers(Answer(headers={"Content-Encoding": coding}, body=body))
    assert output(_run(f'return true, http.get("{site.url}").body')) == "text" * 99


@pytest.mark.parametrize(
    "after",
    [b"", b"\0" * 9, b"\0" * 9 + gzip.compress(b"no part of it", mtime=0)],
    ids=["nothing", "zeros", "zeros and more"],
)
@pytest.mark.parametrize("size", [1, 24, 25, 1000])
def test_a_compressed_body_may_have_several_members(site: Site, size: int, after: bytes) -> None:
    """RFC 1952, 2.2; wherever the body is cut into chunks. What follows the last of them is padding."""
    body = gzip.compress(b"one ", mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(b"two", mtime=0) + after
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [*parts, b""])
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    site.answers(Answer(write=lambda sock: sock.sendall(head + chunks)))
    assert output(_run(f'return true, http.get("{site.url}").body')) == "one two"


def test_a_member_that_ends_too_early_is_a_reason(site: Site) -> None:
    body = gzip.compress(b"one ", mtime=0) + gzip.compress(b"two", mtime=0)[:-1]
    site.answers(Answer(headers={"Content-Encoding": "gzip"}, body=body))
    assert _reason(f'http.get("{site.url}")') == "127.0.0.1: the gzip body ends too early"


def test_a_server_that_is_not_there_is_nil_and_a_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert _reason(f'http.get("http://127.0.0.1:{port}/secret")') == f"127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"", "the connection to 127.0.0.1 was lost: the server closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "127.0.0.1: illegal status line: bytearray(b'SSH-2.0-OpenSSH')"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "127.0.0.1: peer closed connection without sending"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nno", "127.0.0.1: the body is not gzip"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 99, mtime=0)[:-9],
            "127.0.0.1: the gzip body ends too early",
        ),
    ],
)
def test_an_answer_that_is_none_is_nil_and_a_reason(site: Site, written: bytes, reason: str) -> None:
    site.answers(Answer(write=lambda sock: sock.sendall(written)))
    assert _reason(f'http.get("{site.url}")').startswith(reason)


def test_a_slow_drip_ends_at_the_timeout(site: Site) -> None:
    """Each byte comes in time; the whole never does."""

    def drip(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(1000):
            sock.sendall(b"x")
            sleep(0.01)

    site.answers(Answer(write=drip))
    started = perf_counter()
    assert _reason(f'http.get("{site.url}", {{timeout = 0.3}})') == "127.0.0.1 did not answer within 0.3 seconds"
    assert perf_counter() - started < 5


def test_a_flood_that_is_no_answer_ends_at_the_timeout(site: Site) -> None:
    """There is always something to read, and never a response."""

    def flood(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    site.answers(Answer(write=flood))
    started = perf_counter()
    assert "did not answer within" in _reason(f'http.get("{site.url}", {{timeout = 0.2}})')
    assert perf_counter() - started < 5


def test_a_run_ends_at_its_own_deadline_whatever_the_timeout_is(site: Site) -> None:
    release = threading.Event()
    site.answers(Answer(write=lambda _: release.wait(20)))
    started = perf_counter()
    result = _run(f'pcall(http.get, "{site.url}", {{timeout = 60, retries = 5}})', timeout=0.3)
    assert outcomes(result) == [Outcome.TIMEOUT]
    assert perf_counter() - started < 5
    release.set()


def test_a_run_that_is_given_up_ends_promptly(site: Site) -> None:
    release, cancelled = threading.Event(), threading.Event()
    site.answers(Answer(write=lambda _: release.wait(20)))
    lua = runtime(library=library(http_allow=_HERE))
    text = f'return {{ execute = function() require("http").get("{site.url}") end }}'
    hook = program(text, "hook")
    thread = threading.Thread(target=lua.run, args=(hook, 60.0, [event()], cancelled), daemon=True)
    thread.start()
    while not site.received:
        sleep(0.01)
    cancelled.set()
    thread.join(5)
    assert not thread.is_alive()
    release.set()


def _endless(sock: socket.socket, start: bytes, chunk: bytes, sent: list[int]) -> None:
    sock.sendall(start)
    while True:
        sent.append(sock.send(chunk))


def test_reading_a_huge_body_stops_at_the_limit(site: Site) -> None:
    sent: list[int] = []
    site.answers(Answer(write=lambda sock: _endless(sock, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, sent)))
    assert _reason(f'http.get("{site.url}")') == f"127.0.0.1: the body has more than {exchange.MAX_BODY} bytes"
    assert sum(sent) < 4 * exchange.MAX_BODY


def test_the_largest_body_reaches_the_hook(site: Site) -> None:
    site.answers(Answer(body=b"x" * exchange.MAX_BODY))
    assert output(_run(f'return true, #http.get("{site.url}").body')) == str(exchange.MAX_BODY)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_decompression_bomb_is_not_unpacked(site: Site, coding: str) -> None:
    body = gzip.compress(bytes(200 * 2**20), 1) if coding == "gzip" else zlib.compress(bytes(200 * 2**20), 1)
    site.answers(Answer(headers={"Content-Encoding": coding}, body=body))
    tracemalloc.start()
    try:
        reason = _reason(f'http.get("{site.url}")', timeout=60)
        assert reason == f"127.0.0.1: the body has more than {exchange.MAX_BODY} bytes"
        assert tracemalloc.get_traced_memory()[1] < 5 * exchange.MAX_BODY
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(),
        Answer(503),
        Answer(302, {"Location": "http://10.0.0.1/"}),
        Answer(headers={"Content-Length": "9999999999"}),
        Answer(write=lambda _: sleep(0.5)),
        None,
    ],
    ids=["answered", "tried again", "forbidden", "too large", "late", "refused"],
)
def test_a_call_leaves_nothing_to_the_garbage_collector(site: Site, answer: Answer | None) -> None:
    """It looks for cycles after many thousands of objects only, and bodies are large."""
    url = site.url if answer else f"http://127.0.0.1:{free_ports(1)[0]}"
    if answer:
        site.answers(answer)
    options = '{body = "x", timeout = 0.2, retries = 1, retry_delay = 0.01}'
    hook = program(f'require("http").post("{url}", {options}) return {{execute = function() end}}', "hook")
    lua = runtime(library=library(http_allow=_HERE, http_deny=()))

    def post() -> None:
        # On this thread: what belongs to one would go with it.
        ended = outcomes(lua.run(hook, 5.0, [event()], threading.Event()))
        assert ended == [Outcome.FAILED if answer and answer.status == 302 else Outcome.CONTINUE]

    post()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        post()
        gc.collect()
        assert not [thing for thing in gc.garbage if isinstance(thing, exchange.Request | exchange.Response)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_bodies_share_room_with_what_other_hooks_receive(site: Site) -> None:
    site.answers(Answer(body=b"x" * 2 * 2**20))
    shared = library(http_allow=_HERE, http_deny=())
    lua = runtime(library=shared)
    hook = f'local http = require("http") local r, why = http.get("{site.url}") return true, r and #r.body or why'
    assert output(execute(hook, within=lua)) == str(2 * 2**20)
    assert shared.room.take(ROOM_BYTES - 2**20)
    assert "hooks are receiving too much at once" in output(execute(hook, within=lua))
    shared.room.give(ROOM_BYTES - 2**20)
    assert output(execute(hook, within=lua)) == str(2 * 2**20)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("http.get(5)", "http.get takes a URL, not a number"),
        ("http.get({})", "http.get takes a URL, not a nil"),
        ('http.get("URL", 5)', "http.get takes a table of options, not a number"),
        ('http.get("URL", {url = "URL"})', "http.get: url stands beside the first argument: one of both says where"),
        ('http.post("URL", {data = 1})', "http.post: unknown option data; it takes headers, body"),
        ('http.get({url = "URL", method = "PUT"})', "http.get: unknown option method"),
        ('http.post("URL", {body = {}})', "http.post: body takes a string, not a table; json = ... takes a table"),
        ('http.post("URL", {body = "", json = 1})', "http.post: json stands beside body"),
        ('http.get("URL", {timeout = "5s"})', "http.get: timeout takes a number from 0.001 to 3600"),
        ('http.get("URL", {timeout = 0/0})', "http.get: timeout takes a number from 0.001 to 3600"),
        ('http.get("URL", {retries = 99})', "http.get: retries takes a whole number from 0 to 10"),
        ('http.get("URL", {redirects = 9})', "http.get: redirects takes a whole number from 0 to 5"),
        ('http.get("URL", {basic = "me"})', "http.get: basic takes {user, password}"),
        ('http.get("URL", {basic = {"a", "b"}, bearer = "c"})', "http.get: basic stands beside bearer"),
        ('http.get("URL", {headers = "a"})', "http.get: headers takes a table, not a string"),
        ('http.get("URL", {headers = {a = {{}}}})', "http.get: headers.a takes a string, not a table"),
        ('http.get("URL", {query = {1}})', "http.get: query takes a table of names and values"),
        ('http.request("URL")', "http.request takes a table with method and url, not a string"),
        ('http.request({url = "URL"}, {json = {}})', "http.request takes one table, with method, url and all else"),
        ('http.request({url = "URL", method = "CONNECT"})', "http.request: the method is 'CONNECT'"),
        ('http.request({url = "URL", method = "GET / HTTP/1.1\\r\\n"})', "http.request: the method is"),
        ('http.get("file:///etc/passwd")', "http.get takes a URL that begins with http:// or https:// and a host"),
        ('http.get("gopher://127.0.0.1/")', "http.get takes a URL that begins with http:// or https:// and a host"),
        ('http.get("/path")', "http.get takes a URL that begins with http:// or https:// and a host"),
        ('http.get("http://127.0.0.1:0/")', "http.get takes a URL that begins with http:// or https:// and a host"),
        ('http.get("http://a b/")', "http.get takes a URL that begins with http:// or https:// and a host"),
        ('http.get("http://127.0.0.1:x/")', "http.get: the URL cannot be read"),
        ('http.get("URL/\\r\\nX: y")', "http.get: the URL cannot be read"),
        ('http.get("URL/" .. ("x"):rep(20000))', "http.get: the URL has"),
        ('http.get("URL", {headers = {A = "x\\r\\nB: y"}})', "http.get: the header A holds a line break"),
        ('http.get("URL", {headers = {A = "x\\0"}})', "http.get: the header A holds a line break"),
        ('http.get("URL", {headers = {["A: b\\r\\nC"] = "x"}})', "is no name of a header"),
        ('http.get("URL", {headers = {A = "\\255"}})', "http: headers and options are taken in UTF-8"),
        ('http.get("URL", {bearer = "x\\nA: b"})', "http.get: bearer holds a line break"),
        ('http.get("URL", {headers = {A = ("x"):rep(70000)}})', "http.get: the headers have more than"),
        ('http.put("URL", {body = ("x"):rep(2^23 + 1)})', "http.put: the body has 8388609 bytes: at most 8388608"),
        ('http.get("URL", {headers = {Host = "other"}})', "http.get: the header Host is set by the library"),
        ('http.get("URL", {headers = {["content-length"] = 5}})', "the header content-length is set by the library"),
        ('http.get("URL", {headers = {["Proxy-Authorization"] = "x"}})', "is set by the library"),
    ],
)
def test_misuse_is_an_error_at_the_hooks_line(site: Site, call: str, reason: str) -> None:
    result = _run(f"\nlocal r = {call.replace('URL', site.url)} return true")
    assert outcomes(result) == [Outcome.FAILED]
    assert error(result).startswith("hook.lua:5: ")
    assert reason in error(result)
    assert site.received == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "[::1]", "localhost", "0", "169.254.169.254"]
)
def test_the_host_itself_is_refused_by_default(host: str) -> None:
    result = _run(f'local r = http.get("http://{host}:81/path")', allow=("*",))
    assert "the permission 'http' is not granted" in error(result)
    assert "HOOK_HTTP_ALLOW" in error(result)
    assert "the hook 'hook' may not use" in error(result)


def test_a_redirect_to_a_denied_host_is_refused(site: Site) -> None:
    with serving("127.0.0.2") as inside:
        site.answers(Answer(302, {"Location": f"{inside.url}/admin"}))
        result = _run(f'http.get("{site.url}")')
        assert "127.0.0.2" in error(result)
        assert "the permission 'http' is not granted" in error(result)
        assert inside.received == []


def test_each_attempt_is_checked_anew(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that leads to a permitted address first, and elsewhere when the request is tried again."""
    with serving("127.0.0.2") as inside:
        site.answers(Answer(503, {"Connection": "close"}))
        real, asked = socket.getaddrinfo, []

        def fake(host: str, port: int, *args: Any, flags: int = 0, **options: Any) -> Any:
            if host != "moving.example" or flags:
                return real(host, port, *args, flags=flags, **options)
            asked.append(host)
            return real(
                *(("127.0.0.1", site.port) if len(asked) == 1 else ("127.0.0.2", inside.port)), *args, **options
            )

        monkeypatch.setattr(socket, "getaddrinfo", fake)
        result = _run('http.get("http://moving.example/", {retries = 1, retry_delay = 0})')
        assert "moving.example:80 (127.0.0.2)" in error(result)
        assert (len(asked), len(site.received), len(inside.received)) == (2, 1, 0)


def test_an_idle_connection_is_none_for_a_hook_with_other_rules(site: Site) -> None:
    text = f'return true, http.get("{site.url}").status'
    assert output(_run(text)) == "200"
    assert output(_run(text)) == "200"
    assert site.received[0].client == site.received[1].client, "one with the same rules uses it again"
    for allow, deny in (("*",), ()), (_HERE, _HERE), ((), ()), (("127.0.0.1:1",), ()):
        assert "is not granted" in error(_run(text, allow=allow, deny=deny))
    assert len(site.received) == 2


def test_a_rule_that_is_none_is_named() -> None:
    result = _run('http.get("http://127.0.0.1/")', allow=("http://x",))
    assert "HOOK_HTTP_ALLOW" in error(result)
    assert "'http://x' has the port '//x'" in error(result)


@pytest.mark.parametrize(
    ("status", "verb", "then", "body"),
    [
        (301, "post", "GET", b""),
        (302, "post", "GET", b""),
        (303, "put", "GET", b""),
        (303, "head", "HEAD", b""),
        (307, "post", "POST", b"text"),
        (308, "patch", "PATCH", b"text"),
        (302, "put", "PUT", b"text"),
    ],
)
def test_a_redirect_is_followed(site: Site, status: int, verb: str, then: str, body: bytes) -> None:
    site.answers(Answer(status, {"Location": "../b?c=d#e"}), Answer(body=b"there"))
    text = f'local r = http.{verb}("{site.url}/a/x", {{body = "text", bearer = "t"}}) return true, r.url'
    assert output(_run(text)) == f"{site.url}/b?c=d"
    assert (site.received[1].method, site.received[1].path, site.received[1].body) == (then, "/b?c=d", body)
    assert site.received[1].headers["authorization"] == "Bearer t", "it is the same server"


def test_no_credentials_go_to_another_host(site: Site) -> None:
    with serving("127.0.0.2") as other:
        site.answers(Answer(307, {"Location": f"http://user:pw@127.0.0.2:{other.port}/"}))
        headers = '{Cookie = "c", ["X-Api-Key"] = "k", Accept = "text/x", ["Content-Type"] = "text/y"}'
        text = f'return true, http.post("{site.url}", {{body = "b", basic = {{"a", "b"}}, headers = {headers}}}).status'
        assert output(_run(text, allow=("127.0.0.1", "127.0.0.2"))) == "200"
        sent = other.received[0].headers
        assert [name for name in sent if name.lower() in {"authorization", "cookie", "x-api-key"}] == []
        assert (sent["accept"], sent["content-type"]) == ("text/x", "text/y")
        assert sent["host"] == f"127.0.0.2:{other.port}"


def test_redirects_are_bounded(site: Site) -> None:
    site.answers(Answer(302, {"Location": "/again"}))
    assert _reason(f'http.get("{site.url}")') == "127.0.0.1: more than 5 redirects"
    assert len(site.received) == 6
    assert output(_run(f'return true, http.get("{site.url}", {{redirects = 0}}).status')) == "302"
    assert output(_run(f'return true, http.get("{site.url}", {{redirects = false}}).headers.location')) == "/again"


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[", "http://a%2eb", "http://x:0"]
)
def test_a_redirect_to_no_web_address_is_a_failure(site: Site, location: str) -> None:
    site.answers(Answer(302, {"Location": location}))
    assert "the redirect leads to" in _reason(f'http.get("{site.url}")')


def test_what_passes_is_retried_and_the_last_answer_counts(site: Site) -> None:
    site.answers(Answer(503), Answer(429), Answer(200, body=b"at last"))
    assert output(_run(f'return true, http.get("{site.url}", {{retries = 2, retry_delay = 0}}).body')) == "at last"
    site.answers(Answer(502), Answer(504))
    assert output(_run(f'return true, http.get("{site.url}", {{retries = 1, retry_delay = 0}}).status')) == "504"
    assert len(site.received) == 5


def test_answers_that_are_thrown_away_take_no_room(site: Site) -> None:
    large = b"x" * 7 * 2**20
    site.answers(*[Answer(503, body=large)] * 10, Answer(200, body=b"at last"))
    assert output(_run(f'return true, http.get("{site.url}", {{retries = 10, retry_delay = 0}}).body')) == "at last"


def test_nothing_else_is_retried(site: Site) -> None:
    for status in (400, 404, 500):
        site.answers(Answer(status))
        _run(f'http.get("{site.url}", {{retries = 3, retry_delay = 0}})')
    assert len(site.received) == 3
    with serving() as broken:
        broken.answers(Answer(write=lambda _: None))
        _run(f'http.get("{broken.url}", {{retries = 3, retry_delay = 0}})')
        assert len(broken.received) == 1


def test_a_server_that_is_not_there_yet_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        targets = [("127.0.0.1", unused.getsockname()[1]), ("127.0.0.1", site.port)]
        real = socket.getaddrinfo

        def fake(host: str, port: int, *args: Any, flags: int = 0, **options: Any) -> Any:
            if host == "late.example" and not flags:
                return real(*(targets.pop(0) if len(targets) > 1 else targets[0]), *args, **options)
            return real(host, port, *args, flags=flags, **options)

        monkeypatch.setattr(socket, "getaddrinfo", fake)
        text = 'return true, http.post("http://late.example", {retries = 1, retry_delay = 0}).status'
        assert output(_run(text)) == "200"


def test_retries_wait_longer_each_time(site: Site) -> None:
    site.answers(Answer(503))
    text = f'return true, http.get("{site.url}", {{retries = 2, retry_delay = 0.05}}).elapsed_ms'
    assert int(output(_run(text))) >= 150


def test_a_server_that_says_when_is_asked_then(site: Site) -> None:
    site.answers(Answer(429, {"Retry-After": "1"}), Answer())
    text = f'return true, http.get("{site.url}", {{retries = 1, retry_delay = 0}}).elapsed_ms'
    assert int(output(_run(text))) >= 1000


def test_a_server_that_says_too_late_is_not_waited_for(site: Site) -> None:
    site.answers(Answer(429, {"Retry-After": "3600"}))
    started = perf_counter()
    assert output(_run(f'return true, http.get("{site.url}", {{retries = 5}}).status')) == "429"
    assert perf_counter() - started < 3
    assert len(site.received) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("-1", None), ("soon", None), (None, None)],
)
def test_retry_after_is_read_in_both_forms(text: str | None, seconds: float | None) -> None:
    assert retry_after(text) == seconds


def test_an_idle_connection_that_its_server_closed_is_no_failure(site: Site) -> None:
    """The server closes after its answer without saying so; the next request comes on a new connection."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    site.answer = lambda _: Answer(write=lambda sock: sock.sendall(body))
    for _ in range(3):
        assert output(_run(f'return true, http.post("{site.url}", {{body = "x"}}).body')) == "ok"
    assert len(site.received) == 3


def test_an_idle_connection_that_its_server_closes_just_now_is_no_failure(site: Site) -> None:
    """The server gives up a connection at the moment when the next request comes on it."""
    seen: set[tuple[str, int]] = set()

    def answer(received: Received) -> Answer:
        known = received.client in seen
        seen.add(received.client)
        return Answer(write=lambda _: None) if known else Answer(body=b"ok")

    site.answer = answer
    for _ in range(3):
        assert output(_run(f'return true, http.post("{site.url}", {{body = "x"}}).body')) == "ok"
    keys = [each.headers["idempotency-key"] for each in site.received]
    assert len(keys) == 5
    assert len(set(keys)) == 1


def test_what_follows_an_answer_is_no_answer_to_the_next_request(site: Site) -> None:
    first = b"firstHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"
    site.answers(Answer(headers={"Content-Length": "5"}, body=first), Answer(body=b"second"))
    assert output(_run(f'return true, http.get("{site.url}").body')) == "first"
    assert output(_run(f'return true, http.post("{site.url}", {{json = {{a = 1}}}}).body')) == "second"


def test_a_connection_is_not_used_again_after_head(site: Site) -> None:
    """A server that sends a body nonetheless may send it at any time."""
    _run(f'http.head("{site.url}") http.get("{site.url}")')
    head, get = site.received
    assert (head.method, get.method) == ("HEAD", "GET")
    assert head.client != get.client


def _keys(site: Site) -> list[str | None]:
    return [each.headers["idempotency-key"] for each in site.received]


def test_a_key_is_the_same_in_every_attempt(site: Site) -> None:
    site.answers(Answer(503), Answer(503), Answer())
    text = f'http.post("{site.url}", {{retries = 2, retry_delay = 0}})'
    _run(text)
    _run(text, event(attempt=2))
    first, *others = _keys(site)
    assert first is not None
    assert re.fullmatch(r"[0-9a-f-]{36}", first)
    assert others == [first] * 3


def test_each_request_of_a_run_has_its_own_key(site: Site) -> None:
    both = f'http.post("{site.url}/a") http.post("{site.url}/a") http.post("{site.url}/b") http.put("{site.url}/a")'
    _run(both)
    keys = _keys(site)
    assert len(set(keys)) == 4
    _run(f'http.put("{site.url}/a") http.post("{site.url}/b")')
    assert _keys(site)[4:] == [keys[3], keys[2]], "whatever else an attempt leaves out"


def test_a_key_counts_requests_whatever_their_bodies(site: Site) -> None:
    """The next one to a URL has the key of what an attempt leaves out: such hooks give keys of their own."""
    first, second = (f'http.post("{site.url}", {{body = "{body}"}})' for body in ("first", "second"))
    _run(f"{first} {second}")
    _run(second)
    keys = _keys(site)
    assert keys[0] != keys[1]
    assert keys[2] == keys[0]


def test_another_event_or_hook_has_another_key(site: Site) -> None:
    text = f'http.post("{site.url}")'
    _run(text)
    other = event()
    other[0] = bytes(16)
    _run(text, other)
    _run(text, name="other")
    assert len(set(_keys(site))) == 3


def test_only_what_changes_something_has_a_key_and_the_hooks_own_wins(site: Site) -> None:
    _run(f'http.get("{site.url}") http.head("{site.url}")')
    _run(f'http.post("{site.url}", {{headers = {{["idempotency-key"] = "mine"}}}})')
    assert _keys(site) == [None, None, "mine"]


def test_a_hook_cannot_change_its_events_id_to_get_another_key(site: Site) -> None:
    _run(f'http.post("{site.url}")')
    _run(f'event.id = "other" http.post("{site.url}")')
    assert len(set(_keys(site))) == 1


def test_https_checks_the_certificate_against_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = server_context(tmp_path, "hooks.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _, name, __: asked.append(name)
    with serving(tls=context) as site:
        trust(monkeypatch, tmp_path / "ca.pem")
        here = (site.host, site.port)
        resolve(monkeypatch, hooks_example=here, other_example=here)
        allow = ("hooks.example", "other.example")
        assert output(_run('return true, http.get("https://hooks.example/x").body', allow=allow)) == "ok"
        assert asked == ["hooks.example"]
        assert site.received[0].headers["host"] == "hooks.example"
        reason = _reason('http.get("https://other.example/x")', allow=allow)
        assert reason.startswith("TLS with other.example failed: certificate verify failed: Hostname mismatch")
        assert len(site.received) == 1


def test_an_unknown_authority_is_not_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(tls=server_context(tmp_path, "127.0.0.1")) as site:
        assert "certificate verify failed: self-signed certificate" in _reason(f'http.get("{site.url}")')
        trust(monkeypatch, tmp_path / "ca.pem")
        assert output(_run(f'return true, http.get("{site.url}").status')) == "200"


def test_a_redirect_from_https_to_http_is_not_followed(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with serving(tls=server_context(tmp_path, "127.0.0.1")) as secure:
        trust(monkeypatch, tmp_path / "ca.pem")
        secure.answers(Answer(302, {"Location": site.url}))
        assert _reason(f'http.get("{secure.url}")') == "127.0.0.1: the redirect leads from https to http"
        assert site.received == []


def test_a_handshake_that_never_ends_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason = _reason(f'http.get("https://127.0.0.1:{silent.getsockname()[1]}", {{timeout = 0.2}})')
        assert reason == "127.0.0.1 did not finish the TLS handshake in time"


def test_a_dry_run_shows_the_request_and_sends_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    lua = runtime(library=library(show=shown.append, http_allow=_HERE))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    body = """local http = require("http")
        local r = http.post("https://hooks.example/x?y=1", {body = ("a"):rep(300), retries = 3})
        http.get("https://hooks.example/")
        return true, r.status_code .. r.body .. tostring(next(r.headers)) .. tostring(r.json().a)"""
    assert output(execute(body, within=lua)) == "200{}nilnil"
    assert shown == [
        f"http: POST https://hooks.example/x?y=1, 300 bytes: {'a' * 200}",
        "http: GET https://hooks.example/",
    ]
    assert "unknown option" in error(execute('require("http").get("http://a", {x = 1})', within=lua))
    assert site.received == []


def test_no_header_reaches_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.answers(Answer(headers={"Set-Cookie": "cookie-token"}))
    with caplog.at_level(logging.DEBUG):
        _run(f'http.get("{site.url}/path-token", {{bearer = "header-token"}})')
    assert "token" not in caplog.text
    assert len(site.received) == 1


def test_the_documents_notification_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = (Path(__file__).parent / "seed_hooks/notify_on_failure.lua").read_text()
    payload = '{"task": {"task_name": "build", "agent_name": "a1", "error": "exit 2"}}'
    with serving(tls=server_context(tmp_path, "hooks.slack.com")) as site:
        trust(monkeypatch, tmp_path / "ca.pem")
        resolve(monkeypatch, hooks_slack_com=(site.host, site.port))
        lua = runtime(library=library(http_allow=("hooks.slack.com",)))
        assert output(run(text, event(payload), within=lua)) == "Notification sent successfully"
        received: Received = site.received[0]
        assert (received.method, received.path) == ("POST", "/...")
        assert json.loads(received.body) == {"text": "Task build failed on a1: exit 2"}
        assert received.headers.get_all("content-type") == ["application/json"]
        site.answers(Answer(500))
        assert "Failed to send notification" in error(run(text, event(payload), within=lua))
