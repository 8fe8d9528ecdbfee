"""Label flipping: a malicious client trains on its own images with false labels.

Biggio, Nelson, Laskov: "Support Vector Machines Under Adversarial Label Noise", ACML 2011; in
federated learning: Tolpegin, Truex, Gursoy, Liu: "Data Poisoning Attacks Against Federated Learning
Systems", ESORICS 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn

from splitlab.arguments import described, instance
from splitlab.core import returned, setup
from splitlab.core.client import Client, Turn
from splitlab.core.curious import HonestClient
from splitlab.core.threat import ThreatModel
from splitlab.data import Data, ImageData
from splitlab.settings import tiny


class LabelFlipping(Client):
    """Train as an honest client does, but with some classes labeled as others.

    The network learns to make these mistakes on everybody's images.

    Args:
        net: f, as the honest clients have it.
        data: Its own images, with their true labels.
        flips: True class -> false label, as numbers in `data.classes`.
        seed: As in `Client`.
        honest: Further arguments of `Client`; `tail` among them, as the honest clients have it.

    Raises:
        TypeError: If the data are none, or `flips` is no dictionary.
        ValueError: If there is no tail; or if `flips` is empty, names a class that there is not, or
            a class for itself.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, malicious (active)",
        goal="make the shared network take images of one class for another",
        sees=(
            "in its own turns, the server's output and the gradient with respect to z",
            "the weights of f and tail, which clients pass on or have averaged",
        ),
        knows=("f and the tail", "its own images and labels"),
        does_not_know=("the other clients' images", "the server's network"),
        source="Biggio, Nelson, Laskov, ACML 2011; Tolpegin et al., ESORICS 2020",
    )
    PROTOCOLS = ("u_shaped",)

    def __init__(
        self,
        net: nn.Module,
        data: Data,
        *,
        flips: Mapping[int, int],
        seed: int = 0,
        **honest: Unpack[HonestClient],
    ) -> None:
        instance("data", data, Data, "pass ImageData, such as a part of a split")
        setup.can_label(honest.get("tail"))
        self.flips = _checked(flips, len(data.classes))
        super().__init__(net, data, seed=seed, **honest)
        returned.images(self, self.data.x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, step {self.step}, flips {self.flips})"

    def next_turn(self) -> Turn:
        """Return the next of its own images, with false labels."""
        turn = super().next_turn()
        assert turn.labels is not None
        turn.labels = self.flip(turn.labels)
        return turn

    def flip(self, labels: Tensor) -> Tensor:
        """Return the labels, int64 (N,), with the classes of `flips` relabeled."""
        flipped = labels.clone()
        for true, false in self.flips.items():
            flipped[labels == true] = false
        return flipped

    def attack_set(self, data: ImageData) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images of a test set that the attack targets; see `sl.evaluate`.

        Returns:
            Rows of the flipped classes, int64 (n,); these images as they are, (n, C, H, W); and
            what the attacker wants them to be taken for, int64 (n,).
        """
        rows = torch.isin(data.y, torch.tensor([*self.flips], device=data.y.device)).nonzero()[:, 0]
        return rows, data.x[rows], self.flip(data.y[rows])

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that exchanges two classes."""
        options = HonestClient(optimizer=tiny.client_optimizer, batch_size=8)
        options["tail"] = nn.Linear(10, 10)
        return cls(tiny.client_net(), private, flips={0: 1, 1: 0}, **options)


def _checked(flips: Mapping[int, int], classes: int) -> dict[int, int]:
    """Return the flips as a dictionary of numbers; an error if they are invalid."""
    if not isinstance(flips, Mapping):
        raise TypeError(f"flips is {described(flips)}: pass a dictionary, as {{0: 6}}")
    if not flips:
        raise ValueError("flips is empty: name at least one class and its false label, as {0: 6}")
    checked = {}
    for true, false in flips.items():
        true = setup.class_number(true, classes, name="a class in flips")
        false = setup.class_number(false, classes, name=f"the false label of {true} in flips")
        if true == false:
            raise ValueError(
                f"flips has {true}: {false}, which changes nothing: choose another label"
            )
        checked[true] = false
    return checked
