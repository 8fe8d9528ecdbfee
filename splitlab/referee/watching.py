"""Observers that see both sides: what the attack could show while the training ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlab.core.client import Client
from splitlab.core.messages import Message, SmashedData
from splitlab.core.observers import Observer
from splitlab.core.server import Server
from splitlab.data import ImageData
from splitlab.referee.metrics import mse


@dataclass(frozen=True)
class Snapshot:
    """What the attack could show after some steps.

    Attributes:
        step: Steps taken so far.
        images: Reconstructions of the observed private images, (n, C, H, W).
        mse: Their mean squared error, on the data's own scale.
    """

    step: int
    images: Tensor
    mse: float


class Snapshots(Observer):
    """Watches a few private images being reconstructed while the training runs.

    f is in evaluation mode, with the client's defenses on. A snapshot shows current weights on
    images that may have been sent earlier: it overstates what a server that keeps nothing else
    would hold from those earlier messages.

    Args:
        every: Steps between two snapshots; there is one before the first step, too.
        images: How many private images to watch (the first ones of the first client).

    Attributes:
        private: The watched private images, (n, C, H, W).
        taken: The snapshots, in order.
        value_range: The range of the pixels.
    """

    def __init__(self, every: int = 10, *, images: int = 8) -> None:
        if every < 1 or images < 1:
            raise ValueError(f"Snapshots(every={every}, images={images}): both must be at least 1")
        self.every, self.images = every, images
        self.taken: list[Snapshot] = []
        self.private = torch.empty(0)
        self.value_range = (-1.0, 1.0)

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Choose the private images, and take the first snapshot.

        Raises:
            TypeError: If the server has no `reconstruct`.
        """
        if not hasattr(server, "reconstruct"):
            raise TypeError(
                f"Snapshots watches reconstructions, and {type(server).__name__} makes none: "
                "leave it out of observers"
            )
        data = clients[0].data
        if not isinstance(data, ImageData):
            raise TypeError(
                "Snapshots watches images, and the client's data are none: leave it out"
            )
        self.private, self.value_range = data.x[: self.images], data.value_range
        self.taken = []
        self._take(0, clients[0], server)

    def step(self, step: int, client: Client, server: Server) -> None:
        """Take a snapshot after every `every` steps."""
        if (step + 1) % self.every == 0:
            self._take(step + 1, client, server)

    def state_dict(self) -> dict[str, Any]:
        """Return the settings, the watched images and the snapshots."""
        return {
            "settings": (self.every, self.images),
            "private": self.private,
            "value_range": self.value_range,
            "taken": [{"step": t.step, "images": t.images, "mse": t.mse} for t in self.taken],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it comes from snapshots of another frequency or number of images.
        """
        if state["settings"] != (self.every, self.images):
            every, images = state["settings"]
            raise ValueError(
                f"these snapshots were taken with Snapshots(every={every}, images={images}), not "
                f"with every={self.every}, images={self.images}: use the former, or begin anew"
            )
        self.private = state["private"].to(self.private.device)
        self.value_range = state["value_range"]
        self.taken = [Snapshot(**taken) for taken in state["taken"]]

    def _take(self, step: int, client: Client, server: Any) -> None:
        images = server.reconstruct(client.smash(self.private))
        self.taken.append(Snapshot(step, images.cpu(), mse(images, self.private)))


class ReceivedError(Observer):
    """The error of every batch as the server received it: f in training mode, at that very step.

    Attributes:
        mse: Mean squared error of each step's batch, on the data's own scale.
    """

    STATE = ("mse",)

    def __init__(self) -> None:
        self.mse: list[float] = []

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Remember who takes part."""
        self._clients = {client.name: client for client in clients}
        self._server: Any = server
        self.mse = []

    def message(self, message: Message) -> None:
        """Decode smashed data with the decoder of this moment, and compare with its batch."""
        turn = self._clients[message.sender].turn if message.sender in self._clients else None
        if isinstance(message, SmashedData) and turn is not None:
            self.mse.append(mse(self._server.reconstruct(message), turn.x))
