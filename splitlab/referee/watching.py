"""Observers that see both sides: what the attack could reconstruct during the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splitlab.arguments import count, tensor_of
from splitlab.core.client import Client
from splitlab.core.messages import Message, SmashedData
from splitlab.core.observers import Observer
from splitlab.core.server import Server
from splitlab.data import ImageData
from splitlab.referee.metrics import matched, mse


@dataclass(frozen=True)
class Snapshot:
    """The attack's reconstructions after some steps.

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
        self.every = count("every", every, least=1)
        self.images = count("images", images, least=1)
        self.taken: list[Snapshot] = []
        self.private = torch.empty(0)
        self.value_range = (-1.0, 1.0)

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Choose the private images, and take the first snapshot.

        Raises:
            TypeError: If the server has no `reconstruct`.
        """
        data = _images("Snapshots", clients[0], server)
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
        if "settings" not in state:
            raise ValueError("this is not a state of snapshots: pass what state_dict() returned")
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


class ReceivedImages(Observer):
    """The attack's reconstructions of some private images at one moment, from the z it received.

    z is the last that the server received of an image, made by f as it was then; the decoder is
    that of the moment. An image that was not sent counts as one of zeros.

    Args:
        rows: Which images of the first client to show, int64 (n,), without repetition.
        every: Steps between two values of the curve; None for no curve.

    Attributes:
        curve: The share matched after each `every` steps.
        images: The private images of these rows, (n, C, H, W).
        kept: The last z of each of them, (n, ...); zeros where none arrived, None before the first.
        sent: Which of all private images have been sent, bool (N,).

    Raises:
        TypeError: If `rows` is no tensor.
        ValueError: If `every` is below 1, or `rows` are no different row numbers.
    """

    STATE = ("curve", "kept", "sent")

    def __init__(self, rows: Tensor, *, every: int | None = None) -> None:
        self.every = None if every is None else count("every", every, least=1)
        self.rows = tensor_of("rows", rows)
        whole = self.rows.dtype == torch.int64 and self.rows.ndim == 1
        if not whole or not len(self.rows) or len(self.rows.unique()) < len(self.rows):
            raise ValueError(
                f"rows are {self.rows.dtype} of shape {tuple(self.rows.shape)}: pass different row "
                "numbers, int64, (n,)"
            )
        self.curve: list[float] = []
        self.kept: Tensor | None = None
        self.sent = torch.empty(0, dtype=torch.bool)

    def start(self, clients: Sequence[Client], server: Server, steps: int) -> None:
        """Remember the client.

        Raises:
            TypeError: If the server has no `reconstruct`, or the client's data are no images.
            ValueError: If the client has no such rows.
        """
        data = _images("ReceivedImages", clients[0], server)
        if self.rows.min() < 0 or self.rows.max() >= len(data):
            raise ValueError(
                f"ReceivedImages watches rows up to {int(self.rows.max())}, and the client's data "
                f"have rows 0 to {len(data) - 1}: choose from those"
            )
        self._client = clients[0]
        self.curve, self.kept = [], None
        self.images = data.x[self.rows].cpu()
        self.sent = torch.zeros(len(data), dtype=torch.bool)
        self._place = torch.full((len(data),), -1)  # of a private image among the rows
        self._place[self.rows.cpu()] = torch.arange(len(self.rows))

    def message(self, message: Message) -> None:
        """Keep z of the batch."""
        turn = self._client.turn
        if (
            isinstance(message, SmashedData)
            and message.sender == self._client.name
            and turn is not None
            and turn.index is not None
        ):
            z, index = message.z.detach().cpu(), turn.index.cpu()
            if self.kept is None:
                self.kept = torch.zeros(len(self.rows), *z.shape[1:])
            place = self._place[index]
            self.kept[place[place >= 0]] = z[place >= 0]
            self.sent[index] = True

    def step(self, step: int, client: Client, server: Any) -> None:
        """Decode what was kept, now and then."""
        if self.every is not None and (step + 1) % self.every == 0:
            self.curve.append(round(matched(self.shown(server), self.images), 4))

    def shown(self, server: Any) -> Tensor:
        """Return the reconstructions, (n, C, H, W), zeros where nothing arrived.

        Raises:
            ValueError: If no z has been sent.
        """
        if self.kept is None:
            raise ValueError("no z has been sent yet: train before you ask what is shown")
        z = self.kept.to(self._client.device)
        message = SmashedData(z=z, sender=self._client.name, step=0)
        images: Tensor = server.reconstruct(message).cpu()
        return torch.where(self.arrived.view(-1, 1, 1, 1), images, 0.0)

    @property
    def arrived(self) -> Tensor:
        """Which of the rows have been sent, bool (n,)."""
        return self.sent[self.rows.cpu()]


def _images(who: str, client: Client, server: Server) -> ImageData:
    """Return the client's images; a TypeError if there are none, or the server decodes none."""
    if not hasattr(server, "reconstruct"):
        raise TypeError(
            f"{who} watches reconstructions, and {type(server).__name__} makes none: leave it out "
            "of observers"
        )
    if not isinstance(client.data, ImageData):
        raise TypeError(f"{who} watches images, and the client's data are not images: leave it out")
    return client.data
