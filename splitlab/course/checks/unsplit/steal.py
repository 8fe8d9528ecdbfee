"""How the open exercise of chapter 22 is scored: what an attack finds with a few passes.

The student's `steal(z, make_surrogate, budget)` gets the smashed data of twenty private digits from
a client that was trained, and may send images through surrogates until the budget is used up.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from splitlab import data
from splitlab.attacks.priors import total_variation
from splitlab.core.randomness import Sampler
from splitlab.core.tables import Table
from splitlab.course.checks.guard import secret, wrong
from splitlab.course.checks.scored import Answer, expect_tensor, scored
from splitlab.course.checks.verdict import Score
from splitlab.nets.blocks import seeded
from splitlab.referee import floors

IMAGES = 20  # stolen at once
PASSES = 120  # a step takes two: one forwards, one back
SEEDS = (51, 52, 53)  # of the splits, the clients and the surrogates
NOTHING = 0.1  # no correlation worth the name
STEPS = 200  # that a client is trained
BATCH, RATE = 32, 1e-3

Steal = Callable[..., Any]  # (z, make_surrogate, budget) -> images

_aten = torch.ops.aten
FORWARDS = (_aten.conv2d, _aten.convolution, _aten._convolution)
BACK = (_aten.convolution_backward,)


class Budget(TorchDispatchMode):
    """How many passes of a batch through a surrogate are left, forwards or back.

    Within `with Budget(z) as budget:` every convolution is counted, and each way back
    through one. It is counted by the numbers that it gives, or that come back: half of the
    images cost half of a pass. It is a guard against mistakes, not a sandbox: a convolution that is
    written out by other means is not seen.

    Args:
        z: The smashed data of the batch, (B, 8, 8, 8), behind a pooling by 2.
        passes: How many may be spent.
    """

    def __init__(self, z: Tensor, passes: int = PASSES) -> None:
        super().__init__()
        self.passes = passes
        self._numbers, self._pass = 0, 4 * z.numel()

    @property
    def left(self) -> float:
        """Passes that are left, 0 or more."""
        return max(0.0, self.passes - self.spent)

    @property
    def spent(self) -> float:
        """Passes so far."""
        return self._numbers / self._pass

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation of torch, and count it.

        Raises:
            CheckFailed: If the budget does not suffice.
        """
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in FORWARDS:
            self._numbers += result.numel()
        elif func.overloadpacket in BACK:
            self._numbers += args[0].numel()
        else:
            return result
        self.refuse_debts()
        return result

    def refuse_debts(self) -> None:
        """Check that no more has been spent than the budget had.

        Raises:
            CheckFailed: If more has.
        """
        if self.spent > self.passes:
            wrong(
                f"steal spends more than its budget of {self.passes} passes: stop while "
                "budget.left is enough for the next step, which takes one pass forward and one "
                "back"
            )


@scored(praise="your attack keeps to its budget, and the table shows what it finds.", seconds=60)
def steal(answer: Answer) -> Score:
    """`steal(z, make_surrogate, budget)`: images that explain z, for a few passes."""
    yours = _measure("yours", answer.function, ask=functools.partial(_asked, answer))
    if yours.correlation < NOTHING:
        wrong(
            f"what comes back has a correlation of {yours.correlation:.2f} with the private images "
            "and is no nearer to them than noise: it should come from z, in the order of z"
        )
    figures = [_mean_public(), *(_baseline(name) for name in BASELINES), yours]
    table = Table(
        ["attack", "passes", "correlation"],
        [[each.name, f"{each.passes:g}", each.correlation] for each in figures],
        caption=(
            f"{IMAGES} digits of each of {len(SEEDS)} trained clients. The correlation with the "
            "private images is a mean over the digits, up to one sign for all of a client's, and "
            "then over the clients."
        ),
        strong=len(figures) - 1,
    )
    return Score(yours.correlation, table)


