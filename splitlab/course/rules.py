"""Rules of claims: comparisons of named figures, evaluated part by part and never run as Python."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping


def _quotient(a: float, b: float) -> float:
    return a / b if b else math.nan  # of which every comparison is false


_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _quotient,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
}


def check_rule(rule: str, names: Iterable[str]) -> None:
    """Refuse a rule that is anything but comparisons of figures.

    A rule is one comparison, or several joined by "and". Its sides are made of figures' names,
    numbers and + - * /; they are compared with <, <=, >, >= and ==.

    Args:
        rule: The rule.
        names: The figures that it may name.

    Raises:
        ValueError: If it holds anything else, or a name that is none of the figures.
    """
    known = list(names)
    for node in ast.walk(_parsed(rule)):
        if isinstance(node, ast.Name) and node.id not in known:
            raise ValueError(
                f"the rule `{rule}` names {node.id!r}, which is not one of its figures: "
                f"{', '.join(known)}"
            )
    is_true(rule, dict.fromkeys(known, 1.0))  # goes through all of it


def is_true(rule: str, figures: Mapping[str, float]) -> bool:
    """Return whether a rule is true of the figures of one seed; a division by 0 makes it false.

    Raises:
        ValueError: If the rule is none (see `check_rule`).
    """

    def not_a_rule() -> ValueError:
        return ValueError(
            f"the rule `{rule}` is not a comparison of figures: join names and numbers by + - * /, "
            "compare with < <= > >= ==, and use `and` for several comparisons"
        )

    def truth(node: ast.AST) -> bool:
        match node:
            case ast.BoolOp(op=ast.And(), values=parts):
                return all([truth(part) for part in parts])  # a list: every part is looked at
            case ast.Compare(left=left, ops=ops, comparators=others):
                if any(type(op) not in _COMPARISONS for op in ops):
                    raise not_a_rule()
                sides = [value(side) for side in (left, *others)]
                pairs = zip(ops, sides, sides[1:], strict=False)
                return all(_COMPARISONS[type(op)](a, b) for op, a, b in pairs)
        raise not_a_rule()

    def value(node: ast.AST) -> float:
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return number
            case ast.Name(id=name):
                return figures[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](value(left), value(right))
        raise not_a_rule()

    return truth(_parsed(rule))


def _parsed(rule: str) -> ast.AST:
    try:
        return ast.parse(rule, mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(f"the rule `{rule}` is not an expression: write a comparison") from None
