"""The clients under attack as one set: their private data, and what they would send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from splitlab.arguments import described
from splitlab.core.client import Client
from splitlab.core.messages import SmashedData
from splitlab.data import Data, ImageData


class AttackedClients:
    """One client or several, as one set of private images.

    Args:
        clients: The clients under attack.

    Attributes:
        data: Their images, one client's after the other's.
        device: Where the first one computes.

    Raises:
        TypeError: If their data are no images.
        ValueError: If there is none, or their data are not of one kind.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        if not clients:
            raise ValueError(
                "the only client is the attacker, and nobody is attacked: pass all clients"
            )
        self.clients = list(clients)
        self.device = clients[0].device
        self.data = _together([client.data for client in clients])
        sizes = [len(client.data) for client in clients]
        self._first = [sum(sizes[:number]) for number in range(len(sizes) + 1)]

    @property
    def labels_reach_the_server(self) -> bool:
        """Whether labels are sent, or row numbers by which a server looks up labels."""
        return any(client.sends_labels or client.sends_index for client in self.clients)

    @property
    def send_labels(self) -> bool:
        """Whether labels are sent."""
        return any(client.sends_labels for client in self.clients)

    def look_different_in_training(self) -> list[nn.Module]:
        """Return the layers of f that behave differently in training (BatchNorm, Dropout)."""
        kinds = nn.modules.batchnorm._BatchNorm, nn.Dropout
        return [m for client in self.clients for m in client.net.modules() if isinstance(m, kinds)]

    def ask(
        self,
        about: Callable[[SmashedData], Tensor],
        rows: Tensor,
        *,
        training_mode: bool = False,
    ) -> Tensor:
        """Return the answer to the smashed data of some rows, one row for each.

        Args:
            about: Smashed data of one client -> a tensor, (m, ...).
            rows: Rows of `data`, int64 (n,).
            training_mode: As in `Client.smash`.

        Raises:
            TypeError: If the answer is no tensor with one row for each.
        """
        if len(self.clients) == 1:
            x = self.data.select(rows).x
            return _asked(about, self.clients[0].smash(x, training_mode=training_mode))
        answers, places = [], []
        for number, client in enumerate(self.clients):
            first, end = self._first[number : number + 2]
            place = ((rows >= first) & (rows < end)).nonzero().flatten()
            if len(place):
                x = client.data.select(rows[place] - first).x
                answers.append(_asked(about, client.smash(x, training_mode=training_mode)))
                places.append(place)
        order = torch.cat(places).argsort().to(answers[0].device)
        return torch.cat(answers)[order]


def _asked(about: Callable[[SmashedData], Tensor], message: SmashedData) -> Tensor:
    answer: Any = about(message)
    if not isinstance(answer, Tensor) or answer.dim() == 0 or len(answer) != len(message.z):
        raise TypeError(
            f"the attack returns {described(answer)} for smashed data of {len(message.z)} images: "
            "let it return a tensor with one row for each"
        )
    return answer


def _together(data: Sequence[Data]) -> ImageData:
    parts = [part for part in data if isinstance(part, ImageData)]
    if len(parts) < len(data):
        raise TypeError("the clients hold data that are not images: the referee scores ImageData")
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if (part.shape, part.classes, part.value_range) != (
            first.shape,
            first.classes,
            first.value_range,
        ):
            raise ValueError(
                "the clients hold images of unlike shape, classes or value range, which cannot be "
                "scored together: evaluate them one by one"
            )
    device = first.x.device
    x, y = (torch.cat([getattr(part, name).to(device) for part in parts]) for name in ("x", "y"))
    return ImageData(
        x, y, first.classes, name=first.name, part=first.part, value_range=first.value_range
    )
