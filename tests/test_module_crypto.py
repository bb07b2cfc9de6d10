"""crypto: digests, encodings, random values and sealing, as hooks call them."""

from __future__ import annotations

import base64
import hashlib
import time
from uuid import UUID

import pytest
from chunks import error, library, output, runtime
from chunks import execute as execute_within
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hook_event_processor.run import ChunkResult

_START = "local crypto = require('crypto')\n"


def execute(body: str) -> ChunkResult:
    return execute_within(body, within=runtime(library=library()))


def _of(expression: str) -> str:
    return output(execute(f"{_START}return true, tostring({expression})"))


def _refused(statement: str) -> str:
    return error(execute(_START + statement))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512"])
def test_digests_are_hexadecimal(algorithm: str) -> None:
    assert _of(f"crypto.{algorithm}('a\\0\\xffb')") == hashlib.new(algorithm, b"a\0\xffb").hexdigest()


@pytest.mark.parametrize(
    ("algorithm", "digits"),
    [
        # RFC 4231 and RFC 2202, test case 2.
        ("sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        ("sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ("md5", "750c783e6ab0b503eaa86e310a5db738"),
    ],
)
def test_hmac_is_that_of_the_rfcs(algorithm: str, digits: str) -> None:
    assert _of(f"crypto.hmac('{algorithm}', 'Jefe', 'what do ya want for nothing?')") == digits


def test_hmac_names_the_algorithms_that_there_are() -> None:
    assert "crypto.hmac: unknown algorithm 'sha3'; there are md5, sha1, sha256, sha512" in _refused(
        "crypto.hmac('sha3', 'k', 'd')"
    )


@pytest.mark.parametrize(
    ("a", "b", "same"), [("'x'", "'x'", "true"), ("'x'", "'y'", "false"), ("'x'", "'xx'", "false")]
)
def test_equal_compares_whole_strings(a: str, b: str, same: str) -> None:
    assert _of(f"crypto.equal({a}, {b})") == same


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        (r"crypto.base64_encode('\xfb\xff\xfe')", "+//+"),
        (r"crypto.base64_encode('\xfb\xff\xfe', { url = true })", "-__-"),
        ("crypto.base64_encode('a')", "YQ=="),
        ("crypto.base64_encode('a', { url = true })", "YQ"),
        ("crypto.base64_encode('')", ""),
        ("crypto.base64_decode('YQ==')", "a"),
        ("crypto.base64_decode('YQ')", "a"),
        ("crypto.base64_decode('YQ', { url = true })", "a"),
        ("crypto.base64_decode('')", ""),
        (r"crypto.hex_encode('\0\xff')", "00ff"),
        (r"crypto.hex_encode(crypto.hex_decode('00FFab'))", "00ffab"),
        (r"crypto.hex_encode(crypto.base64_decode('-__-', { url = true }))", "fbfffe"),
    ],
)
def test_encodings(expression: str, result: str) -> None:
    assert _of(expression) == result


@pytest.mark.parametrize("text", ["Y", "Y*==", "Y Q==", "YQ=", "-__-", "YQ==YQ==", "=", "YQ==\\n"])
def test_what_is_not_base64_is_a_reason(text: str) -> None:
    body = f"{_START}local data, reason = crypto.base64_decode('{text}') return data == nil, reason"
    assert output(execute(body)) == "crypto.base64_decode: the text is not base64"


def test_the_two_alphabets_are_told_apart() -> None:
    body = f"{_START}local data, reason = crypto.base64_decode('+//+', {{ url = true }}) return data == nil, reason"
    assert output(execute(body)) == "crypto.base64_decode: the text is not base64 for URLs"


@pytest.mark.parametrize("text", ["0", "0g", "0x00", " 00"])
def test_what_is_not_hexadecimal_is_a_reason(text: str) -> None:
    body = f"{_START}local data, reason = crypto.hex_decode('{text}') return data == nil, reason"
    assert output(execute(body)) == "crypto.hex_decode: the text is not pairs of hexadecimal digits"


def test_random_bytes_are_as_many_as_asked_for_and_never_the_same() -> None:
    assert _of("#crypto.random_bytes(32)") == "32"
    assert _of("crypto.random_bytes(16) == crypto.random_bytes(16)") == "false"


@pytest.mark.parametrize("n", ["0", "-1", "65537"])
def test_random_bytes_are_bounded(n: str) -> None:
    assert f"crypto.random_bytes takes 1 to 65536 bytes, not {n}" in _refused(f"crypto.random_bytes({n})")