# --- Whom it is stolen from -------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """One client's smashed data, and the images, which the attacker does not have.

    Attributes:
        z: (20, 8, 8, 8).
        private: The images behind z, (20, 1, 16, 16).
        mean: The mean public image, in the shape of the private ones.
    """

    z: Tensor
    private: Tensor
    mean: Tensor


@secret
@functools.cache
def _case(seed: int) -> _Case:
    """Train a client honestly on a split of the digits, and smash some of its images."""
    private, public, _ = data.digits().split(seed)
    net = _whole(seed=seed)
    optimizer = Adam(net.parameters(), lr=RATE)
    sampler = Sampler(len(private), BATCH, owner="client", seed=seed)
    for _ in range(STEPS):
        rows = sampler.next()
        optimizer.zero_grad()
        F.cross_entropy(net(private.x[rows]), private.y[rows]).backward()
        optimizer.step()
    x = private.subset(IMAGES, seed).x
    return _Case(net[0](x).detach(), x, floors.mean_public(public, IMAGES))


def make_surrogate() -> nn.Module:
    """Return a network of the client's layers, with weights from torch's own random stream."""
    return nn.Sequential(nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2))


@seeded
def _whole(*, seed: int = 0) -> nn.Sequential:
    """Return the client's network, and behind it the layers of a server."""
    return nn.Sequential(
        make_surrogate(),
        nn.Conv2d(8, 16, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


# --- Figures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Figures:
    """What one attack costs and finds.

    Attributes:
        name: As in the table.
        passes: Spent on a client, the most over the clients.
        correlation: Of what was found with the private images, from 0 to 1.
    """

    name: str
    passes: float
    correlation: float


class _Shown:
    """A budget as an attack sees it: setting an attribute here refills nothing."""

    def __init__(self, budget: Budget) -> None:
        self._budget = lambda: budget

    def __getattr__(self, name: str) -> Any:
        return getattr(self._budget(), name)


def _within(budget: Budget, function: Steal) -> Callable[..., Any]:
    """Count an attack's passes in its own thread, because a torch mode holds in one thread only."""

    def run(z: Tensor, make: Callable[[], nn.Module]) -> Any:
        with budget:
            return function(z, make, _Shown(budget))

    return run


def _simply(attack: Callable[..., Tensor], z: Tensor) -> Tensor:
    return attack(z, make_surrogate)


def _asked(answer: Answer, attack: Callable[..., Any], z: Tensor) -> Tensor:
    """Call the answer.

    Raises:
        CheckFailed: If what it returns are not images.
    """
    stolen = Answer(answer.guard, attack)(z, make_surrogate)
    images = expect_tensor(stolen, "what steal returns", (IMAGES, 1, 16, 16))
    if images.requires_grad:
        wrong("what steal returns requires a gradient: detach it, it is only looked at now")
    if (images.flatten(1).std(1) == 0).any():
        wrong(
            "a picture has one value throughout and shows nothing: the images have to move, each "
            "its own way"
        )
    return images


def _measure(
    name: str, function: Steal, passes: int = PASSES, ask: Callable[..., Any] = _simply
) -> _Figures:
    spent, found = [], []
    for seed in SEEDS:
        case = _case(seed)
        torch.manual_seed(seed)  # of the surrogates: the same in every call
        budget = Budget(case.z, passes)
        images = ask(_within(budget, function), case.z.clone())
        budget.refuse_debts()
        spent.append(budget.spent)
        found.append(_likeness(images, case.private))
    return _Figures(name, max(spent), sum(found) / len(found))


def _likeness(pictures: Tensor, private: Tensor) -> float:
    """Mean correlation of the pixels, up to one sign: z does not distinguish negatives.

    Args:
        pictures: (N, C, H, W).
        private: The images that they should show, same shape.

    Returns:
        From 0 to 1; a picture of one value throughout counts as 0.
    """
    rows = [images.flatten(1).double() for images in (pictures, private)]
    a, b = (each - each.mean(1, keepdim=True) for each in rows)
    return F.cosine_similarity(a, b).mean().abs().item()


# --- Simple ways ------------------------------------------------------------------------------


@functools.cache
def _baseline(name: str) -> _Figures:
    return _measure(name, *BASELINES[name])


def _mean_public() -> _Figures:
    """A floor that needs public images, which this attacker does not have."""
    means = [_likeness(_case(seed).mean, _case(seed).private) for seed in SEEDS]
    return _Figures("mean public digit (not the attacker's)", 0, sum(means) / len(means))


def _one_value(z: Tensor, make: Callable[[], nn.Module], budget: Budget) -> Tensor:
    return torch.zeros(len(z), 1, 16, 16)


def _channel(z: Tensor, make: Callable[[], nn.Module], budget: Budget) -> Tensor:
    """The channel of z that varies most, enlarged."""
    varies_most = z.var((0, 2, 3)).argmax()
    return F.interpolate(z[:, varies_most, None], scale_factor=2, mode="bilinear")


def _by_turns(z: Tensor, make: Callable[[], nn.Module], budget: Budget) -> Tensor:
    """The schedule at the end of the notebook, until the budget is used up."""
    images, surrogate = torch.full((len(z), 1, 16, 16), -0.9).requires_grad_(), make()
    halves = (
        Adam([images], 0.02, amsgrad=True),
        Adam(surrogate.parameters(), 0.01, amsgrad=True),
    )
    step = 0
    while budget.left >= 2:
        half = step // 20 % 2
        error = F.mse_loss(surrogate(images.detach() if half else images), z)
        loss = error if half else error + 0.3 * total_variation(images).mean()
        halves[half].zero_grad()
        loss.backward()
        halves[half].step()
        step += 1
    return images.detach()


BASELINES: dict[str, tuple[Steal, int]] = {
    "one value everywhere": (_one_value, 0),
    "one channel of z, enlarged": (_channel, 0),
    "taking turns": (_by_turns, PASSES),
    "taking turns, four times as long": (_by_turns, 4 * PASSES),
}
