"""Automatic mutants of a function: the small slips that a check must not let through.

Each mutant differs from the solution in one place. The kinds: an arithmetic, comparison or logical
operator; a constant, which most axes are; one reduction for another; a method call left out, as in
a forgotten `.detach()`; a `with torch.no_grad()` left out; two neighbouring arguments swapped; an
option left at its default; a statement left out; a condition turned round.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
}
COMPARISONS: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
}
MODULES = ("torch", "nn", "F", "sl", "math")  # `torch` is no version of `torch.cat(...)`
TWINS = {"mean": "sum", "sum": "mean", "min": "max", "max": "min"}
TWINS |= {"argmin": "argmax", "argmax": "argmin", "amin": "amax", "amax": "amin"}


@dataclass(frozen=True)
class Mutant:
    """One changed version of a function.

    Attributes:
        what: The change, as "`return z.detach().clone()` becomes `return z.clone()`".
        source: The whole changed source.
    """

    what: str
    source: str


def mutants(source: str, name: str) -> list[Mutant]:
    """Return every mutant of the function `name` in `source`, each text once.

    Args:
        source: Python source that defines the function; the rest of it stays as it is.
        name: The function to change.

    Raises:
        ValueError: If there is no such function.
    """
    tree = ast.parse(source)
    where = next((n for n, s in enumerate(tree.body) if getattr(s, "name", None) == name), None)
    if where is None:
        raise ValueError(f"there is no function {name!r} in the source")
    _without_docstring(tree.body[where])
    original = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for number, node in enumerate(ast.walk(tree.body[where])):
        for change in range(len(list(_changes(node)))):
            changed = copy.deepcopy(tree)
            # Deep copies are walked in the same order: this is the same node in the copy.
            target = list(ast.walk(changed.body[where]))[number]
            _replace(changed.body[where], target, list(_changes(target))[change])
            text = ast.unparse(ast.fix_missing_locations(changed))
            if text != original:
                found.setdefault(text, Mutant(_difference(original, text), text))
    return list(found.values())


def _difference(before: str, after: str) -> str:
    """Say which lines become which."""
    lines = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    old, new = ("; ".join(li[2:].strip() for li in lines if li.startswith(s)) for s in ("- ", "+ "))
    return f"`{old}` becomes `{new}`" if new else f"`{old}` is left out"


def _without_docstring(function: ast.stmt) -> None:
    """Remove the docstring, which is nothing to mutate."""
    assert isinstance(function, ast.FunctionDef)
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:] or [ast.Pass()]


def _changes(node: ast.AST) -> Iterator[ast.AST | list[ast.stmt]]:
    """Yield what this node may become: a node, or statements; an empty list removes it."""
    match node:
        case ast.BinOp(op=op) if type(op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(op)]())
        case ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(op)]())
            yield []
        case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
            for other in COMPARISONS[type(op)]:
                yield _with(node, ops=[other()])
        case ast.BoolOp(op=op):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float() as value):
            yield ast.Constant(value * 2 if value else 1.0)
            yield ast.Constant(-value if value else -1.0)
        case ast.Call():
            yield from _calls(node)
        case ast.With(items=items, body=body):
            for item in items:
                rest = [other for other in items if other is not item]
                yield _with(node, items=rest) if rest else body
        case ast.If(test=test) | ast.IfExp(test=test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.Assign() | ast.Expr() | ast.AnnAssign():
            yield []


def _calls(node: ast.Call) -> Iterator[ast.AST]:
    """Yield the changes of a call: left out, its twin, arguments swapped, an option dropped."""
    if isinstance(node.func, ast.Attribute):
        if not ast.unparse(node.func.value).startswith(MODULES):
            yield node.func.value
        if twin := TWINS.get(node.func.attr):
            yield _with(node, func=_with(node.func, attr=twin))
    for first in range(len(node.args) - 1):
        swapped = list(node.args)
        swapped[first : first + 2] = reversed(swapped[first : first + 2])
        yield _with(node, args=swapped)
    for keyword in node.keywords:
        yield _with(node, keywords=[other for other in node.keywords if other is not keyword])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a copy of the node with some fields changed."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})


def _replace(function: ast.stmt, target: ast.AST, new: ast.AST | list[ast.stmt]) -> None:
    """Put `new` in the node's place."""
    for parent in ast.walk(function):
        for field, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, field, new)
                return
            if isinstance(value, list) and target in value:
                where = value.index(target)
                value[where : where + 1] = new if isinstance(new, list) else [new]
                if not value and field == "body":
                    value.append(ast.Pass())
                return
