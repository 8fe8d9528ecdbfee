"""Describe in one sentence how two calls differ: in their results or their side effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from splitlab.course.checks.sight import PLAIN, RESULT, Fact, alike, same, what

FACTS = (
    *("requires", "frozen", "graph", "weights", "values", "buffers", "modes", "grads"),
    *("optimizers", "lengths", "generators"),
)  # the kinds of facts, in the order in which they are looked at


@dataclass
class Call:
    """One call of a function, and what was observed of it."""

    arguments: tuple[Any, ...] = ()
    before: dict[Fact, Any] = field(default_factory=dict)
    after: dict[Fact, Any] = field(default_factory=dict)
    result: Any = None
    graph: list[Tensor] = field(default_factory=list)
    error: Exception | None = None
    used_up: bool = False  # the result's graph has been walked, or changed in place
    drew: bool = False
    spoiled: bool = False  # the result of an earlier call has changed
    draws: Any = None


class _Rules(Protocol):
    """The parts of an exercise that a comparison needs."""

    name: str
    parameters: list[str]
    otherwise: str | dict[str, str]
    returns: str | tuple[str, ...]
    types: bool
    fresh: bool


class Comparison:
    """Compares an answer's call with the reference's, or with a slip's.

    Args:
        rules: The exercise.
        tolerance: Largest difference of numbers, relative to the largest.
    """

    def __init__(self, rules: _Rules, tolerance: float) -> None:
        self.rules, self.tolerance = rules, tolerance
        self.returns = (
            rules.returns if isinstance(rules.returns, str) else " and ".join(rules.returns)
        )

    def difference(self, mine: Call, due: Call) -> tuple[str, str] | None:
        """Return the kind of the first difference and a sentence; None if there is none."""
        name = self.rules.name
        if mine.error is not None or due.error is not None:
            return self._other_error(mine, due)
        text = self._unlike(mine.result, due.result)
        if text is not None:
            return "result", text or self._other_numbers(mine, due)
        for kind in FACTS:
            if kind == "graph" and not self._alike(mine.graph, due.graph):
                return kind, self._other_graph(mine, due)
            for fact in self._facts(kind, mine, due):
                if not alike(mine.after.get(fact), due.after.get(fact), self.tolerance):
                    return kind, self._other_fact(fact, mine, due)
        if shared := self._shared(mine, due):
            return "memory", shared
        if mine.spoiled:
            return "kept", (
                f"{self.returns} of an earlier call changes at the next call: it lies in memory "
                f"that {name} uses again, so return a new tensor each time"
            )
        if mine.drew and not due.drew and mine.draws is None:
            return "random", (
                f"{name} draws random numbers where none are needed: the same arguments should "
                "give the same result"
            )
        return None

    def agree(self, kind: str, slip: Call, mine: Call) -> bool:
        """Return whether a slip's call equals the answer's in this kind of difference."""
        if kind == "error" or mine.error is not None or slip.error is not None:
            texts = {
                f"{type(_cause(call.error)).__name__}{_cause(call.error)}" for call in (slip, mine)
            }
            return len(texts) == 1
        if kind in ("result", "graph"):
            if (mine.result is None) != (slip.result is None):
                return False
            if self._unlike(mine.result, slip.result) is not None:
                return False
        if kind == "result":
            return True
        if kind == "graph":
            return self._alike(mine.graph, slip.graph)
        if kind in FACTS:
            facts = self._facts(kind, mine, slip)
            return all(alike(mine.after.get(f), slip.after.get(f), self.tolerance) for f in facts)
        if kind == "memory":
            return mine.after.get(("memory", "")) == slip.after.get(("memory", ""))
        return (mine.spoiled, mine.drew) == (slip.spoiled, slip.drew)

    def _unlike(self, mine: Any, due: Any) -> str | None:
        return unlike(mine, due, self.rules.returns, self.tolerance, types=self.rules.types)

    def _alike(self, mine: list[Tensor], due: list[Tensor]) -> bool:
        return len(mine) == len(due) and all(
            same(a, b, self.tolerance) for a, b in zip(mine, due, strict=True)
        )

    def _facts(self, kind: str, mine: Call, due: Call) -> list[Fact]:
        """The facts to compare; of gradients those that the reference leaves alone."""
        found = [fact for fact in {**due.after, **mine.after} if fact[0] == kind]
        if kind == "grads":
            found = [fact for fact in found if self._untouched(fact, due)]
        return found

    def _untouched(self, fact: Fact, call: Call) -> bool:
        return alike(call.before.get(fact), call.after.get(fact), 0)

    # --- The sentences ------------------------------------------------------------------------

    def _other_error(self, mine: Call, due: Call) -> tuple[str, str] | None:
        wanted, error = due.error, mine.error
        if wanted is None:
            # What an answer was refused has no cause, and nothing to do with the case.
            return "error", f"{error}{self._with(mine) if error and error.__cause__ else ''}"
        if error is not None and isinstance(_cause(error), type(wanted)):
            return None
        kind = type(wanted).__name__
        return "error", f"{self.rules.name} should raise a {kind} here{self._with(mine)}"

    def _other_numbers(self, mine: Call, due: Call) -> str:
        a, b = mine.result, due.result
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
            for name, value in zip(self.rules.parameters, mine.arguments, strict=False):
                if type(value) in PLAIN and same(a, value.detach(), self.tolerance):
                    return f"{name} itself comes back where {self.returns} is expected"
            a, b = a.double(), b.double()
            factor = ((a * b).sum() / b.square().sum()).item()
            if a.numel() > 1 and abs(factor) > 0 and same(a, factor * b, self.tolerance):
                if round(factor, 9) == -1:
                    return f"{self.returns} has the wrong sign"
                return (
                    f"{self.returns} has the right direction, and {factor:.3g} times the right size"
                )
        numbers = ""
        if all(
            isinstance(value, int | float) or getattr(value, "ndim", 1) == 0 for value in (a, b)
        ):
            digits = 4 if f"{float(a):.4g}" != f"{float(b):.4g}" else 10
            numbers = f": {float(a):.{digits}g} comes back where {float(b):.{digits}g} is right"
        return f"{self._otherwise(self.returns)}{self._with(mine, numbers)}"

    def _other_graph(self, mine: Call, due: Call) -> str:
        if not due.graph:
            return f"{self.returns} still carries its computation graph: return it detached"
        if mine.used_up:
            return (
                f"no backward pass can go through {self.returns} any more: {self.rules.name} has "
                "called backward itself, or changed in place what the graph needs"
            )
        if not mine.graph:
            return (
                f"{self.returns} has no graph, so nothing can learn from it: do not detach it, and "
                "compute it from tensors alone"
            )
        return (
            f"{self.returns} has the right value and the wrong gradient: check what is detached "
            "on the way, and what should be"
        )

    def _other_fact(self, fact: Fact, mine: Call, due: Call) -> str:
        kind, name = fact
        owner, untouched = _owner(name), self._untouched(fact, due)
        still = all(
            self._untouched(other, mine)
            for other in due.after
            if other[0] == kind and _owner(other[1]) == owner
        )
        match kind:
            case "weights" if untouched:
                return f"{owner}'s weights have changed: here it is only used, not trained"
            case "weights" | "values" if still and not untouched:
                return (
                    f"{owner} has not moved: call zero_grad, backward and step, in this order"
                    if kind == "weights"
                    else f"{name} has not changed, and it should"
                )
            case "values" if untouched:
                return f"{name} has changed: leave it as it was, and work on a copy"
            case "requires" if mine.after.get(fact):
                return f"{name} itself now requires a gradient: let a detached copy require it"
            case "requires":
                return f"{name} no longer requires a gradient"
            case "buffers":
                return f"{owner}'s running statistics " + (
                    "have changed: evaluate it in evaluation mode"
                    if untouched
                    else "are not those of one forward pass in training mode"
                )
            case "modes":
                modes = ("training", "evaluation")
                left, came = modes if mine.after.get(fact) else modes[::-1]
                return f"{owner} is left in {left} mode" + f", and came in {came} mode" * untouched
            case "frozen" if mine.after.get(fact):
                return f"{owner}'s parameters no longer require gradients: it cannot learn any more"
            case "frozen":
                return f"frozen parameters of {owner} require gradients now: leave them frozen"
            case "grads":
                return (
                    f"the .grad of {owner} has changed, and its own next step would be polluted by "
                    "it: ask torch.autograd.grad for the one gradient you want"
                )
            case "optimizers":
                return f"the state of {owner.split(' ')[0]} is not what these steps leave"
        return f"{self._otherwise(owner)}{self._with(mine)}"

    def _shared(self, mine: Call, due: Call) -> str:
        pairs = mine.after.get(("memory", ""), frozenset()) - due.after.get(
            ("memory", ""), frozenset()
        )
        for a, b in sorted(pairs):
            results = [name for name in (a, b) if name.startswith(RESULT)]
            if len(results) == 2 and self.rules.fresh:
                return f"parts of {self.returns} share their memory: give each its own"
            if len(results) == 1 and self.rules.fresh:
                other = b if a in results else a
                return f"{self.returns} lies in the memory of {other}: return a new tensor"
            if not results:
                return f"{a} and {b} share their memory now: copy the numbers"
        return ""

    def _otherwise(self, about: str) -> str:
        texts = self.rules.otherwise
        return texts if isinstance(texts, str) else texts.get(about, texts[""])

    def _with(self, call: Call, numbers: str = "") -> str:
        """Name the case: shapes and numbers."""
        named = []
        for name, value in zip(self.rules.parameters, call.arguments, strict=False):
            if isinstance(value, Tensor):
                named.append(f"{name} of shape {tuple(value.shape)}")
            elif isinstance(value, int | float):
                named.append(f"{name} {value:.4g}")
        where = ", ".join(named)
        return f" (with {where}{numbers})" if where else f" ({numbers[2:]})" if numbers else ""


def _owner(name: str) -> str:
    """The argument that a fact is about: "critic" of "critic.0.weight"."""
    return name.split(".")[0].split("[")[0]


def _cause(error: Exception | None) -> BaseException | None:
    return error if error is None else error.__cause__ or error


def unlike(
    mine: Any, due: Any, name: str | tuple[str, ...], tolerance: float, *, types: bool
) -> str | None:
    """Say how two plain results differ.

    Args:
        mine: Of the answer.
        due: Of the reference.
        name: What they are, in the field's words; the parts' names, if they have such.
        tolerance: As in `same`.
        types: Whether a tensor's type is compared, too.

    Returns:
        A sentence, "" if only numbers differ, and None if nothing does.
    """
    parts, name = (name, " and ".join(name)) if isinstance(name, tuple) else (None, name)
    if due is None:
        return None  # the function is called for what it does
    if mine is None:
        return f"{name} is None: end the function with a return"
    if isinstance(due, dict):
        if not isinstance(mine, dict) or mine.keys() != due.keys():
            return f"{name} should be a dictionary with the keys {', '.join(map(str, due))}"
        pairs = [(mine[key], due[key], f"{name}[{key!r}]") for key in due]
    elif isinstance(due, list):
        if isinstance(mine, Tensor) and mine.dim() and all(map(_is_number, due)):
            mine = list(mine)
        if not isinstance(mine, list):
            return f"{name} should have {len(due)} parts and is {what(mine)}"
        if len(mine) != len(due):
            return f"{name} should have {len(due)} parts and has {len(mine)}"
        parts = parts or tuple(f"part {place} of {name}" for place in range(len(due)))
        pairs = list(zip(mine, due, parts, strict=True))
    elif isinstance(due, Tensor) and (due.dim() or types):
        return _unlike_tensor(mine, due, name, tolerance, types=types)
    elif _is_number(due):
        return _unlike_number(mine, due, name, tolerance)
    else:
        return None if type(mine) is type(due) and mine == due else ""
    found = [unlike(a, b, part, tolerance, types=types) for a, b, part in pairs]
    return next((text for text in found if text), None if all(f is None for f in found) else "")


def _unlike_number(mine: Any, due: Any, name: str, tolerance: float) -> str | None:
    if isinstance(mine, Tensor) and type(mine) in PLAIN:
        if mine.dim():
            return f"{name} has shape {tuple(mine.shape)}: return one number"
        mine = mine.item()
    if type(mine) not in (bool, int, float):
        return f"{name} should be a number and is {what(mine)}"
    a, b = (torch.tensor(float(number), dtype=torch.float64) for number in (mine, due))
    return None if same(a, b, tolerance) else ""


def _unlike_tensor(
    mine: Any, due: Tensor, name: str, tolerance: float, *, types: bool
) -> str | None:
    if type(mine) not in PLAIN:
        return f"{name} should be a tensor and is {what(mine)}"
    if mine.shape != due.shape:
        one = ": return one number" if due.dim() == 0 else ""
        return f"{name} has shape {tuple(mine.shape)} where {tuple(due.shape)} is expected{one}"
    if due.is_floating_point() and not mine.is_floating_point() and due.dim():
        return f"{name} should hold floating-point numbers and holds {mine.dtype}"
    if not due.is_floating_point() and mine.is_floating_point():
        return f"{name} should hold {due.dtype} and holds {mine.dtype}"
    if types and mine.dtype != due.dtype:
        return f"{name} should be of type {due.dtype} and is of type {mine.dtype}"
    if due.dim() and mine.is_floating_point() and mine.element_size() < due.element_size():
        return f"{name} is rounded to {mine.dtype}, and what was given is {due.dtype}"
    if due.isfinite().all() and not mine.isfinite().all():
        return f"{name} holds nan or infinity where every number should be finite"
    return None if same(mine, due, tolerance) else ""


def _is_number(value: Any) -> bool:
    return type(value) in (bool, int, float) or (isinstance(value, Tensor) and value.dim() == 0)
