"""Detectors, and how to choose their thresholds from honest runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from torch import nn

from splitlab.arguments import chance, described, finite, flag, one_of, reals
from splitlab.core.client import Defense, HijackingDetected

if TYPE_CHECKING:
    from splitlab.core.client import Client

Side = Literal["above", "below"]


class Detector(Defense):
    """Base class of the defenses that watch and change nothing: each scores some of the steps.

    A detector of your own overrides the hook in which it can look (`incoming` as a rule), calls
    `see` with the score of this step, and returns what it was given. Steps on batches that another
    defense has made up (`turn.fake`) are not for it to judge.

    Args:
        threshold: A score on the wrong side of it is an alarm; see `alarm_threshold`.
        stop: Whether the client stops at the first alarm, or goes on and counts.

    Attributes:
        ALARMS: The wrong side of the threshold.
        NEEDS: What the detector asks of the client that uses it.
        seen: (step, score) of every step that was judged, in order.
        alarms: The steps at which there was an alarm, from 0.

    Raises:
        ValueError: If the threshold is no finite number.
    """

    STATE: ClassVar[tuple[str, ...]] = ("seen", "alarms")
    ALARMS: ClassVar[Side] = "above"
    NEEDS: ClassVar[tuple[str, ...]] = ("the gradient that arrives",)

    def __init__(self, threshold: float, *, stop: bool = True) -> None:
        self.threshold, self.stop = finite("threshold", threshold), flag("stop", stop)
        self.seen: list[tuple[int, float]] = []
        self.alarms: list[int] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.threshold:g})"

    def suspicious(self, score: float) -> bool:
        """Return whether a score is on the wrong side of the threshold; NaN always is."""
        fine = score <= self.threshold if self.ALARMS == "above" else score >= self.threshold
        return not fine

    @property
    def limits(self) -> str:
        """The scores at which the detector alarms, in words."""
        return f"{self.ALARMS} {self.threshold:.3g}"

    def see(self, client: Client, score: float, evidence: str) -> None:
        """Record the score of this step, and alarm if it is suspicious.

        Args:
            client: Whose step it is.
            score: The score.
            evidence: What was seen, as the beginning of a sentence that ends with the threshold.

        Raises:
            HijackingDetected: At an alarm, if the client is to stop; says when and why.
        """
        self.seen.append((client.step, score))
        if self.suspicious(score):
            self.alarms.append(client.step)
            if self.stop:
                raise HijackingDetected(
                    f"step {client.step}: {evidence}; {type(self).__name__} alarms {self.limits}"
                )


def most_suspicious(scores: Sequence[tuple[int, float]], alarms: Side = "above") -> float:
    """Return a run's most suspicious score, which decides at which thresholds it alarms.

    Args:
        scores: (step, score) of the run, as `Detector.seen` has them.
        alarms: The detector's `ALARMS`.

    Returns:
        The score; where no step was judged, the infinity that never alarms.
    """
    one_of("alarms", alarms, get_args(Side))
    if not isinstance(scores, list | tuple) or not all(
        isinstance(one, list | tuple) and len(one) == 2 for one in scores
    ):
        raise TypeError(f"scores is {described(scores)}: pass Detector.seen, (step, score) pairs")
    values = reals("the scores", [score for _, score in scores])
    if any(map(math.isnan, values)):
        return math.inf if alarms == "above" else -math.inf
    if alarms == "above":
        return max(values, default=-math.inf)
    return min(values, default=math.inf)


def alarm_threshold(extremes: Sequence[float], budget: float, alarms: Side = "above") -> float:
    """Return a threshold at which at most a share `budget` of such honest runs alarm.

    The unit is the run: steps of one run depend on each other. With n honest runs, one more run of
    the same kind (exchangeable with them) is more suspicious than the k-th most suspicious of them
    with a chance of at most k / (n + 1). The threshold is the score of that run, for the largest k
    that keeps to the budget (Vovk, Gammerman, Shafer: "Algorithmic Learning in a Random World",
    2005). Runs of another kind owe nothing to it.

    Args:
        extremes: The most suspicious score of each honest run (`most_suspicious`).
        budget: The share of honest runs that may alarm, between 0 and 1.
        alarms: The detector's `ALARMS`.

    Raises:
        ValueError: If the budget is out of range, there are too few runs for it, or a score is NaN.
    """
    one_of("alarms", alarms, get_args(Side))
    extremes = reals("extremes", extremes)
    if any(map(math.isnan, extremes)):
        raise ValueError("one of the extremes is NaN: take those that most_suspicious returns")
    k = math.floor(chance("budget", budget) * (len(extremes) + 1) + 1e-9)
    if k < 1:
        raise ValueError(
            f"{len(extremes)} honest runs cannot show that at most {100 * budget:.3g}% of runs "
            f"alarm: use at least {math.ceil(1 / budget - 1e-9) - 1}"
        )
    ordered = sorted(extremes, reverse=alarms == "above")
    return ordered[k - 1]


def first_parameter_learns(who: str, net: nn.Module) -> None:
    """Refuse a network f whose first parameter has no gradient.

    Raises:
        ValueError: In this case.
    """
    first = next(net.parameters(), None)
    if first is None or not first.requires_grad:
        raise ValueError(
            f"{who} looks at the gradient of the first parameter of the client's network, which "
            f"{'has none' if first is None else 'is frozen'}: leave out {who}, or make it trainable"
        )
