"""A backdoor through the cut: a malicious client teaches the shared network a trigger.

Gu, Dolan-Gavitt, Garg: "BadNets", arXiv 1708.06733, 2017, with the client of a split network as the
one who poisons.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Self, Unpack

from torch import Tensor, nn

from splitlab.arguments import IMAGES, instance, number
from splitlab.arguments import share as checked_share
from splitlab.attacks.triggers import Trigger, checked, triggered, triggered_set
from splitlab.core import returned, setup
from splitlab.core.client import Client, Turn
from splitlab.core.curious import HonestClient
from splitlab.core.messages import Gradient, OutputGradient, ServerOutput
from splitlab.core.randomness import with_own_randomness
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.settings import tiny


class Backdoor(Client):
    """Put a trigger on a share of every batch, and label these images as the target.

    The rest of the batch is honest, so that the network keeps its accuracy on images without the
    trigger.

    Two factors adapt the attack to a server that compares updates, as `sl.SafeSplit` does. The
    server receives the gradient of the triggered images multiplied by `scale` and that of the
    others by `scale_rest`, and the attacker divides the gradient that comes back for them by the
    same. f and the tail, which the clients share, learn as if nothing had been scaled, if the
    server's layers work on each row by itself. (BatchNorm at the server mixes the rows.) With a
    small `scale`, the server learns almost only from the honest rows; with a small `scale_rest` as
    well, it learns little from the attacker at all.

    Args:
        net: f, as the honest clients have it.
        data: Its own images, with their true labels.
        target: The class that triggered images are to be taken for, a number in `data.classes`.
        trigger: Images -> images with the trigger; a `Patch` by default.
        share: The share of a batch that gets the trigger, above 0 and at most 1, rounded to a
            number of rows, and at least one row.
        scale: Factor on the server's gradient for triggered images, above 0; 1 for none.
        scale_rest: The same for the other images.
        seed: As in `Client`.
        honest: Further arguments of `Client`; `tail` among them, as the honest clients have it.

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If there is no tail; if the target, the share or a scale makes no sense; or if
            the trigger does not fit the images.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, malicious (active)",
        goal="make the shared network take every image with a trigger for the target class",
        sees=(
            "in its own turns, the server's output and the gradient with respect to z",
            "the weights of f and tail, which clients pass on or have averaged",
        ),
        knows=("f and the tail", "its own images and labels"),
        does_not_know=("the other clients' images", "the server's network"),
        source="Gu, Dolan-Gavitt, Garg, arXiv 1708.06733, 2017",
    )
    PROTOCOLS = ("u_shaped",)

    def __init__(
        self,
        net: nn.Module,
        data: ImageData,
        *,
        target: int,
        trigger: Trigger | None = None,
        share: float = 0.5,
        scale: float = 1.0,
        scale_rest: float = 1.0,
        seed: int = 0,
        **honest: Unpack[HonestClient],
    ) -> None:
        instance("data", data, ImageData, IMAGES)
        setup.can_label(honest.get("tail"))
        target = setup.class_number(target, len(data.classes), name="target")
        share = checked_share("share", share)
        scale = number("scale", scale, above=True)
        scale_rest = number("scale_rest", scale_rest, above=True)
        trigger = checked(trigger, data)
        super().__init__(net, data, seed=seed, **honest)
        returned.images(self, self.data.x)
        self.target, self.share, self.trigger = target, share, trigger
        self.scale, self.scale_rest = scale, scale_rest
        self.value_range = data.value_range

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name}, step {self.step}, target {self.target}, "
            f"{self.trigger!r}, share {self.share:g}, scales {self.scale:g}, {self.scale_rest:g})"
        )

    def next_turn(self) -> Turn:
        """Return the next of its own images; the first rows get trigger and target label."""
        turn = super().next_turn()
        assert turn.labels is not None
        n = self._triggered(len(turn.x))
        # Written into a copy of the private rows, which indexing has made.
        turn.x[:n] = triggered(self.trigger, turn.x[:n], self.value_range)
        turn.labels[:n] = self.target
        return turn

    @with_own_randomness
    def finish(self, message: ServerOutput) -> OutputGradient:
        """Run the tail, and scale the gradient that the server receives."""
        answer = super().finish(message)
        return dataclasses.replace(answer, da=answer.da * self._factors(answer.da))

    @with_own_randomness
    def backward(self, message: Gradient) -> None:
        """Undo the scaling in the gradient that comes back, and take the step."""
        super().backward(dataclasses.replace(message, dz=message.dz / self._factors(message.dz)))

    def attack_set(self, data: ImageData) -> tuple[Tensor, Tensor, Tensor]:
        """Return the test images that are attacked, as in `triggered_set`; see `sl.evaluate`."""
        return triggered_set(self.trigger, self.target, data)

    def _triggered(self, rows: int) -> int:
        return max(1, round(self.share * rows))

    def _factors(self, gradient: Tensor) -> Tensor:
        """Return a factor for each row of a gradient (B, ...)."""
        factors = gradient.new_full((len(gradient),), self.scale_rest)
        factors[: self._triggered(len(gradient))] = self.scale
        return factors.view(-1, *[1] * (gradient.dim() - 1))

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that scales the gradient."""
        options = HonestClient(optimizer=tiny.client_optimizer, batch_size=8)
        options["tail"] = nn.Linear(10, 10)
        return cls(tiny.client_net(), private, target=1, scale=0.01, scale_rest=0.5, **options)
