"""A hijack that knows SplitGuard: batches that look falsely labeled are answered honestly.

After the abstract of SplitSpy (Fu et al., NDSS 2023), whose code was never released. The rule by
which a batch looks false is this library's.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from splitlab.attacks.fsha import FSHA
from splitlab.attacks.multitask import MultitaskFSHA
from splitlab.core.messages import Gradient, Message, ServerOutput, SmashedData
from splitlab.core.server import HonestServer
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny
from splitlab.nets.evaluation import in_parts

REMEMBERED = 20  # batches in the usual accuracy
USUAL = 0.5  # below this, s cannot tell a false batch from one that it has not learned
DOUBTED = 0.5  # of the usual accuracy
UNLABELED = (
    "GuardAwareFSHA looks for false labels, and none arrive: use protocol=vanilla and a client "
    "that sends its labels, or use MultitaskFSHA"
)


class GuardAwareFSHA(MultitaskFSHA):
    """Hijack the client, but answer honestly where the task's network finds false labels.

    A batch looks false if s classifies less than half as many of its images by their labels as is
    usual, once the usual accuracy is at least a half. Then the answer is the honest gradient for
    these labels, from s as it is, and neither s nor the hijack learns from the batch. All others
    are answered as by `MultitaskFSHA`.

    It needs the labels, so it takes part in the vanilla protocol alone.

    Attributes:
        suspected: The steps whose batches looked false.
    """

    PROTOCOLS = ("vanilla",)
    STATE = ("accuracies", "suspected")
    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="reconstruct the private images from z, unnoticed by SplitGuard",
        sees=("z and labels, once a step",),
        knows=(
            "public images of the same kind as the private ones",
            "the shape of z",
            "the task's network s, which it trains",
            "that the client may send false labels",
        ),
        does_not_know=("which batches are false", "the private images", "the client's network f"),
        source="after the abstract of Fu et al., NDSS 2023",
    )

    def __init__(
        self, hijack: FSHA, *, task: HonestServer, weight: float = 1.0, delay: int = 0
    ) -> None:
        super().__init__(hijack, task=task, weight=weight, delay=delay)
        self.accuracies: list[float] = []
        self.suspected: list[int] = []

    def check(self, message: Message) -> None:
        """Refuse a z without labels, and messages that the hijack or the task cannot use."""
        if isinstance(message, SmashedData) and message.labels is None:
            raise ValueError(UNLABELED)
        super().check(message)

    def reply(self, message: SmashedData) -> Gradient:
        """Answer honestly if the labels look false, and hijack otherwise.

        Raises:
            ValueError: As in `FSHA` and in `HonestServer`; and where no labels arrive.
        """
        assert message.labels is not None
        guess = in_parts(self.task.net, message.z).argmax(1)
        accuracy = float((guess == message.labels).float().mean())
        usual = sum(self.accuracies) / max(len(self.accuracies), 1)
        if usual < USUAL or accuracy >= DOUBTED * usual:
            self.accuracies = [*self.accuracies, accuracy][-REMEMBERED:]
            return super().reply(message)
        self.suspected.append(message.step)
        if message.step < self.delay:  # an honest server learns from such a batch, too
            return super().reply(message)
        dz = self._as_labeled(message.z, message.labels)
        self.metrics["dz_norm"] = self.metrics["task_norm"] = dz.norm()
        return self.gradient(message, dz)

    def forward(self, message: SmashedData) -> ServerOutput:
        """Refuse the U-shaped protocol.

        Raises:
            ValueError: Always.
        """
        raise ValueError(UNLABELED)

    def _as_labeled(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return the honest gradient for these labels, without a step of s."""
        z = z.detach().clone().requires_grad_()
        with self.task.randomness.lent():
            (dz,) = torch.autograd.grad(self.task.loss(self.task.net(z), labels), z)
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that weighs hijack and task alike."""
        hijack = FSHA.conformance_example(private, public)
        return cls(hijack, task=HonestServer(tiny.server()), weight=0.5)
