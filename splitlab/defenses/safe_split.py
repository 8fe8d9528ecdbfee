"""SafeSplit: a server that rolls back the training of a client whose update is unlike the others'.

Rieger, Pegoraro, Kumari, Abera, Knauer, Sadeghi: "SafeSplit: A Novel Defense Against Client-Side
Backdoor Attacks in Split Learning", NDSS 2025, arXiv 2501.06650.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, Unpack

import torch
from scipy.fft import dct
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from splitlab.arguments import count
from splitlab.arguments import share as checked_share
from splitlab.core.curious import Honest
from splitlab.core.messages import Gradient, ServerOutput, SmashedData, Weights
from splitlab.core.server import HonestServer
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny

PASSED_ON = ("state", "optimizer", "samples")  # of a message of weights


class SafeSplit(HonestServer):
    """Compare how each client's turn changed the server's layers, and roll back outliers.

    For clients in turn whose weights pass through the server:
    `sl.Sequential(sl.u_shaped, turn=..., through_server=True)`. At the end of each turn the server
    keeps its layers B, what the client hands on (f and tail) and both optimizers' states. Of the
    last `window` turns it compares two things:

    - the low frequencies of the update: the first `share` of the coefficients of the discrete
      cosine transform (DCT) of B - B', where B' is what the turn began with;
    - the rotation of the weights: (arctan B - arctan B') / 2 pi, number by number.

    A turn's score is, by each, the sum of its Euclidean distances to its window // 2 + 1 nearest
    neighbors, and a turn is benign if it is among the window // 2 + 1 smallest scores by both. If
    the last turn is not, the server goes back to the newest turn that is benign and was not rolled
    back before, and hands on that turn's f and tail. The client stays in the training.

    The description leaves some things open. Here all parameters form one vector; a turn that was
    rolled back stays among those compared; until `window` turns are complete, none is rolled back.

    Args:
        net: The server's layers: z -> a.
        window: Turns that are compared, at least 3; the paper compares as many as there are
            clients.
        share: The share of DCT coefficients, from low frequencies up, above 0 and at most 1.
        seed: As in `Server`.
        honest: Further arguments of `HonestServer`.

    Attributes:
        verdicts: For each turn its client's name, and whether it was rolled back.

    Raises:
        ValueError: If the window or the share is out of range; in training, if clients take turns
            and their weights do not pass through the server.
    """

    threat: ClassVar[ThreatModel] = replace(
        HonestServer.threat,
        sees=("z, once a step", "f and the tail at the end of every turn, which pass through it"),
        does_not_know=("the images",),
        source="Rieger et al., NDSS 2025",
    )
    STATE = ("turns", "verdicts", "began", "sender")

    def __init__(
        self,
        net: nn.Module,
        *,
        window: int = 10,
        share: float = 0.1,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        window, share = count("window", window, least=3), checked_share("share", share)
        super().__init__(net, seed=seed, **honest)
        self.window, self.share = window, share
        self.turns: list[dict[str, Any]] = []
        self.verdicts: list[tuple[str, bool]] = []
        # What the turn under way began with.
        self.began: dict[str, Any] = {"layers": self._layers()}
        self.sender = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, window {self.window}, share {self.share:g})"

    def reply(self, message: SmashedData) -> Gradient:
        """Answer as an honest server does (vanilla protocol)."""
        self._take_note(message)
        return super().reply(message)

    def forward(self, message: SmashedData) -> ServerOutput:
        """Answer as an honest server does (U-shaped protocol)."""
        self._take_note(message)
        return super().forward(message)

    def relay(self, message: Weights) -> Weights:
        """Judge the turn that has ended, and pass on its weights or those of an earlier turn."""
        turn = self._turn(message)
        self.turns = [*self.turns, turn][-self.window :]
        full, last = len(self.turns) == self.window, len(self.turns) - 1
        benign = self.benign()
        turn["rolled_back"] = full and last not in benign
        self.verdicts.append((message.sender, turn["rolled_back"]))
        if turn["rolled_back"]:
            earlier = [self.turns[k] for k in benign if not self.turns[k]["rolled_back"]]
            turn = earlier[-1] if earlier else self.began
            self.net.load_state_dict(turn["net"])
            self.optimizer.load_state_dict(copy.deepcopy(turn["optimizer"]))
        self.began, self.sender = turn, ""
        return replace(message, sender=self.name, **turn["passed_on"])

    def benign(self) -> list[int]:
        """Return the turns, as places in `turns`, that both scores put in the majority."""
        if not self.turns:
            return []
        size = len(self.turns) // 2 + 1
        majorities = []
        for what in ("low_frequencies", "rotation"):
            order = scores([turn[what] for turn in self.turns]).argsort(stable=True)
            majorities.append(set(order[:size].tolist()))
        return sorted(set.intersection(*majorities))

    def _take_note(self, message: SmashedData) -> None:
        """Raise a ValueError if another client continues and no weights passed through."""
        if self.sender not in ("", message.sender):
            raise ValueError(
                f"{message.sender} follows {self.sender} and no weights passed through the server, "
                "so it could not roll back: use sl.Sequential(..., through_server=True)"
            )
        self.sender = message.sender

    def _turn(self, message: Weights) -> dict[str, Any]:
        """Return everything needed to compare the turn and to roll back to its end."""
        before, after = self.began["layers"], self._layers()
        return {
            "layers": after,
            "low_frequencies": low_frequencies(after - before, self.share),
            "rotation": rotation(before, after),
            "net": {name: value.clone() for name, value in self.net.state_dict().items()},
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "passed_on": {what: getattr(message, what) for what in PASSED_ON},
        }

    def _layers(self) -> Tensor:
        return parameters_to_vector(self.net.parameters()).detach().clone()

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example with the shortest window."""
        return cls(tiny.server(), window=3)


def low_frequencies(update: Tensor, share: float) -> Tensor:
    """Return the first share of the DCT coefficients (type II, orthonormal) of an update.

    Args:
        update: (n,).
        share: Above 0 and at most 1; at least one coefficient is kept.

    Returns:
        float64, on the CPU.
    """
    coefficients = torch.from_numpy(dct(update.cpu().double().numpy(), norm="ortho"))
    return coefficients[: max(1, round(share * len(coefficients)))].clone()


def rotation(before: Tensor, after: Tensor) -> Tensor:
    """Return (arctan after - arctan before) / 2 pi of weights (n,), float64, on the CPU.

    The paper says that an earlier version of it wrote arccos, which has no value for weights
    outside of -1 to 1.
    """
    return (after.cpu().double().atan() - before.cpu().double().atan()) / (2 * torch.pi)


def scores(points: Sequence[Tensor]) -> Tensor:
    """Return each point's sum of distances to its N // 2 + 1 nearest neighbors among N points (d,).

    Returns:
        float64, (N,).
    """
    rows = torch.stack(list(points))
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    # The nearest is the point itself, at distance 0.
    return distances.sort(1).values[:, 1 : len(points) // 2 + 2].sum(1)
