"""The Python side of notify: messages by SMTP. What goes over HTTP is http's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, getaddresses
from time import perf_counter
from typing import Any

import orjson

from hook_event_processor.egress import Forbidden
from hook_event_processor.lua.door import Call, Failed, Function, Misused, Services
from hook_event_processor.lua.masking import mask, shortened
from hook_event_processor.lua.modules.http import idempotency_key, rules_of
from hook_event_processor.lua.web.authorities import tls_context
from hook_event_processor.lua.web.dial import Lost, Patience, TimedOut, Unreachable
from hook_event_processor.lua.web.mail import IMPLICIT_TLS_PORT, Rejected, Relay, deliver

_MAX_RECIPIENTS = 100
_MAX_HEADER = 2000  # characters
_MAX_ADDRESSES = 64 * 1024  # characters of a field
# Characters that are no ASCII take time by the square to be written into a header, which nothing interrupts.
_MAX_FOREIGN = 500
_MAX_NAME = 128  # characters, of one name
_MAX_TEXT = 1024 * 1024  # bytes
_SHOWN = 200  # bytes of a message's text, in a dry run
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_HOST = re.compile(r"[A-Za-z0-9._:-]+")
_LOCAL_PART = re.compile(r"[^\s<>,;:\"\\()\[\]@]{1,64}")
_DOMAIN = re.compile(r"[^\s<>,;:\"\\()\[\]@]{1,255}")


def functions(_: Services) -> Mapping[str, Function]:
    return {"notify.email": Function(email, waits=True, pretend=pretend)}


def email(call: Call, fields: bytes, body: bytes, event_id: bytes) -> bool:
    """Send a message; `fields` is a JSON object with notify.email's fields but the body."""
    mail = _checked(fields)
    _check_size("body", body)
    relay = _relay(mail)
    message, sender, recipients = compose(call, mail, _text("body", body), event_id)
    patience = Patience(min(perf_counter() + mail["timeout"], call.ends_at), call.cancelled)
    try:
        deliver(rules_of(call), relay, tls_context("smtp"), sender, recipients, message, patience)
    except Forbidden as refused:
        raise call.refusal("http", str(refused)) from None
    except TimedOut:
        raise Failed(f"{relay.host} did not take the message within {mail['timeout']:g} seconds") from None
    except Lost as fault:
        raise Failed(f"the connection to {relay.host} was lost: {fault}") from None
    except Unreachable as fault:
        raise Failed(str(fault)) from None
    except Rejected as refused:
        raise Failed(f"{relay.host} did not take the message: {refused}") from None
    return True


def pretend(call: Call, fields: bytes, body: bytes, event_id: bytes) -> bool:
    """Show the message; nothing is sent, and no name looked up."""
    mail = _checked(fields)
    _check_size("body", body)
    relay, text = _relay(mail), _text("body", body)
    _, sender, recipients = compose(call, mail, text, event_id)
    # Masked before it is cut: half a secret is not recognized as one.
    shown = mask(body, call.secrets)[:_SHOWN].decode(errors="replace")
    call.show(
        f"notify: email from {sender} to {', '.join(recipients)} by {relay.host}:{relay.port},"
        f" subject {mail['subject']!r}, {len(body)} bytes: {shown}"
    )
    return True


def compose(call: Call, mail: Mapping[str, Any], text: str, event_id: bytes) -> tuple[EmailMessage, str, list[str]]:
    """The message, and the addresses of its sender and its recipients. Each attempt at an event has one Message-ID."""
    sender = _addresses("from", [mail["sender"]])
    to, cc, bcc = (_addresses(field, mail[field]) for field in ("to", "cc", "bcc"))
    recipients = list(dict.fromkeys(each.addr_spec for each in (*to, *cc, *bcc)))
    if not 1 <= len(recipients) <= _MAX_RECIPIENTS or len(sender) != 1:
        raise Misused(f"notify.email takes one address in from, and 1 to {_MAX_RECIPIENTS} in to, cc and bcc together")
    message = EmailMessage()
    message["From"], message["Subject"], message["Date"] = sender, mail["subject"], formatdate()
    message["Message-ID"] = f"<{idempotency_key(call, event_id, 'email')}@{sender[0].domain or 'localhost'}>"
    for name, listed in (("To", to), ("Cc", cc), ("Reply-To", _addresses("reply_to", [mail["reply_to"] or ""]))):
        if listed:
            message[name] = listed
    message.set_content(text)
    if mail["html"] is not None:
        message.add_alternative(mail["html"], subtype="html")
    return message, sender[0].addr_spec, recipients


def _checked(fields: bytes) -> dict[str, Any]:
    mail: dict[str, Any] = orjson.loads(_text("a field", fields))
    for name in ("smtp_host", "username", "password", "sender", "reply_to", "subject"):
        value = mail[name] or ""
        shown = "from" if name == "sender" else name
        if _CONTROL.search(value):
            raise Misused(f"notify.email: {shown} holds a line break or another control character")
        if len(value) > _MAX_HEADER:
            raise Misused(f"notify.email: {shown} has {len(value)} characters: at most {_MAX_HEADER}")
    for name in ("username", "password"):
        # The protocol's ways to log in differ in what other characters would be sent as (RFC 4616, 2195).
        if not (mail[name] or "").isascii():
            raise Misused(f"notify.email: {name} holds a character that is not ASCII")
    _check_size("html", (mail["html"] or "").encode())
    return mail


def _relay(mail: Mapping[str, Any]) -> Relay:
    relay = Relay(mail["smtp_host"], mail["smtp_port"], mail["tls"], mail["username"], mail["password"])
    if not _HOST.fullmatch(relay.host):
        raise Misused(f"notify.email: smtp_host is {relay.host!r}: it takes a host's name or address")
    if relay.tls is False and relay.username is not None and relay.port != IMPLICIT_TLS_PORT:
        raise Misused("notify.email: tls = false stands beside username: a password is sent over TLS only")
    return relay


def _addresses(field: str, texts: list[str]) -> list[Address]:
    """The addresses of a field, each written address or Name <address>; commas separate several of them."""
    if any(_CONTROL.search(text) for text in texts):
        raise Misused(f"notify.email: {field} holds a line break or another control character")
    size = sum(map(len, texts))
    if size > _MAX_ADDRESSES or len(texts) > _MAX_RECIPIENTS:
        raise Misused(
            f"notify.email: {field} has {len(texts)} texts of {size} characters:"
            f" at most {_MAX_RECIPIENTS} of {_MAX_ADDRESSES}"
        )
    if sum(not character.isascii() for text in texts for character in text) > _MAX_FOREIGN:
        raise Misused(f"notify.email: {field} has more than {_MAX_FOREIGN} characters that are not ASCII")
    found = []
    for name, address in getaddresses([text for text in texts if text.strip()]):
        local, at, domain = address.rpartition("@")
        if not at or not _LOCAL_PART.fullmatch(local) or not _DOMAIN.fullmatch(domain):
            shown = shortened(address, 80)
            raise Misused(f"notify.email: {field} takes addresses like name@example.com, not {shown!r}")
        if len(name) > _MAX_NAME:
            raise Misused(f"notify.email: {field} has a name of {len(name)} characters: at most {_MAX_NAME}")
        found.append(Address(name, local, domain))
    return found


def _check_size(field: str, text: bytes) -> None:
    if len(text) > _MAX_TEXT:
        raise Misused(f"notify.email: {field} has {len(text)} bytes: at most {_MAX_TEXT}")


def _text(what: str, text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise Misused(f"notify.email: {what} is not UTF-8") from None
