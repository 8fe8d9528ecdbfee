"""What the checks of one whole turn of a hijack share: three networks, each with its own loss.

(1) is the loss of the pilot and of the network behind it, a decoder or a head; (2) is the critic's,
without its penalty, and (3) is the one whose gradient the client gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from splitlab.course.checks.base import expect_tensor, twin, wrong
from splitlab.course.checks.critic import score_gradient, small_critic, tell

RATE = 0.1  # of plain descent, so that a step says which gradient was used
CLASSES = 12  # of all labels; as many as z has numbers, so that the critic could score logits, too


class Attacker(nn.Module):
    """The attacker's three networks.

    Args:
        pilot: Images (1, 4, 6) -> z (2, 2, 3).
        behind: What takes z from the pilot.
        critic: z -> scores (B, 1).
    """

    def __init__(self, pilot: nn.Module, behind: nn.Module, critic: nn.Module) -> None:
        super().__init__()
        self.pair = nn.ModuleList([pilot, behind])
        self.critic = critic

    @property
    def pilot(self) -> nn.Module:
        """Of `pair`, the first."""
        return self.pair[0]

    @property
    def behind(self) -> nn.Module:
        """Of `pair`, the second."""
        return self.pair[1]


@dataclass(frozen=True)
class Given:
    """What one turn is about.

    Attributes:
        z: The client's smashed data, (B, 2, 2, 3).
        x: Public images, (P, 1, 4, 6).
        labels: Of the client's task, which came with z, int64 (B,).
        known: Of the public images, int64 (P,).
    """

    z: Tensor
    x: Tensor
    labels: Tensor
    known: Tensor

    def copy(self) -> Given:
        """Return the same numbers in other tensors."""
        return Given(self.z.clone(), self.x.clone(), self.labels.clone(), self.known.clone())


Loss = Callable[[Attacker, Given], Tensor]
Optimizers = tuple[Optimizer, Optimizer]


@dataclass(frozen=True)
class Design:
    """What stands behind the pilot, and what a slip would make of the three losses.

    Attributes:
        function: What the exercise's function is called.
        behind: What the network behind the pilot is called.
        net: Makes it.
        z: What the client's smashed data are called.
        loss: Equation (1).
        mean: What (1) is a mean over.
        others: Message -> what is minimized in place of (1); None where the sizes do not allow it.
        scores: Message -> what the critic minimizes in place of (2).
        pulls: Message -> what the client is made to minimize in place of (3).
    """

    function: str
    behind: str
    net: Callable[[], nn.Module]
    z: str
    loss: Loss
    mean: str
    others: Mapping[str, Callable[[Attacker, Given], Tensor | None]]
    scores: Mapping[str, Loss] = field(default_factory=dict)
    pulls: Mapping[str, Loss] = field(default_factory=dict)


class Turns:
    """An attacker whose turns a student's function takes, and what each turn should have done."""

    def __init__(self, design: Design) -> None:
        pilot = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.Tanh())
        self.design, self.nets = design, Attacker(pilot, design.net(), small_critic(12)).double()
        self.optimizers: Optimizers = (
            SGD(self.nets.pair.parameters(), lr=RATE),
            SGD(self.nets.critic.parameters(), lr=RATE),
        )
        self.kept: list[tuple[Tensor, Tensor]] = []
        self.last: _Gradients | None = None

    def judge(
        self, size: int, public: int, take: Callable[[Given, Attacker, Optimizers], Any]
    ) -> None:
        """Let one turn be taken, and judge what has come back and what has changed.

        Args:
            size: Of the client's batch.
            public: How many public images.
            take: Calls the student's function; returns what it returns.

        Raises:
            CheckFailed: If something is wrong.
        """
        given = Given(
            z=torch.randn(size, 2, 2, 3, dtype=torch.float64),
            x=torch.rand(public, 1, 4, 6, dtype=torch.float64) * 2 - 1,
            labels=torch.randint(CLASSES, (size,)),
            known=torch.randint(CLASSES, (public,)),
        )
        old, before = twin(self.nets), given.copy()
        dz = expect_tensor(take(given, self.nets, self.optimizers), "dz", given.z.shape)
        self._check_manners(dz, given, before, old)
        right = _Gradients(self.design, old, before)
        right.tell_dz(dz, self.nets.critic)
        right.tell_critic(_moved(old.critic, self.nets.critic), self.last)
        right.tell_pair(_moved(old.pair, self.nets.pair), self.last)
        self.kept.append((dz, dz.clone()))
        self.last = right

    def _check_manners(self, dz: Tensor, given: Given, before: Given, old: Attacker) -> None:
        """Look at what no turn may do, whatever its losses are."""
        z, function = self.design.z, self.design.function
        if dz.requires_grad:
            wrong("dz still carries a computation graph: what crosses to the client is numbers")
        if given.z.requires_grad or given.z.grad is not None:
            wrong(
                f"{z} itself now requires a gradient: let a detached {z} require it, so that "
                "nothing else is recorded there"
            )
        if not all(torch.equal(getattr(given, name), getattr(before, name)) for name in NAMES):
            wrong(f"{function} changes what it is given: work on copies")
        if [m.training for m in self.nets.modules()] != [m.training for m in old.modules()]:
            wrong(
                f"{function} leaves a network in another mode than before, training or evaluation"
            )
        if any(not torch.equal(one, copy) for one, copy in self.kept):
            wrong(
                "a dz that was returned earlier changes in a later turn: the client would receive "
                "something else than the attacker meant, so return a tensor of its own"
            )


