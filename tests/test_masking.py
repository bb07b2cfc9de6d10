"""Hiding secrets in what comes of a run, however they are written there."""

from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.parse

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hook_event_processor.event import Outcome, code_of, outcome_of
from hook_event_processor.lua.masking import holds_secret, mask, masked
from hook_event_processor.run import ChunkResult, Dispatched

TOKEN = b"hunter2-0123456789"
AWKWARD = 'p@ss w0rd/"x\\y\n&é+<z>'.encode()

WRITTEN = {
    "as it is": lambda value: value,
    "twice": lambda value: value * 2,
    "hexadecimal": lambda value: value.hex().encode(),
    "capital hexadecimal": lambda value: value.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 after one byte": lambda value: base64.b64encode(b":" + value),
    "base64 after two bytes": lambda value: base64.b64encode(b"u:" + value + b"."),
    "base64 of a user and a password": lambda value: base64.b64encode(b"user:" + value + b"\n\n"),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(b"??" + value),
    "base64 in lines": lambda value: base64.encodebytes(b"." * 50 + value + b"." * 50),
    "base64 in a URL": lambda value: urllib.parse.quote(base64.b64encode(b"??" + value), safe="").encode(),
    "URL": lambda value: urllib.parse.quote(value).encode(),
    "URL, every reserved character": lambda value: urllib.parse.quote(value, safe="").encode(),
    "form": lambda value: urllib.parse.quote_plus(value).encode(),
    "every byte in percent": lambda value: "".join(f"%{byte:02x}" for byte in value).encode(),
    "JSON": lambda value: json.dumps(value.decode(), ensure_ascii=False).encode(),
    "JSON in ASCII": lambda value: json.dumps(value.decode()).encode(),
    "JSON in JSON": lambda value: json.dumps({"x": json.dumps([value.decode()])}).encode(),
    "JSON with escaped slashes": lambda value: json.dumps(value.decode()).replace("/", "\\/").encode(),
    "HTML": lambda value: html.escape(value.decode()).encode(),
    "capitals": lambda value: value.upper(),
    "two lines": lambda value: value[:7] + b"\n" + value[7:],
}


@pytest.mark.parametrize("form", WRITTEN)
@pytest.mark.parametrize("value", [TOKEN, AWKWARD], ids=["token", "awkward"])
def test_a_secret_is_hidden_however_it_is_written(value: bytes, form: str) -> None:
    hidden = mask(b"before " + WRITTEN[form](value) + b" after", [value])
    assert hidden.startswith(b"before ")
    assert hidden.endswith(b" after")
    assert b"***" in hidden
    # What is left beside the mask are quotes, and what stood around it in base64.
    left = re.sub(rb"before | after|\*\*\*", b"", hidden)
    for part in (value[:3], value[-3:], value.hex().encode()[:6], base64.b64encode(value)[:4]):
        assert part not in left, hidden


# The last line of base64 is short.
KEY = b"-----BEGIN PRIVATE KEY-----\n%s-----END PRIVATE KEY-----\n" % base64.encodebytes(bytes(range(116)))

IN_OTHER_LINES = {
    "indented": lambda key: b"key: |\n" + b"".join(b"    " + line for line in key.splitlines(keepends=True)),
    "indented with tabs": lambda key: b"\t" + key.replace(b"\n", b" \n\t"),
    "as on Windows": lambda key: key.replace(b"\n", b"\r\n"),
    "indented in JSON": lambda key: json.dumps("\n  " + key.decode().replace("\n", "\n  ")).encode(),
    "with spaces between": lambda key: key.replace(b"\n", b" "),
    "on one line": lambda key: key.replace(b"\n", b""),
    "without its last line break": lambda key: key[:-1],
}


@pytest.mark.parametrize("written", IN_OTHER_LINES)
def test_a_secret_of_several_lines_is_hidden_when_its_line_breaks_change(written: str) -> None:
    hidden = mask(b"before " + IN_OTHER_LINES[written](KEY) + b" after", [KEY])
    assert hidden.startswith(b"before ")
    assert hidden.endswith(b" after")
    left = re.sub(rb"before |key: \|| after|\*\*\*", b"", hidden)
    assert re.fullmatch(rb'(?:\s|\\n|")*', left), hidden


def test_each_long_line_of_a_secret_is_hidden_but_for_what_all_keys_share() -> None:
    begin, first, second, short, end = KEY.splitlines()
    text = b"1: %s.\n2: %s.\n3: %s.\n4: %s.\n5: %s.\n"
    assert mask(text % (begin, first, second, short, end), [KEY]) == text % (begin, b"***", b"***", short, end)


def test_a_secret_of_several_words_is_hidden_wherever_a_line_is_broken() -> None:
    phrase = b"correct horse battery"
    for at in range(1, len(phrase)):
        for line_break in (b"\n", b" \n  "):
            assert mask(b"is " + phrase[:at] + line_break + phrase[at:], [phrase]) == b"is ***"
    assert mask(b"is correct horse\nbattery", [phrase]) == b"is ***"


def test_a_secret_of_short_lines_is_hidden_where_they_are_joined_only() -> None:
    secret = b"ab\ncd\nef\ngh\n"
    assert mask(b"ab cd ef", [secret]) == b"ab cd ef"
    assert mask(b"x:\n  ab\n  cd\n  ef\n  gh", [secret]) == b"x:\n  ***"


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=4, max_size=80), st.binary(max_size=20), st.binary(max_size=20))
def test_no_secret_is_left_in_base64_or_hexadecimal(secret: bytes, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b16encode):
        assert holds_secret(encode(before + secret + after), [secret])


