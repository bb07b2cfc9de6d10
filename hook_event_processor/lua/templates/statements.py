"""Turns a template's statements into closures that write: (scope, out) -> None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.expressions import (
    Expression,
    applied,
    arguments_of,
    callable_of,
    expression,
    expressions,
    filtered,
)
from hook_event_processor.lua.templates.scope import Scope
from hook_event_processor.lua.templates.values import (
    Callee,
    Loop,
    Namespace,
    Undefined,
    items_of,
    kind_of,
    text_of,
    truth,
)

Statement = Callable[[Scope, list[str]], None]
_Bind = Callable[[Scope, Any], None]


class _Break(Fault):
    """{% break %}: a fault only where no loop is."""


class _Continue(Fault):
    """{% continue %}: likewise."""


def body(found: Sequence[nodes.Node]) -> Statement:
    """The closure for statements in their order."""
    statements = [_statement(node) for node in found]

    def run(scope: Scope, out: list[str]) -> None:
        for statement in statements:
            statement(scope, out)

    return run


def _statement(node: nodes.Node) -> Statement:
    compiler = _COMPILERS.get(type(node).__name__)
    if compiler is None:
        name = type(node).__name__.lower()
        raise Fault(f"line {node.lineno}: {{% {name} %}} is not available in a hook's template")
    return compiler(node)


def rendered(scope: Scope, write: Statement) -> str:
    """What the statements write, as one text."""
    out: list[str] = []
    write(scope, out)
    text = "".join(out)
    scope.run.budget.make(len(text))
    return text


def _output(node: Any) -> Statement:
    parts = [(part.lineno, expression(part)) for part in node.nodes]

    def write(scope: Scope, out: list[str]) -> None:
        budget = scope.run.budget
        for line, value in parts:
            budget.line = line
            text = text_of(scope.run, value(scope))
            budget.make(len(text))
            out.append(text)

    return write


def _at(node: nodes.Node, found: Expression) -> Expression:
    """The expression, telling where it stands."""

    def evaluate(scope: Scope) -> Any:
        scope.run.budget.line = node.lineno
        scope.run.budget.spend()
        return found(scope)

    return evaluate


def _if(node: Any) -> Statement:
    branches = [(_at(branch, expression(branch.test)), body(branch.body)) for branch in (node, *node.elif_)]
    otherwise = body(node.else_)

    def choose(scope: Scope, out: list[str]) -> None:
        for test, then in branches:
            if truth(scope.run, test(scope)):
                return then(scope, out)
        return otherwise(scope, out)

    return choose


def _target(node: Any) -> _Bind:
    """What gives names to a value, or to the items of a list."""
    if isinstance(node, nodes.Name):
        return lambda scope, value: scope.names.__setitem__(node.name, value)
    if isinstance(node, nodes.NSRef):
        return lambda scope, value: _set_field(scope, node.name, node.attr, value)
    if not isinstance(node, nodes.Tuple):
        raise Fault(f"line {node.lineno}: a value is given to names only")
    targets = [_target(item) for item in node.items]

    def unpack(scope: Scope, value: Any) -> None:
        items = items_of(scope.run, value)
        if len(items) != len(targets):
            raise Fault(f"{len(items)} items for {len(targets)} names")
        for target, item in zip(targets, items, strict=True):
            target(scope, item)

    return unpack


def _set_field(scope: Scope, name: str, field: str, value: Any) -> None:
    namespace = scope.look_up(name)
    if not isinstance(namespace, Namespace):
        raise Fault(f"{kind_of(namespace)} where a namespace is taken")
    scope.run.budget.spend()
    namespace.fields[field] = value


class _For:
    """{% for %}, with its condition and its else."""

    def __init__(self, node: Any) -> None:
        self._source = _at(node, expression(node.iter))
        self._target, self._body, self._otherwise = _target(node.target), body(node.body), body(node.else_)
        self._condition = expression(node.test) if node.test is not None else None
        self._recursive = node.recursive

    def __call__(self, scope: Scope, out: list[str]) -> None:
        self._go_through(scope, out, self._source(scope), 1)

    def _go_through(self, scope: Scope, out: list[str], value: Any, depth: int) -> None:
        items = self._chosen(scope, items_of(scope.run, value))
        loop = Loop(items, depth, self._deeper(scope, depth))
        for loop.index0, item in enumerate(items):
            scope.run.budget.spend()
            inner = scope.inner({"loop": loop})
            self._target(inner, item)
            try:
                self._body(inner, out)
            except _Continue:
                continue
            except _Break:
                break
        if not items:
            self._otherwise(scope, out)

    def _chosen(self, scope: Scope, items: list[Any]) -> list[Any]:
        if self._condition is None:
            return items
        passed = []
        for item in items:
            scope.run.budget.spend()
            inner = scope.inner({})
            self._target(inner, item)
            if truth(scope.run, self._condition(inner)):
                passed.append(item)
        return passed

    def _deeper(self, scope: Scope, depth: int) -> Callable[..., Any] | None:
        """What loop(items) does in a recursive loop: the same for other items."""
        if not self._recursive:
            return None

        def again(value: Any) -> str:
            with scope.run.budget.deeper():
                return rendered(scope, lambda outer, out: self._go_through(outer, out, value, depth + 1))

        return again


def _raiser(kind: type[Fault]) -> Callable[[Any], Statement]:
    def compiler(node: Any) -> Statement:
        reason = f"{{% {type(node).__name__.lower()} %}} stands outside of a loop"

        def leave(_: Scope, __: list[str]) -> None:
            raise kind(reason)

        return leave

    return compiler


def _set(node: Any) -> Statement:
    target, value = _target(node.target), _at(node, expression(node.node))
    return lambda scope, _: target(scope, value(scope))


def _set_block(node: Any) -> Statement:
    target, inside = _target(node.target), body(node.body)
    change = filter_chain(node.filter) if node.filter is not None else None

    def keep(scope: Scope, _: list[str]) -> None:
        text = rendered(scope.inner({}), inside)
        target(scope, change(scope, text) if change else text)

    return keep


def filter_chain(node: Any) -> Callable[[Scope, Any], Any]:
    """The filters of {% filter a|b %}, the first innermost."""
    outer = filtered(node)
    if node.node is None:
        return outer
    inner = filter_chain(node.node)
    return lambda scope, value: outer(scope, inner(scope, value))


def _filter_block(node: Any) -> Statement:
    change, inside = filter_chain(node.filter), body(node.body)
    return lambda scope, out: out.append(text_of(scope.run, change(scope, rendered(scope.inner({}), inside))))


def _with(node: Any) -> Statement:
    targets, values, inside = [_target(name) for name in node.targets], expressions(node.values), body(node.body)

    def enclose(scope: Scope, out: list[str]) -> None:
        inner = scope.inner({})
        for target, value in zip(targets, values, strict=True):
            target(inner, value(scope))
        inside(inner, out)

    return enclose


def _macro_maker(node: Any, name: str) -> Callable[[Scope], Callee]:
    """What makes a macro that sees the names of where it stands."""
    names = [argument.name for argument in node.args]
    defaults = expressions(node.defaults)
    inside = body(node.body)
    first_default = len(names) - len(defaults)

    def make(scope: Scope) -> Callee:
        def call(run: Any, given: list[Any], named: dict[str, Any]) -> str:
            inner = scope.inner({"caller": named.pop("caller", Undefined("caller"))})
            if len(given) > len(names) or not set(named) <= set(names[len(given) :]):
                raise Fault(f"{name} takes {', '.join(names) or 'no arguments'}")
            for at, argument in enumerate(names):
                if at < len(given):
                    inner.names[argument] = given[at]
                elif argument in named:
                    inner.names[argument] = named[argument]
                else:
                    inner.names[argument] = (
                        defaults[at - first_default](inner) if at >= first_default else Undefined(argument)
                    )
            with run.budget.deeper():
                return rendered(inner, inside)

        return Callee(name, call)

    return make


def _macro(node: Any) -> Statement:
    make, name = _macro_maker(node, node.name), node.name
    return lambda scope, _: scope.names.__setitem__(name, make(scope))


def _call_block(node: Any) -> Statement:
    make = _macro_maker(node, "caller")
    callee, arguments = expression(node.call.node), arguments_of(node.call)

    def call(scope: Scope, out: list[str]) -> None:
        scope.run.budget.line = node.lineno
        function = callable_of(callee(scope))
        given, named = arguments(scope)
        named["caller"] = make(scope)
        out.append(text_of(scope.run, applied(scope.run, function.name, function.call, given, named)))

    return call


_COMPILERS: dict[str, Callable[[Any], Statement]] = {
    "Output": _output,
    "If": _if,
    "For": _For,
    "Break": _raiser(_Break),
    "Continue": _raiser(_Continue),
    "Assign": _set,
    "AssignBlock": _set_block,
    "FilterBlock": _filter_block,
    "With": _with,
    "Macro": _macro,
    "CallBlock": _call_block,
}
