"""The Python side of http: requests as a hook describes them, retried, and within its rules and its time."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from hashlib import sha256
from time import perf_counter, time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes
from uuid import UUID

import orjson
from tenacity import RetryCallState, Retrying, retry_if_result, wait_exponential_jitter

from hook_event_processor.egress import Egress, Forbidden, egress
from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services
from hook_event_processor.lua.masking import mask, shortened
from hook_event_processor.lua.web.dial import Lost, Patience, TimedOut, Unreachable
from hook_event_processor.lua.web.exchange import Malformed, Request, Response, TooLarge, exchange
from hook_event_processor.lua.web.redirects import follow, is_web_address

if TYPE_CHECKING:
    import httpx

_DEFAULT_TIMEOUT = 30.0
_MAX_RETRY_DELAY = 60.0
_MAX_URL = 16 * 1024
_MAX_HEADERS = 64 * 1024
_MAX_SENT = 8 * 1024 * 1024
_SHOWN_BYTES = 200  # of a body, in a dry run
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_WORTH_RETRYING = frozenset({429, 502, 503, 504})
_FAULTS = (Forbidden, TimedOut, Unreachable, Lost, TooLarge, Malformed)
_METHOD = re.compile(r"[A-Z]{1,20}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BLANKS = b" \t"  # around a value they mean nothing (RFC 9110, 5.5), and h11 sends none
# What says where a message ends, or whom it is for, is not a hook's to say.
_RESERVED = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def functions(_: Services) -> Mapping[str, Function]:
    return {"http.send": Function(send, waits=True, pretend=pretend)}


@dataclass(frozen=True, slots=True)
class Plan:
    """A request and how it is sent. Times in seconds."""

    request: Request
    timeout: float
    retries: int
    retry_delay: float
    redirects: int


Answer = tuple[int, bytes, bytes, bytes, int, bytes]


def send(call: Call, method: bytes, url: bytes, body: bytes, options: bytes, event_id: bytes) -> Answer:
    """Send a request; returns status, reason phrase, headers as lines, body, milliseconds, and the last URL.

    `options` is a JSON object: name, headers (a list of pairs), basic (a
    pair), bearer, content_type, timeout, retries, retry_delay, redirects.
    """
    plan = _plan(method, url, body, orjson.loads(_utf8(options)))
    plan = replace(plan, request=with_idempotency_key(call, plan.request, event_id))
    rules = rules_of(call)
    started = perf_counter()
    response = _RETRYING(_attempt, call, rules, plan)
    if not isinstance(response, Response):
        raise _failure(call, plan, response)
    elapsed = round((perf_counter() - started) * 1000)
    url = str(response.url).encode()
    return response.status, response.reason, _lines(response), response.body, elapsed, url


def pretend(call: Call, method: bytes, url: bytes, body: bytes, options: bytes, _: bytes) -> Answer:
    """Show the request; nothing is sent, and no name looked up."""
    request = _plan(method, url, body, orjson.loads(_utf8(options))).request
    # Masked before it is cut: half a secret is not recognized as one.
    shown = mask(request.body, call.secrets)[:_SHOWN_BYTES].decode(errors="replace")
    rest = f", {len(request.body)} bytes: {shown}" if request.body else ""
    call.show(f"http: {request.method} {request.url}{rest}")
    return 200, b"OK", b"", b"{}", 0, str(request.url).encode()


def rules_of(call: Call) -> Egress:
    """Where the calling hook may connect to."""
    try:
        return egress(call.grants.http_allow, call.grants.http_deny)
    except ValueError as fault:
        raise Misused(f"HOOK_HTTP_ALLOW, HOOK_HTTP_DENY or HOOK_POLICY cannot be used: {fault}") from None


def _attempt(call: Call, rules: Egress, plan: Plan) -> Response | Exception:
    """The response, or what came instead of one, without the frames that tenacity's state of this call is in.

    With these it would be a cycle, and bodies would stay until the garbage collector looks, which counts objects.
    """
    patience = Patience(min(perf_counter() + plan.timeout, call.ends_at), call.cancelled, call.hold)

    def once(request: Request) -> Response:
        call.give_back()  # what the answer before this one took
        return exchange(rules, request, patience)

    try:
        return follow(once, plan.request, plan.redirects)
    except _FAULTS as fault:
        fault.__context__ = None
        return fault.with_traceback(None)


def _failure(call: Call, plan: Plan, fault: Exception) -> Exception:
    """What the hook is told."""
    host = plan.request.url.host
    match fault:
        case Forbidden():
            return call.refusal("http", str(fault))
        case TimedOut():
            return Failed(f"{host} did not answer within {plan.timeout:g} seconds")
        case Lost():
            return Failed(f"the connection to {host} was lost: {fault}")
        case Unreachable():
            return Failed(str(fault))
        case _:
            return Failed(f"{host}: {fault}")


def _is_worth_retrying(outcome: Response | Exception) -> bool:
    return outcome.status in _WORTH_RETRYING if isinstance(outcome, Response) else isinstance(outcome, Unreachable)


def _is_last(state: RetryCallState) -> bool:
    """Whether the plan has no further attempt, or the run would be over before it."""
    call, _, plan = state.args
    return bool(state.attempt_number > plan.retries or state.upcoming_sleep >= call.left)


def _delay(state: RetryCallState) -> float:
    """Seconds until the next attempt: as long as the server asks for, else twice as long each time."""
    _, _, plan = state.args
    outcome = _outcome(state)
    asked = retry_after(outcome.header("retry-after")) if isinstance(outcome, Response) else None
    if asked is not None:
        return asked
    return wait_exponential_jitter(multiplier=plan.retry_delay, max=_MAX_RETRY_DELAY, jitter=plan.retry_delay / 4)(
        state
    )


def _pause(state: RetryCallState) -> None:
    """Until then, or until the run is given up, of which the next attempt knows."""
    state.args[0].cancelled.wait(state.upcoming_sleep)


def _outcome(state: RetryCallState) -> Response | Exception:
    assert state.outcome is not None  # noqa: S101 - _attempt has returned
    outcome: Response | Exception = state.outcome.result()
    return outcome


# One for all calls: each is a cycle, and holds what it was given until its next use.
_RETRYING = Retrying(
    retry=retry_if_result(_is_worth_retrying),
    stop=_is_last,
    wait=_delay,
    before_sleep=_pause,
    sleep=lambda _: None,
    retry_error_callback=_outcome,
)


def retry_after(text: str | None) -> float | None:
    """The seconds that a Retry-After header asks to wait, or None when it says nothing that can be read."""
    if text is None:
        return None
    if re.fullmatch(r"\s*[0-9]{1,9}\s*", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, OverflowError):
        return None


def _lines(response: Response) -> bytes:
    """One header a line, `name: value`; those of one name joined."""
    joined: dict[str, bytes] = {}
    for name, value in response.headers:
        joined[name] = joined[name] + b", " + value if name in joined else value
    return b"".join(name.encode("latin-1") + b": " + value + b"\n" for name, value in joined.items())


def with_idempotency_key(call: Call, request: Request, event_id: bytes) -> Request:
    """The request with a key that each attempt at the event sends again, if it changes something on the server.

    The nth request of the run to this URL has the same key in every attempt,
    whatever else an attempt asks or leaves out. A key of the hook's own stays.
    """
    if request.method in _SAFE or any(name.lower() == "idempotency-key" for name, _ in request.headers):
        return request
    key = idempotency_key(call, event_id, f"{request.method} {request.url}")
    return replace(request, headers=(*request.headers, ("Idempotency-Key", key.encode())))


def idempotency_key(call: Call, event_id: bytes, what: str) -> str:
    """A UUID for the nth time that this run does `what`: the same in every attempt at the event."""
    done: Counter[bytes] = call.scratch.setdefault("http.done", Counter())
    each = sha256(what.encode()).digest()
    done[each] += 1
    parts = (event_id, sha256(call.hook.encode()).digest(), each, str(done[each]).encode())
    return str(UUID(bytes=sha256(b"\0".join(parts)).digest()[:16], version=5))


def _utf8(text: bytes) -> bytes:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise Misused("http: headers and options are taken in UTF-8") from None
    return text


def _plan(method: bytes, url: bytes, body: bytes, options: Mapping[str, Any]) -> Plan:
    name = options["name"]
    verb = method.decode("latin-1").upper()
    if not _METHOD.fullmatch(verb) or verb in {"CONNECT", "TRACE"}:
        given = shortened(method, 40)
        raise Misused(f"{name}: the method is {given!r}: it takes GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS")
    if len(body) > _MAX_SENT:
        raise Misused(f"{name}: the body has {len(body)} bytes: at most {_MAX_SENT}")
    target, credentials = parse_url(name, url)
    request = Request(verb, target, _headers(name, options, credentials), body)
    return Plan(request, options["timeout"], options["retries"], options["retry_delay"], options["redirects"])


def parse_url(name: str, text: bytes) -> tuple[httpx.URL, bytes]:
    """A URL, without the user and password that stood in it, and these. Raises Misused naming the function."""
    import httpx

    if len(text) > _MAX_URL:
        raise Misused(f"{name}: the URL has {len(text)} bytes: at most {_MAX_URL}")
    try:
        url = httpx.URL(text.decode())
    except (httpx.InvalidURL, UnicodeDecodeError) as fault:
        raise Misused(f"{name}: the URL cannot be read: {fault}") from None
    if not is_web_address(url):
        raise Misused(f"{name} takes a URL that begins with http:// or https:// and a host")
    return url.copy_with(userinfo=b"", fragment=None), url.userinfo


def _headers(name: str, options: Mapping[str, Any], credentials: bytes) -> tuple[tuple[str, bytes], ...]:
    given = [(each, value.encode().strip(_BLANKS)) for each, value in options["headers"]]
    if sum(len(each) + len(value) for each, value in given) > _MAX_HEADERS:
        raise Misused(f"{name}: the headers have more than {_MAX_HEADERS} bytes")
    for each, value in given:
        _check_header(name, each, value)
    known = {each.lower() for each, _ in given}
    defaults = {
        "Accept": b"*/*",
        "Accept-Encoding": b"gzip, deflate",
        "User-Agent": b"hook-event-processor",
        "Content-Type": options["content_type"].encode(),
        "Authorization": _authorization(name, options, credentials),
    }
    return (*given, *((each, value) for each, value in defaults.items() if value and each.lower() not in known))


def _check_header(name: str, header: str, value: bytes) -> None:
    if not _TOKEN.fullmatch(header):
        raise Misused(f"{name}: {shortened(header, 60)!r} is no name of a header")
    if _CONTROL.search(value):
        raise Misused(f"{name}: the header {header} holds a line break or another control character")
    if header.lower() in _RESERVED or header.lower().startswith("proxy-"):
        raise Misused(f"{name}: the header {header} is set by the library, from the URL and the body")


def _authorization(name: str, options: Mapping[str, Any], credentials: bytes) -> bytes:
    if options["bearer"]:
        token: bytes = options["bearer"].encode().strip(_BLANKS)
        if _CONTROL.search(token):
            raise Misused(f"{name}: bearer holds a line break or another control character")
        return b"Bearer " + token if token else b""
    if options["basic"]:
        user, password = options["basic"]
        return b"Basic " + base64.b64encode(f"{user}:{password}".encode())
    return b"Basic " + base64.b64encode(unquote_to_bytes(credentials)) if credentials else b""