NAMES = ("z", "x", "labels", "known")


def _moved(old: nn.Module, new: nn.Module) -> Tensor:
    """The gradient that a step of plain descent must have used."""
    pairs = zip(old.parameters(), new.parameters(), strict=True)
    return torch.cat([((a - b) / RATE).detach().flatten() for a, b in pairs])


def _gradient(loss: Tensor, net: nn.Module) -> Tensor:
    """The gradient of a loss with respect to all weights of a network, in one vector."""
    weights = list(net.parameters())
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = zip(found, weights, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for g, w in pairs])


class _Gradients:
    """All gradients of one turn at the old parameters, and those that mistakes would take.

    Attributes:
        dz: Of equation (3), with respect to z.
        critic: Of equation (2), with respect to the critic.
        pair: Of equation (1), with respect to the pilot and the network behind it.
    """

    def __init__(self, design: Design, nets: Attacker, given: Given) -> None:
        self.design, self.nets, self.given = design, nets, given
        self.dz = self._of_scores(nets.critic)
        self.public = _gradient(nets.critic(nets.pilot(given.x).detach()).mean(), nets.critic)
        self.private = _gradient(nets.critic(given.z).mean(), nets.critic)
        self.critic = self.public - self.private
        self.pair = _gradient(design.loss(nets, given), nets.pair)

    def _of_scores(self, critic: nn.Module) -> Tensor:
        z = self.given.z
        return torch.stack([score_gradient(critic, one) for one in z]).detach() / len(z)

    def _of_pull(self, loss: Loss) -> Tensor:
        leaf = self.given.z.clone().requires_grad_()
        moved = Given(leaf, self.given.x, self.given.labels, self.given.known)
        return torch.autograd.grad(loss(self.nets, moved), leaf)[0]

    def tell_dz(self, dz: Tensor, moved_critic: nn.Module) -> None:
        """Say what is wrong with dz."""
        size = len(self.given.z)
        mistakes = {
            "dz is 0: the critic's backward pass went on adding to the very tensor that you "
            "return, so take dz with torch.autograd.grad, or clone it": torch.zeros_like(dz),
            "dz has the wrong sign: f descends along dz, so it climbs away from the public "
            "side": -self.dz,
            "dz is too large by the batch size: (3) is the mean of the scores": self.dz * size,
            "dz is taken after the critic's step: in Algorithm 1 all gradients are taken at the "
            "old parameters": self._of_scores(moved_critic),
        }
        mistakes |= {text: self._of_pull(loss) for text, loss in self.design.pulls.items()}
        tell(
            "dz",
            dz,
            self.dz,
            mistakes,
            "dz is not the gradient of (3), the mean score of "
            f"{self.design.z} under the critic as it was",
        )

    def tell_critic(self, moved: Tensor, last: _Gradients | None) -> None:
        """Say what is wrong with the critic's step."""
        mistakes = self._critic_mistakes()
        for text, loss in self.design.scores.items():
            mistakes[text] = _gradient(loss(self.nets, self.given), self.nets.critic)
        if last is not None:
            mistakes["the critic's step contains the last turn's gradient, too: call zero_grad"] = (
                self.critic + last.critic
            )
        tell(
            "the critic's step",
            moved,
            self.critic,
            mistakes,
            f"the critic's step does not follow (2), mean critic(z_public) - mean critic("
            f"{self.design.z}), at the old parameters: look at what has been added to its .grad, "
            "and how often it steps",
        )

    def _critic_mistakes(self) -> dict[str, Tensor]:
        nets, given = self.nets, self.given
        z_late = self._late_pilot()(given.x).detach()
        late = _gradient(nets.critic(z_late).mean(), nets.critic) - self.private
        return {
            "the critic does not move: it needs a backward pass of its loss (2) and a step of its "
            "optimizer": torch.zeros_like(self.critic),
            "the critic's loss has the wrong sign: it would learn to give the public side high "
            "scores, and f, which walks down, would walk away from it": -self.critic,
            "the critic's step has nothing of the private side: either its loss lacks it, or the "
            "gradient of the client's loss (3) was still in its .grad and cancelled it, so clear "
            "that after dz is taken": self.public,
            "the critic's step contains the gradient of the client's loss (3) instead of its "
            "own": self.private,
            "the critic's loss is a sum over the batch: both of its parts are means": (
                len(given.x) * self.public - len(given.z) * self.private
            ),
            "the critic looks at features of the pilot after the pilot's step: take all gradients "
            "at the old parameters": late,
        }

    def _late_pilot(self) -> nn.Module:
        """A copy of the pilot that has taken its step."""
        pilot, start = twin(self.nets.pilot), 0
        with torch.no_grad():
            for parameter in pilot.parameters():  # the pilot's come before those behind it
                part = self.pair[start : start + parameter.numel()]
                parameter -= RATE * part.view_as(parameter)
                start += parameter.numel()
        return pilot

    def tell_pair(self, moved: Tensor, last: _Gradients | None) -> None:
        """Say what is wrong with the step of the pilot and the network behind it."""
        name = f"the step of pilot and {self.design.behind}"
        mistakes = self._pair_mistakes()
        for text, loss in self.design.others.items():
            value = loss(self.nets, self.given)
            if value is not None:
                mistakes[text] = _gradient(value, self.nets.pair)
        if last is not None:
            mistakes[f"{name} contains the last turn's gradient, too: call zero_grad"] = (
                self.pair + last.pair
            )
        tell(
            name,
            moved,
            self.pair,
            mistakes,
            f"{name} does not follow (1), the mean over {self.design.mean}, at the old parameters: "
            "look at your loss, and at what has been added to their .grad",
        )

    def _pair_mistakes(self) -> dict[str, Tensor]:
        nets, given, behind = self.nets, self.given, self.design.behind
        critic = _gradient(nets.critic(nets.pilot(given.x)).mean(), nets.pair)
        pilots = sum(weight.numel() for weight in nets.pilot.parameters())
        detached = self.pair.clone()
        detached[:pilots] = 0
        return {
            f"pilot and {behind} do not move: they need a backward pass of their loss (1) and a "
            "step of their optimizer": torch.zeros_like(self.pair),
            "the critic's loss moves the pilot, too: detach z_public before the critic sees "
            "it": self.pair + critic,
            "the pilot is moved to please or to tease the critic: its loss is (1) alone": (
                self.pair - critic
            ),
            f"only the {behind} learns: z_public is detached before the {behind} sees it": detached,
            f"pilot and {behind} climb their loss: it has the wrong sign": -self.pair,
        }
