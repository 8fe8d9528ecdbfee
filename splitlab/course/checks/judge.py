"""The judge of all closed exercises: it runs an answer and a reference from the same state.

An exercise is a reference, its cases, and its slips: wrong answers, each with its message. A case
makes the arguments of one call, or of several in a row; the answer and the reference each play it
from the same random numbers, and everything that can be seen afterward is compared. Where something
differs, the slip that behaves like the answer gives the message:

    @exercise(cases=[lambda: (torch.randn(4, 3),)], praise="...", otherwise="...")
    def norm(rows):
        return rows.norm(dim=1)

    @norm.slip("these are the squares of the norms: take the root")
    def squares(rows):
        return rows.square().sum(dim=1)

    norm(answer)  # a `Verdict`
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from splitlab.course.checks.comparison import Call, Comparison
from splitlab.course.checks.guard import CheckFailed, Function, Guard, NotWrittenYet, secret
from splitlab.course.checks.sight import facts, graph, plain, same, tensors
from splitlab.course.checks.verdict import Check, randomness, seed_all

EVIDENCE = 3  # worlds that an answer is played in after it has failed, to tell slips apart
SEEDS = (0, 1)  # each case is played with both: equal shapes, unlike numbers


@dataclass(frozen=True)
class _World:
    """One case, and what the answer did with it."""

    case: Callable[[], Any]
    seed: int
    calls: list[Call] = field(default_factory=list)


@dataclass(kw_only=True)
class Exercise(Check):
    """A closed exercise; see `exercise` for its attributes."""

    reference: Function
    cases: Sequence[Callable[[], Any]]
    otherwise: str | dict[str, str]
    seconds: float = 10
    returns: str | tuple[str, ...] = "the result"
    tolerance: float = 1e-9
    types: bool = False
    fresh: bool = True
    use: Function | None = None
    draws: Function | None = None
    spread: Callable[[list[Any]], None] | None = None
    slips: dict[str, Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = self.reference.__name__
        self.parameters = [p for p in inspect.signature(self.reference).parameters if p != "draws"]
        self.reference = secret(self.reference)
        self.cases = [secret(case) for case in self.cases]

    def slip(self, message: str) -> Callable[[Function], Function]:
        """Register the decorated wrong answer: its message is for answers that behave like it."""

        def register(function: Function) -> Function:
            self.slips[message] = function
            return function

        return register

    def judge(self, answer: Guard, dtype: torch.dtype) -> None:
        """Judge an answer.

        Raises:
            CheckFailed: Saying what is wrong with it.
        """
        tolerance = self.tolerance if dtype == torch.float64 else max(self.tolerance, 1e-4)
        compare = Comparison(self, tolerance)
        history: list[_World] = []
        kept: list[tuple[Any, Any]] = []  # results of all calls, and what they were
        first = None  # difference, and how many worlds there were by then
        for seed, case in itertools.product(SEEDS, self.cases):
            world, found = _World(case, seed), None
            history.append(world)
            ours = self._play(self.reference, world, [])
            for mine in self._play(answer, world, kept):
                world.calls.append(mine)
                due = next(ours)
                found = found or compare.difference(mine, due)
                if mine.error is not None:
                    break
            if found:
                first = first or (found, len(history))
            if first and (
                len(history) - first[1] >= EVIDENCE or answer.left < answer.seconds * 0.9
            ):
                break
        if first:
            self._explain(*first[0], history, first[1], compare)
        if self.spread:
            self.spread([c.draws for w in history for c in w.calls if c.draws is not None])

    def _play(
        self, function: Function, world: _World, kept: list[tuple[Any, Any]]
    ) -> Iterator[Call]:
        """Go through a case's calls, and a last one without arguments.

        The reference and the slips draw what the answer has drawn, where that can be seen.
        """
        seed_all(world.seed)
        made = world.case()
        calls = iter([made] if isinstance(made, tuple) else made)
        for number in itertools.count():
            seed_all(1000 * world.seed + number + 1)
            arguments = next(calls, None)
            if arguments is None:
                yield Call(spoiled=_changed(kept))
                return
            named = dict(zip(self.parameters, arguments, strict=False))
            call, state = Call(arguments, facts(named)), randomness()
            known = self.draws and not isinstance(function, Guard)
            draws = {"draws": world.calls[number].draws} if known else {}
            try:
                if isinstance(function, Guard):
                    result = function.run(self._used, function.function, *arguments)
                else:
                    result = self._used(function, *arguments, **draws)
            except NotWrittenYet:
                raise
            except Exception as error:
                call.error = error
                yield call
                continue
            call.drew = state != randomness()
            call.after, call.result = facts(named, result), plain(result)
            try:
                call.graph = graph(result, named)
            except RuntimeError:  # a backward pass or a step has been taken on it
                call.graph, call.used_up = [torch.zeros(())], True
            call.spoiled = _changed(kept)
            kept.append((result, call.result))
            if self.draws and not draws:
                call.draws = self.draws(result, *arguments)
            yield call

    def _used(self, function: Function, *arguments: Any, **draws: Any) -> Any:
        result = function(*arguments, **draws)
        return self.use(result, *arguments) if self.use else result

    def _explain(
        self, kind: str, sentence: str, history: list[_World], played: int, compare: Comparison
    ) -> NoReturn:
        """Give the message of the slip that behaves like the answer, or else the sentence.

        Raises:
            CheckFailed: Always.
        """

        def behaves_alike(slip: Function, world: _World) -> bool:
            calls = self._play(slip, world, [])
            return all(compare.agree(kind, next(calls), mine) for mine in world.calls)

        failed = history[played - 1]  # most slips drop out here
        likely = [item for item in self.slips.items() if behaves_alike(item[1], failed)]
        for worlds in (history, history[:played]):
            for message, slip in likely:
                if all(behaves_alike(slip, world) for world in worlds if world is not failed):
                    raise CheckFailed(message)
        raise CheckFailed(sentence)


def exercise(**options: Any) -> Callable[[Function], Exercise]:
    """Make an exercise of the decorated function, its reference.

    Args:
        options: Of these,
            cases: Functions without arguments. Each returns a tuple, the arguments of one call, or
                yields one such tuple for each call, in a row, about the same networks. Numbers are
                drawn from the global generators, in float64.
            praise: What a right answer has shown, to end "Passed: ...".
            otherwise: What to say of a wrong answer that behaves like no slip; or, for what
                `returns` names and for arguments that should move, a sentence each, and one for
                the rest ("").
            slips: Message -> a wrong answer that behaves as the message says; see `Exercise.slip`.
            returns: What the result is called, or its parts are.
            tolerance: Largest difference, relative to the largest number (default: 1e-9).
            types: Whether types of tensors must be equal (default: only as precise).
            fresh: Whether a result may not lie in an argument's memory, where the reference's
                does not (default: yes).
            use: (result, *arguments) -> what is compared instead; it calls a function that was
                returned.
            draws: (result, *arguments) -> what the answer has drawn at random; the reference and
                the slips take it as the keyword `draws`. It may raise `CheckFailed`.
            spread: Raises `CheckFailed` if all these draws together are not as they should be.
            seconds: What the answer may take in all (default: 10).
    """
    return lambda reference: Exercise(reference=reference, **options)


def _changed(kept: list[tuple[Any, Any]]) -> bool:
    """Whether a result has changed since the call."""
    return any(not all(map(same, tensors(plain(now)), tensors(then))) for now, then in kept)