@settings(max_examples=150, deadline=None)
@given(st.text(min_size=4, max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_what_is_masked_stays_text_and_tells_nothing(secret: str, before: str, after: str) -> None:
    value = secret.encode()
    hidden = mask((before + secret + after).encode(), [value])
    assert value not in hidden.decode().encode() or value in b"***"
    assert mask(before.encode(), []) == before.encode()


def test_text_without_a_secret_is_left_alone() -> None:
    text = b'a plain line with 100% of \\ and &amp; and "quotes"\nand another'
    assert mask(text, [TOKEN, AWKWARD]) == text
    assert not holds_secret(text, [TOKEN, AWKWARD])


def test_several_secrets_that_overlap_are_all_hidden() -> None:
    assert mask(b"abcdefgh-ijkl", [b"abcdef", b"efgh-ij", b"cdef"]) == b"***kl"


def test_half_of_a_secret_is_hidden_where_a_text_was_cut_off_without_a_word() -> None:
    long = b"ghp_" + bytes(range(65, 91)) + bytes(range(48, 58))
    assert mask(b"token " + long[:30], [long]) == b"token ***"
    assert mask(long[15:] + b" token", [long]) == b"*** token"


@pytest.mark.parametrize("kept", range(2, len(TOKEN)))
@pytest.mark.parametrize(
    "marker", [b"\n[output cut at 65536 bytes]", b"\n[error cut]", "\N{REPLACEMENT CHARACTER}\n[error cut]".encode()]
)
def test_the_beginning_of_a_secret_is_hidden_where_a_limit_cut_it_off(kept: int, marker: bytes) -> None:
    for text in (TOKEN, TOKEN.hex().encode(), base64.b64encode(TOKEN)):
        assert mask(b"x" * 100 + text[:kept] + marker, [TOKEN]) == b"x" * 100 + b"***" + marker


def _result(*dispatched: Dispatched) -> ChunkResult:
    code = bytes([code_of(Outcome.CONTINUE)])
    return ChunkResult(code * 2, [0.0] * 2, [b"said " + TOKEN, None], [None, b"why " + TOKEN], {1: list(dispatched)})


def test_every_text_of_a_result_is_masked() -> None:
    result = masked(_result(Dispatched(f"a.{TOKEN.decode()}", b"{}", stack=TOKEN.decode())), {TOKEN})
    assert result.outputs == [b"said ***", None]
    assert result.errors == [None, b"why ***"]
    assert result.dispatched[1] == [Dispatched("a.***", b"{}", stack="***")]


def test_a_dispatched_payload_stays_json() -> None:
    """The secret begins where an escape ends, holds what JSON is made of, and is a key and a number, too."""
    secrets = {b"news1234", b'","b":"', b"99887766", TOKEN}
    payload = {"a": "\news1234", "x": "news1234", TOKEN.decode(): [1.5, 99887766, True, None], "c": 'say ","b":" twice'}
    data = orjson.dumps({**payload, "a": "", "b": 2**62})
    [event] = masked(_result(Dispatched("a.b", data)), secrets).dispatched[1]
    read = json.loads(event.data)
    assert read == {"a": "", "x": "***", "***": [1.5, "***", True, None], "c": "say *** twice", "b": 2**62}
    [event] = masked(_result(Dispatched("a.b", b'{"a":"\\news1234"}')), secrets).dispatched[1]
    assert json.loads(event.data) == {"a": "\news1234"}


def test_an_id_that_is_a_secret_fails_the_run() -> None:
    identity = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    result = masked(_result(Dispatched("a.b", b"{}", id=identity)), {identity.encode()})
    assert outcome_of(result.codes[1]) == Outcome.FAILED
    assert result.errors[1] == b"event.dispatch: the id is a secret, which must not be stored"
    assert result.dispatched == {}


def test_a_payload_that_cannot_be_masked_fails_the_run() -> None:
    data = b'{"a":' * 1100 + b'"' + TOKEN + b'"' + b"}" * 1100
    result = masked(_result(Dispatched("a.b", data)), {TOKEN})
    assert outcome_of(result.codes[1]) == Outcome.FAILED
    assert TOKEN not in (result.errors[1] or b"")


def test_the_beginning_of_a_secret_is_hidden_behind_a_bracket_of_the_text_itself() -> None:
    assert mask(b'{"keys": ["' + TOKEN[:9] + b"[cut]", [TOKEN]) == b'{"keys": ["***[cut]'


MUCH = {
    "lines": b'{"line": "one of many lines with \\"quotes\\" and %20"}\n' * 20_000,
    "cut characters": b"cut" + "\N{REPLACEMENT CHARACTER}".encode() * 21_000,
    "cuts": b"xyxyxy[cut]" * 5_900,
    "blanks": b" " * 64_000 + b"\n",
    "blank lines": b" \t \n" * 16_000,
    "open brackets": b"cut" + b"[" * 64_000,
    "beginnings": b"xy" * 32_000 + b"[cut]",
    "escapes": b"\\u0078%78&#120;" * 4_000,
}


@pytest.mark.parametrize("text", MUCH)
def test_masking_much_text_takes_little_time(text: str) -> None:
    """It is done outside of the run, where no deadline ends it."""
    began = time.thread_time()
    mask(MUCH[text], [TOKEN, b"xy" * 2000 + b"z", b"".join(b"%07x\n" % number for number in range(8000))])
    assert time.thread_time() - began < 3
