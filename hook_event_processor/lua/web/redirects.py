"""Following redirects: what is asked next, and without what it must not take along."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hook_event_processor.lua.web.exchange import Malformed, Request, Response

if TYPE_CHECKING:
    import httpx

_HOST = re.compile(rb"[A-Za-z0-9._:-]+")  # a name in ASCII or an address; what else httpx lets through is none
_STATUSES = frozenset({301, 302, 303, 307, 308})
# What another host may see of a hook's headers: any other may be a credential.
_HARMLESS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "content-type",
        "content-encoding",
        "idempotency-key",
        "user-agent",
    }
)
_OF_THE_BODY = frozenset({"content-type", "content-encoding", "content-language", "content-location"})


def follow(send: Callable[[Request], Response], request: Request, limit: int) -> Response:
    """Send the request, and what its redirects lead to; with a limit of 0 the first response is the answer.

    Raises Malformed when there are more than `limit`, or one leads nowhere.
    """
    for _ in range(limit + 1):
        response = send(request)
        if not limit or response.status not in _STATUSES or response.header("location") is None:
            return response
        request = redirected(request, response)
    raise Malformed(f"more than {limit} redirects")


def redirected(request: Request, response: Response) -> Request:
    """The request that the response asks for instead."""
    target = _target(request.url, response.header("location") or "")
    method, body, headers = request.method, request.body, request.headers
    # As browsers have always done it (RFC 9110, 15.4): 307 and 308 exist because of that.
    if response.status == 303 or (response.status in {301, 302} and method == "POST"):
        method, body = "HEAD" if method == "HEAD" else "GET", b""
        headers = tuple(each for each in headers if each[0].lower() not in _OF_THE_BODY)
    if _origin(target) != _origin(request.url):
        headers = tuple(each for each in headers if each[0].lower() in _HARMLESS)
    return replace(request, method=method, url=target, headers=headers, body=body)


def _target(base: httpx.URL, location: str) -> httpx.URL:
    import httpx

    try:
        target = base.join(location)
    except (httpx.InvalidURL, ValueError):
        raise Malformed("the redirect leads to what is no URL") from None
    if not is_web_address(target):
        raise Malformed("the redirect leads to what is no URL of http or https")
    if base.scheme == "https" and target.scheme == "http":
        raise Malformed("the redirect leads from https to http")
    return target.copy_with(userinfo=b"", fragment=None)


def is_web_address(url: httpx.URL) -> bool:
    """Whether its scheme is http or https, and host and port can be connected to."""
    return url.scheme in {"http", "https"} and bool(_HOST.fullmatch(url.raw_host)) and 0 < _port(url) < 65536


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, _port(url)


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else 443 if url.scheme == "https" else 80
