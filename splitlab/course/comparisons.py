"""The figures of a verdict: what its asserts compare, and with which values.

`as_json` runs in a notebook's kernel, which loads this file by its path: it imports nothing but
the standard library, so that the kernel's memory stays the notebook's own.
"""

from __future__ import annotations

import ast
import json
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

TEXT = 60  # the most characters of an expression's text

OPERATORS: dict[type[ast.cmpop], tuple[str, str, Callable[[Any, Any], Any]]] = {
    ast.Lt: ("<", ">", operator.lt),  # as written, as written with the sides exchanged
    ast.LtE: ("<=", ">=", operator.le),
    ast.Gt: (">", "<", operator.gt),
    ast.GtE: (">=", "<=", operator.ge),
    ast.Eq: ("==", "==", operator.eq),
    ast.NotEq: ("!=", "!=", operator.ne),
}

# An expression is evaluated a second time, after its cell, and so it must not change anything.
FUNCTIONS = {"abs", "float", "len", "max", "min", "round", "sum"}
ALLOWED = (
    *(ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Constant, ast.Tuple, ast.List),
    *(ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Call, ast.keyword),
    *(ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.comprehension),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context),
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of two numbers in an assert of a verdict cell, as it came out in a run.

    Attributes:
        figure: The expression whose value is the figure, such as ``matched``.
        value: The figure.
        operator: One of ``<``, ``<=``, ``>``, ``>=``, ``==``, ``!=``.
        bar: What the figure is compared with.
        bar_text: The expression for that, such as ``0.95``.
        holds: Whether the comparison is true.
    """

    figure: str
    value: float
    operator: str
    bar: float
    bar_text: str
    holds: bool


def as_json(source: str, names: Mapping[str, Any], failed_line: int | None) -> str:
    """`evaluated`, as the JSON text that leaves the kernel."""
    return json.dumps([asdict(each) for each in evaluated(source, names, failed_line)])


def evaluated(source: str, names: Mapping[str, Any], failed_line: int | None) -> list[Comparison]:
    """Evaluate the comparisons in the asserts of a verdict cell that has just run.

    Only comparisons of two finite real numbers count, in asserts at the top level of the cell or
    in an ``and`` there. Left out are expressions that call more than a few builtin functions, and
    those with a name whose value at the assert is not known now: the cell binds it again later, or
    would have bound it before the assert, had it not failed.

    Args:
        source: The cell's source.
        names: The variables of the kernel, as the cell has left them.
        failed_line: The number of the cell's line that raised an error; None if none did.
    """
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # nothing has run; or IPython's own commands, such as %time
        return []
    last = len(statements)
    if failed_line is not None:
        last = sum(statement.lineno <= failed_line for statement in statements) - 1
    found = []
    for index, statement in enumerate(statements):
        if isinstance(statement, ast.Assert):
            between = statements[min(index, last) : max(index, last) + 1]
            unknown = {name for other in between for name in _bound(other)}
            for left, kind, right in _compared(statement.test):
                if not unknown & (_names(left) | _names(right)):
                    found += _comparison(source, left, kind, right, names)
    return found


def _compared(test: ast.expr) -> Iterator[tuple[ast.expr, ast.cmpop, ast.expr]]:
    """The pairs that an assert compares."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        for value in test.values:
            yield from _compared(value)
    elif isinstance(test, ast.Compare):
        lefts = [test.left, *test.comparators]
        yield from zip(lefts, test.ops, test.comparators, strict=False)


def _comparison(
    source: str, left: ast.expr, kind: ast.cmpop, right: ast.expr, names: Mapping[str, Any]
) -> list[Comparison]:
    """The comparison of a pair; none where it is not one of two numbers."""
    if type(kind) not in OPERATORS or not (_names(left) or _names(right)):
        return []
    written, exchanged, compare = OPERATORS[type(kind)]
    try:
        sides = [_value(side, names) for side in (left, right)]
        values = [_number(side) for side in sides]
        holds = bool(compare(*sides))
    except Exception:  # whatever the expressions raise
        return []
    texts = [_text(source, side) for side in (left, right)]
    if not _names(left):
        values, texts, written = values[::-1], texts[::-1], exchanged
    return [Comparison(texts[0], values[0], written, values[1], texts[1], holds)]


def _value(expression: ast.expr, names: Mapping[str, Any]) -> Any:
    """Evaluate an expression.

    Raises:
        ValueError: If evaluating it again might change something.
        Exception: Whatever it raises.
    """
    for node in ast.walk(expression):
        if not isinstance(node, ALLOWED):
            raise ValueError(f"{type(node).__name__} is not evaluated again")
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name not in FUNCTIONS or name in names:  # a name of the notebook hides the builtin
                raise ValueError("only builtin functions are called again")
    # A copy, for eval adds a name to it.
    return eval(compile(ast.Expression(expression), "verdict", "eval"), dict(names))


def _number(value: Any) -> float:
    """A finite real number as a float; a tensor or an array without dimensions counts as one.

    Raises:
        ValueError: If it is none.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError("not a finite real number")
    return float(value)


def _names(expression: ast.expr) -> set[str]:
    """The names whose values an expression needs; it calls builtin functions alone."""
    nodes = list(ast.walk(expression))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and node not in called}
    return names - _of_comprehensions(expression)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds, or might."""
    bound = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
    return bound - _of_comprehensions(statement)


def _of_comprehensions(node: ast.AST) -> set[str]:
    """The names that only comprehensions bind."""
    targets = [each.target for each in ast.walk(node) if isinstance(each, ast.comprehension)]
    return {
        each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
    }


def _text(source: str, expression: ast.expr) -> str:
    text = " ".join((ast.get_source_segment(source, expression) or "").split())
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"
