"""Turns what stands in {{ }} and {% %} into closures: scope -> value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import nodes

from hook_event_processor.lua.masking import shortened
from hook_event_processor.lua.templates.budget import Fault
from hook_event_processor.lua.templates.fields import field, part
from hook_event_processor.lua.templates.filters import FILTERS
from hook_event_processor.lua.templates.operators import ARITHMETIC, COMPARISONS, arithmetic, joined
from hook_event_processor.lua.templates.predicates import PREDICATES
from hook_event_processor.lua.templates.scope import Scope
from hook_event_processor.lua.templates.values import (
    Callee,
    Loop,
    Run,
    Undefined,
    check_key,
    is_number,
    kind_of,
    number,
    truth,
)

Expression = Callable[[Scope], Any]


def expression(node: nodes.Node) -> Expression:
    """The closure for a node. Raises Fault for what templates of hooks do not have."""
    kind = type(node).__name__
    if kind in ARITHMETIC:
        return _binary(node, kind)
    compiler = _COMPILERS.get(kind)
    if compiler is None:
        raise Fault(f"line {node.lineno}: {kind} is not available in a hook's template")
    return compiler(node)


def expressions(found: Sequence[nodes.Node]) -> list[Expression]:
    return [expression(node) for node in found]


def _constant(node: Any) -> Expression:
    value = number(node.value)
    if not isinstance(value, (str, int, float, type(None))):
        raise Fault(f"line {node.lineno}: a constant of another kind")
    return lambda _: value


def _text(node: Any) -> Expression:
    text = node.data
    return lambda _: text


def _name(node: Any) -> Expression:
    name = node.name

    def look_up(scope: Scope) -> Any:
        scope.run.budget.spend()
        return scope.look_up(name)

    return look_up


def _list(node: Any) -> Expression:
    items = expressions(node.items)
    return lambda scope: scope.run.budget.made([item(scope) for item in items])


def _mapping(node: Any) -> Expression:
    pairs = [(expression(pair.key), expression(pair.value)) for pair in node.items]
    return lambda scope: scope.run.budget.made({check_key(key(scope)): value(scope) for key, value in pairs})


def _choice(node: Any) -> Expression:
    test, then = expression(node.test), expression(node.expr1)
    otherwise = expression(node.expr2) if node.expr2 is not None else lambda _: Undefined("the else of an if")
    return lambda scope: then(scope) if truth(scope.run, test(scope)) else otherwise(scope)


def _and(node: Any) -> Expression:
    left, right = expression(node.left), expression(node.right)

    def both(scope: Scope) -> Any:
        value = left(scope)
        return right(scope) if truth(scope.run, value) else value

    return both


def _or(node: Any) -> Expression:
    left, right = expression(node.left), expression(node.right)

    def either(scope: Scope) -> Any:
        value = left(scope)
        return value if truth(scope.run, value) else right(scope)

    return either


def _not(node: Any) -> Expression:
    value = expression(node.node)
    return lambda scope: not truth(scope.run, value(scope))


def _signed(sign: int) -> Callable[[Any], Expression]:
    def compiler(node: Any) -> Expression:
        operand = expression(node.node)

        def apply(scope: Scope) -> Any:
            value = operand(scope)
            if not is_number(value):
                raise Fault(f"the negative of {kind_of(value)}")
            return number(sign * value)

        return apply

    return compiler


def _binary(node: Any, kind: str) -> Expression:
    left, right = expression(node.left), expression(node.right)
    apply = ARITHMETIC[kind]

    def calculate(scope: Scope) -> Any:
        scope.run.budget.spend()
        return arithmetic(scope.run, apply, left(scope), right(scope))

    return calculate


def _concatenation(node: Any) -> Expression:
    parts = expressions(node.nodes)
    return lambda scope: joined(scope.run, [part(scope) for part in parts])


def _comparison(node: Any) -> Expression:
    first = expression(node.expr)
    operands = [(COMPARISONS[operand.op], expression(operand.expr)) for operand in node.ops]

    def compare(scope: Scope) -> bool:
        left = first(scope)
        for apply, operand in operands:
            scope.run.budget.spend()
            right = operand(scope)
            if not apply(scope.run, left, right):
                return False
            left = right
        return True

    return compare


def _field(node: Any) -> Expression:
    value, name = expression(node.node), node.attr
    return lambda scope: field(scope.run, value(scope), name)


def _item(node: Any) -> Expression:
    value = expression(node.node)
    if isinstance(node.arg, nodes.Slice):
        bounds = [expression(bound) if bound is not None else _nothing for bound in _bounds(node.arg)]
        return lambda scope: part(scope.run, value(scope), *(bound(scope) for bound in bounds))
    name = expression(node.arg)
    return lambda scope: field(scope.run, value(scope), name(scope))


def _bounds(node: nodes.Slice) -> tuple[nodes.Expr | None, ...]:
    return node.start, node.stop, node.step


def _nothing(_: Scope) -> None:
    return None


Arguments = Callable[[Scope], tuple[list[Any], dict[str, Any]]]


def arguments_of(node: Any) -> Arguments:
    """What evaluates the arguments of a call, filter or test."""
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        raise Fault(f"line {node.lineno}: * and ** are not available in a hook's template")
    positional = expressions(node.args)
    keywords = [(pair.key, expression(pair.value)) for pair in node.kwargs]

    def evaluate(scope: Scope) -> tuple[list[Any], dict[str, Any]]:
        return [item(scope) for item in positional], {name: item(scope) for name, item in keywords}

    return evaluate


def _call(node: Any) -> Expression:
    callee, arguments = expression(node.node), arguments_of(node)

    def call(scope: Scope) -> Any:
        scope.run.budget.spend()
        function = callable_of(callee(scope))
        return applied(scope.run, function.name, function.call, *arguments(scope))

    return call


def callable_of(value: Any) -> Callee:
    """What is called when the value is. Raises Fault when it cannot be."""
    if isinstance(value, Callee):
        return value
    if isinstance(value, Undefined):
        raise Fault(f"{value.name} is undefined")
    again = value.again if isinstance(value, Loop) else None
    if again is None:
        raise Fault(f"{kind_of(value)} cannot be called")
    return Callee("loop", lambda _, given, named: again(*given, **named))


def applied(
    run: Run, name: str, call: Callable[[Run, list[Any], dict[str, Any]], Any], given: list[Any], named: dict[str, Any]
) -> Any:
    """What the function makes of the arguments. Raises Fault when it does not take them."""
    try:
        return call(run, given, named)
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError):
        raise Fault(f"{name} does not take these arguments") from None


def filtered(node: Any) -> Callable[[Scope, Any], Any]:
    """What applies the filter of a node to a value."""
    name, arguments = node.name, arguments_of(node)
    change = FILTERS.get(name)
    if change is None:
        raise Fault(f"line {node.lineno}: there is no filter {shortened(name, 40)!r}")

    def call(run: Run, given: list[Any], named: dict[str, Any]) -> Any:
        return change(run, *given, **named)

    def apply(scope: Scope, value: Any) -> Any:
        scope.run.budget.spend()
        if scope.run.strict and isinstance(value, Undefined) and name not in ("default", "d"):
            raise scope.run.undefined(value)
        given, named = arguments(scope)
        return applied(scope.run, f"the filter {name}", call, [value, *given], named)

    return apply


def _filter(node: Any) -> Expression:
    value, apply = expression(node.node), filtered(node)
    return lambda scope: apply(scope, value(scope))


def _test(node: Any) -> Expression:
    value, name, arguments = expression(node.node), node.name, arguments_of(node)
    check = PREDICATES.get(name)
    if check is None:
        raise Fault(f"line {node.lineno}: there is no test {shortened(name, 40)!r}")

    def call(run: Run, given: list[Any], named: dict[str, Any]) -> bool:
        return bool(check(run, *given, **named))

    def ask(scope: Scope) -> Any:
        scope.run.budget.spend()
        given, named = arguments(scope)
        return applied(scope.run, f"the test {name}", call, [value(scope), *given], named)

    return ask


_COMPILERS: dict[str, Callable[[Any], Expression]] = {
    "Const": _constant,
    "TemplateData": _text,
    "Name": _name,
    "List": _list,
    "Tuple": _list,
    "Dict": _mapping,
    "CondExpr": _choice,
    "And": _and,
    "Or": _or,
    "Not": _not,
    "Neg": _signed(-1),
    "Pos": _signed(1),
    "Concat": _concatenation,
    "Compare": _comparison,
    "Getattr": _field,
    "Getitem": _item,
    "Call": _call,
    "Filter": _filter,
    "Test": _test,
}