def test_uuids_are_of_their_version() -> None:
    assert UUID(_of("crypto.uuid()")).version == 4
    before = time.time_ns() // 1_000_000
    made = UUID(_of("crypto.uuid7()"))
    assert (made.int >> 76 & 0xF, made.int >> 62 & 3) == (7, 2)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


_KEY = "('k'):rep(32)"


def test_what_was_encrypted_is_decrypted() -> None:
    assert _of(f"crypto.decrypt(crypto.encrypt('secret', {_KEY}), {_KEY})") == "secret"
    assert _of(f"crypto.decrypt(crypto.encrypt('', {_KEY}, 'order 7'), {_KEY}, 'order 7') == ''") == "true"
    assert _of(f"crypto.encrypt('x', {_KEY}) == crypto.encrypt('x', {_KEY})") == "false"


def test_the_text_is_nonce_ciphertext_and_tag_for_any_other_program() -> None:
    sealed = base64.b64decode(_of(f"crypto.encrypt('secret', {_KEY}, 'bound')"))
    assert AESGCM(b"k" * 32).decrypt(sealed[:12], sealed[12:], b"bound") == b"secret"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (f"crypto.encrypt('x', {_KEY}), ('j'):rep(32)", "the key is another one"),
        (f"crypto.encrypt('x', {_KEY}, 'a'), {_KEY}, 'b'", "what it is bound to was changed"),
        (f"crypto.encrypt('x', {_KEY}), {_KEY}, 'b'", "what it is bound to was changed"),
        (f"'AAAA' .. crypto.encrypt('x', {_KEY}), {_KEY}", "the text or what it is bound to was changed"),
        (f"'nonsense', {_KEY}", "the text is not one that crypto.encrypt made"),
        (f"'', {_KEY}", "the text is not one that crypto.encrypt made"),
        (f"'\\xff*', {_KEY}", "the text is not one that crypto.encrypt made"),
    ],
)
def test_what_cannot_be_decrypted_is_a_reason(arguments: str, reason: str) -> None:
    body = f"{_START}local data, reason = crypto.decrypt({arguments}) return data == nil, reason"
    assert reason in output(execute(body))


@pytest.mark.parametrize("name", ["encrypt", "decrypt"])
def test_a_key_of_another_length_is_refused_with_advice(name: str) -> None:
    refused = _refused(f"crypto.{name}('x', 'short')")
    assert f"crypto.{name} takes a key of 32 bytes, not 5: make one with crypto.random_bytes(32)" in refused


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("crypto.sha256()", "crypto.sha256 takes a string as its data, not a nil"),
        ("crypto.sha256({})", "crypto.sha256 takes a string as its data, not a table"),
        ("crypto.hmac('md5', nil, 'x')", "crypto.hmac takes a string as its key, not a nil"),
        ("crypto.equal('x', 1)", "crypto.equal takes a string as its second argument, not a number"),
        ("crypto.base64_encode('x', true)", "crypto.base64_encode takes a table of options, not a boolean"),
        ("crypto.base64_encode('x', { urls = true })", "crypto.base64_encode: unknown option urls; it takes url"),
        ("crypto.base64_decode('x', { url = 1 })", "crypto.base64_decode: url takes true or false"),
        ("crypto.random_bytes(1.5)", "crypto.random_bytes takes a whole number of bytes"),
        ("crypto.encrypt('x', {}, 'y')", "crypto.encrypt takes a string as its key, not a table"),
        (f"crypto.decrypt('x', {_KEY}, 1)", "crypto.decrypt takes a string as what the text is bound to, not a number"),
    ],
)
def test_misuse_names_function_argument_and_line(statement: str, reason: str) -> None:
    assert _refused(statement).startswith(f"hook.lua:4: {reason}")


@pytest.mark.parametrize(
    "call",
    [
        "sha512(big)",
        "hmac('md5', 'k', big)",
        "equal(big, big)",
        "base64_encode(big)",
        "base64_decode(big)",
        "hex_encode(big)",
        "hex_decode(big)",
        f"encrypt(big, {_KEY})",
        f"decrypt(big, {_KEY})",
    ],
)
def test_a_call_takes_no_more_than_four_megabytes(call: str) -> None:
    assert "takes at most 4194304 bytes at once, not" in _refused(f"local big = ('x'):rep(4194305) crypto.{call}")
