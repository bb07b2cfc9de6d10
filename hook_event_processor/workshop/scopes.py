"""Which names a Lua text declares and uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from hook_event_processor.workshop.tokens import Token


@dataclass(eq=False, slots=True)
class Variable:
    """A local variable: where it is declared, what was required into it, and whether anything reads it.

    `together` are the variables of the same declaration, itself included.
    """

    token: Token
    is_declared: bool  # by `local`, not as a parameter or by a loop
    module: str | None = None
    reads: int = 0
    writes: int = 0
    together: list[Variable] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.token.text


@dataclass(frozen=True, slots=True)
class Member:
    """`owner.name`: the owner is a local variable, or the name of a global."""

    owner: Variable | str
    name: Token


@dataclass(frozen=True, slots=True)
class Call:
    """A call by name: `require "x"` has the owner None and the name require; `event.dispatch("x")` has an owner.

    `argument` is the first argument where it is a single string literal.
    """

    owner: Variable | str | None
    name: Token
    argument: Token | None


Owner: TypeAlias = "Variable | str | None"
Called: TypeAlias = "tuple[Owner, Token]"  # owner and name of what may be called


@dataclass(slots=True)
class Scopes:
    """All names of a text. `written` are the globals that it assigns."""

    variables: list[Variable] = field(default_factory=list)
    read: list[Token] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    members: list[Member] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    strings: list[Token] = field(default_factory=list)


class Names:
    """Gathers the names of a text, block by block, as they are met."""

    def __init__(self) -> None:
        self.found = Scopes()
        self._blocks: list[dict[str, Variable]] = [{}]

    def open(self) -> None:
        self._blocks.append({})

    def close(self) -> None:
        self._blocks.pop()

    def declare(self, name: Token, *, is_declared: bool) -> Variable:
        variable = Variable(name, is_declared)
        self._blocks[-1][name.text] = variable
        self.found.variables.append(variable)
        return variable

    def lookup(self, name: str) -> Variable | None:
        """The local variable that a name stands for here; None for a global."""
        return next((block[name] for block in reversed(self._blocks) if name in block), None)

    def read(self, name: Token) -> Variable | str:
        """Note that it is read; the variable, or the name of a global."""
        variable = self.lookup(name.text)
        if variable is None:
            self.found.read.append(name)
            return name.text
        variable.reads += 1
        return variable

    def write(self, name: Token) -> None:
        variable = self.lookup(name.text)
        if variable is None:
            self.found.written.add(name.text)
        else:
            variable.writes += 1
