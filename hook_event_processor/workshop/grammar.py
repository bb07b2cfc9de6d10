"""The grammar of Lua, followed for its names: one pass, without a tree.

For texts that Lua itself has compiled: what the grammar refuses never comes here.
"""

from __future__ import annotations

from hook_event_processor.workshop.scopes import Call, Called, Member, Names, Owner, Scopes
from hook_event_processor.workshop.tokens import Kind, Token, tokens

_UNARY = ("not", "#", "-", "~")
_ARITHMETIC = ("+", "-", "*", "/", "//", "^", "%", "&", "~", "|", ">>", "<<", "..")
_BINARY = (*_ARITHMETIC, "<", "<=", ">", ">=", "==", "~=", "and", "or")
_BLOCK_ENDS = ("else", "elseif", "end", "until")


def scopes_of(text: str) -> Scopes:
    """The names of a text that compiles. Raises RecursionError for one that is nested too deeply to be followed."""
    return _Reading(text).chunk()


class _Reading:
    """Follows the grammar of the Lua 5.4 manual, section 9; each method reads one rule of it."""

    def __init__(self, text: str) -> None:
        self._names = Names()
        self._tokens = tokens(text)
        self._at = 0

    def chunk(self) -> Scopes:
        while self._token.kind is not Kind.END:
            self._statement()
        self._names.found.strings = [token for token in self._tokens if token.kind is Kind.STRING]
        return self._names.found

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _ahead(self, count: int) -> Token:
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def _take(self) -> Token:
        taken = self._token
        if taken.kind is not Kind.END:
            self._at += 1
        return taken

    def _took(self, *texts: str) -> bool:
        """Take the token if it is one of these."""
        if self._token.is_(*texts):
            self._at += 1
            return True
        return False

    def _block(self) -> None:
        """Statements up to the word that ends them, which is left."""
        while not self._token.is_(*_BLOCK_ENDS) and self._token.kind is not Kind.END:
            self._statement()

    def _scoped_block(self, *parameters: Token) -> None:
        self._names.open()
        for name in parameters:
            self._names.declare(name, is_declared=False)
        self._block()
        self._names.close()

    def _statement(self) -> None:
        word = self._token.text if self._token.kind in (Kind.KEYWORD, Kind.SIGN) else ""
        statement = {
            ";": self._take,
            "break": self._take,
            "::": self._label,
            "goto": self._goto,
            "do": self._do,
            "while": self._while,
            "repeat": self._repeat,
            "if": self._if,
            "for": self._for,
            "function": self._function,
            "local": self._local,
            "return": self._return,
        }.get(word, self._assignment_or_call)
        statement()

    def _label(self) -> None:
        self._at += 3  # ::name::

    def _goto(self) -> None:
        self._at += 2  # goto name

    def _do(self) -> None:
        self._take()
        self._scoped_block()
        self._took("end")

    def _while(self) -> None:
        self._take()
        self._expression()
        self._do()

    def _repeat(self) -> None:
        self._take()
        self._names.open()
        self._block()
        self._took("until")
        self._expression()  # it sees the block's locals
        self._names.close()

    def _if(self) -> None:
        while self._took("if", "elseif"):
            self._expression()
            self._took("then")
            self._scoped_block()
        if self._took("else"):
            self._scoped_block()
        self._took("end")

    def _for(self) -> None:
        self._take()
        names = self._name_list()
        self._took("=", "in")
        self._expressions()
        self._took("do")
        self._scoped_block(*names)
        self._took("end")

    def _name_list(self) -> list[Token]:
        names = [self._take()]
        while self._took(","):
            names.append(self._take())
        return names

    def _function(self) -> None:
        self._take()
        name = self._take()
        if not self._token.is_(".", ":"):
            self._names.write(name)
            return self._body()
        self._names.read(name)
        is_method = False
        while self._token.is_(".", ":"):
            is_method = self._take().text == ":"
            self._take()
        return self._body(has_self=is_method)

    def _body(self, *, has_self: bool = False) -> None:
        """Parameters, statements and `end`."""
        opening = self._take()
        parameters = [Token(Kind.NAME, "self", opening.line, opening.column)] if has_self else []
        while not self._took(")"):
            name = self._take()
            if name.kind is Kind.NAME:
                parameters.append(name)
            elif name.kind is Kind.END:
                return
        self._scoped_block(*parameters)
        self._took("end")

    def _local(self) -> None:
        self._take()
        if self._took("function"):
            variable = self._names.declare(self._take(), is_declared=True)
            variable.together = [variable]
            return self._body()
        names, closed = self._attributed_names()
        modules: list[str | None] = []
        if self._took("="):
            modules = self._expressions()
        together = [self._names.declare(name, is_declared=True) for name in names]
        for place, variable in enumerate(together):
            variable.together = together
            variable.module = modules[place] if place < len(modules) else None
            variable.reads += variable.name in closed
        return None

    def _attributed_names(self) -> tuple[list[Token], set[str]]:
        """Names of a `local`, and those of them that are <close>: they are used by being left."""
        names, closed = [], set()
        while True:
            names.append(self._take())
            if self._took("<"):
                if self._take().text == "close":
                    closed.add(names[-1].text)
                self._took(">")
            if not self._took(","):
                return names, closed

    def _return(self) -> None:
        self._take()
        if not self._token.is_(";", *_BLOCK_ENDS) and self._token.kind is not Kind.END:
            self._expressions()
        self._took(";")

    def _assignment_or_call(self) -> None:
        targets = [self._suffixed()]
        while self._took(","):
            targets.append(self._suffixed())
        if self._took("="):
            self._expressions()
            for name in targets:
                if name is not None:
                    self._names.write(name)
        elif targets[0] is not None:  # no statement of Lua; never to read without an end
            self._take()

    def _expressions(self) -> list[str | None]:
        """Expressions between commas; for each that is `require "x"` and nothing else, the module's name."""
        modules = [self._required_or_none()]
        while self._took(","):
            modules.append(self._required_or_none())
        return modules

    def _required_or_none(self) -> str | None:
        start = self._at
        self._expression()
        taken = self._tokens[start : self._at]
        if taken[0].text == "require" and self._names.lookup("require") is None:
            arguments = [token for token in taken[1:] if not token.is_("(", ")")]
            if len(arguments) == 1 and arguments[0].kind is Kind.STRING:
                return arguments[0].value
        return None

    def _expression(self) -> None:
        while True:
            while self._took(*_UNARY):
                pass
            self._operand()
            if not self._took(*_BINARY):
                return

    def _operand(self) -> None:
        if self._token.kind in (Kind.NUMBER, Kind.STRING) or self._token.is_("nil", "true", "false", "..."):
            self._take()
        elif self._token.is_("{"):
            self._table()
        elif self._took("function"):
            self._body()
        else:
            name = self._suffixed()
            if name is not None:
                self._names.read(name)

    def _table(self) -> None:
        self._take()
        while not self._took("}"):
            if self._token.kind is Kind.END:
                return
            if self._took("["):
                self._expression()
                self._took("]")
                self._took("=")
            elif self._token.kind is Kind.NAME and self._ahead(1).is_("="):
                self._take()
                self._take()
            self._expression()
            self._took(",", ";")

    def _suffixed(self) -> Token | None:
        """A name or a parenthesis with all that follows it; the name where nothing does (it is not read then)."""
        first = self._take()
        owner: Owner = None
        called: Called | None = None
        if first.is_("("):
            self._expression()
            self._took(")")
        elif not self._is_suffix():
            return first if first.kind is Kind.NAME else None
        else:
            owner = self._names.read(first)
            called = (None, first) if isinstance(owner, str) else None
        while self._is_suffix():
            called, owner = self._suffix(called, owner), None
        return None

    def _is_suffix(self) -> bool:
        return self._token.kind is Kind.STRING or self._token.is_(".", "[", ":", "(", "{")

    def _suffix(self, called: Called | None, owner: Owner) -> Called | None:
        """One of `.name`, `[key]`, `:name` and a call's arguments; what a call right behind it would call."""
        if self._took("."):
            name = self._take()
            if owner is None:
                return None
            self._names.found.members.append(Member(owner, name))
            return owner, name
        if self._took("["):
            self._expression()
            self._took("]")
        elif self._took(":"):
            self._take()
        else:
            argument = self._arguments()
            if called is not None:
                self._names.found.calls.append(Call(*called, argument))
        return None

    def _arguments(self) -> Token | None:
        """The arguments of a call; the first where it is a string literal and nothing else."""
        if self._token.kind is Kind.STRING:
            return self._take()
        if self._token.is_("{"):
            self._table()
            return None
        self._take()
        first = self._ahead(0)
        literal = first if first.kind is Kind.STRING and self._ahead(1).is_(",", ")") else None
        while not self._took(")"):
            if self._token.kind is Kind.END:
                break
            self._expression()
            self._took(",")
        return literal
