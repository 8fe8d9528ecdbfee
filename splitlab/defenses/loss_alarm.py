"""Watching the loss, the simplest detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from torch import Tensor

from splitlab.arguments import count
from splitlab.core.client import Turn
from splitlab.data import ImageData
from splitlab.defenses.detector import Detector

if TYPE_CHECKING:
    from splitlab.core.client import Client


class LossAlarm(Detector):
    """Alarm if the client's loss has not fallen after some steps.

    In the vanilla protocol the client knows no loss but one that the server reports, which proves
    nothing, so it takes part in the U-shaped protocol alone, where the client's tail computes the
    loss. A server that trains the task beside its hijack makes that loss fall as well (Pasquini,
    Ateniese, Bernaschi, CCS 2021, discussion of detection).

    Args:
        threshold: A mean loss above it, in nats, is an alarm.
        after: Steps before the first judgment, at least 0.
        window: The last so many losses are averaged, at least 1.
        stop: As in `Detector`.

    Raises:
        ValueError: If a number is out of range; when the client is made, if it has no tail.
    """

    STATE = ("losses",)
    PROTOCOLS = ("u_shaped",)
    NEEDS = ("its own tail and labels", "some steps of patience")

    def __init__(
        self, threshold: float, *, after: int = 50, window: int = 10, stop: bool = True
    ) -> None:
        super().__init__(threshold, stop=stop)
        self.after = count("after", after, least=0)
        self.window = count("window", window, least=1)
        self.losses: list[float] = []

    def prepare(self, client: Client) -> None:
        """Check that the client computes a loss."""
        if client.tail is None:
            raise ValueError(
                "LossAlarm needs the loss, which only the server knows in the vanilla protocol: "
                "give the client a tail and use protocol=u_shaped"
            )

    def incoming(self, client: Client, turn: Turn, dz: Tensor) -> Tensor:
        """Return dz unchanged.

        Raises:
            HijackingDetected: As in `Detector.see`.
        """
        if turn.fake:
            return dz
        self.losses = [*self.losses, float(client.metrics["task_loss"])][-self.window :]
        if client.step >= self.after and len(self.losses) == self.window:
            score = sum(self.losses) / self.window
            self.see(client, score, f"the mean loss of the last {self.window} steps is {score:.2f}")
        return dz

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that judges at once, and counts alarms."""
        return cls(1.0, after=0, window=1, stop=False)
