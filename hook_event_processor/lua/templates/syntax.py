"""Reads a template's text with Jinja2; `{{.name}}`, as Go writes it, is `{{ name }}`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

from hook_event_processor.lua.templates.budget import Fault

# Names behind which a dot cannot ask for an attribute.
_KEYWORDS = frozenset({"if", "elif", "else", "in", "and", "or", "not", "is", "set", "with", "call", "filter"})
_MAX_TOKENS = 4000  # about 50 ms to read
_OPERANDS = frozenset({"name", "string", "integer", "float", "rparen", "rbracket", "rbrace"})


class _LeadingDots(Extension):
    """Drops a dot that stands where a value begins; bounds how much there is to read."""

    def filter_stream(self, stream: TokenStream) -> Iterable[Token]:
        return self._without_dots(stream)

    def _without_dots(self, stream: TokenStream) -> Iterator[Token]:
        before: Token | None = None
        for count, token in enumerate(stream):
            if count > _MAX_TOKENS:
                raise Fault(f"line {token.lineno}: more than {_MAX_TOKENS} words and signs in one template")
            if token.type == "dot" and not _is_operand(before):
                before = token
                continue
            before = token
            yield token


def _is_operand(token: Token | None) -> bool:
    return token is not None and token.type in _OPERANDS and not (token.type == "name" and token.value in _KEYWORDS)


@cache
def _environment() -> Environment:
    # Only reads: nothing is ever compiled or rendered by it.
    return Environment(  # noqa: S701 - it is text that is made, not HTML
        extensions=["jinja2.ext.loopcontrols", _LeadingDots], keep_trailing_newline=True, optimized=False
    )


def parse(text: str) -> nodes.Template:
    """The template's tree. Raises Fault with the line."""
    try:
        return _environment().parse(text)
    except TemplateSyntaxError as fault:
        raise Fault(f"line {fault.lineno}: {fault.message}") from None
    except RecursionError:
        raise Fault("the template is nested too deeply") from None
    except ValueError:
        raise Fault("a number in the template has too many digits") from None
