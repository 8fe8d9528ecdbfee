"""The floor of every hijack: the same decoder, applied to an honestly trained client."""

from __future__ import annotations

from typing import ClassVar, Self, Unpack

from torch import Tensor, nn

from splitlab.arguments import able
from splitlab.attacks.fsha import FSHA
from splitlab.attacks.property_inference import PropertyInference
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.messages import SmashedData
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny


class NoHijack(PassiveServer):
    """Serve honestly, and decode z with a decoder trained on public images alone.

    Nothing makes the client's z agree with the pilot's, so this should fail; how far it fails is
    what the hijack adds.

    Args:
        net: The honest server's network.
        attack: A fresh hijack, whose pilot and decoder are trained and used. Its gradients are
            never sent.
        honest: Further arguments of `HonestServer`.

    Raises:
        TypeError: If the attack is no hijack.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="reconstruct the private images from z",
        sees=("z and labels, once a step",),
        knows=("public images of the same kind as the private ones", "its own network s"),
        does_not_know=("the private images", "the client's network f: neither weights nor layers"),
    )

    def __init__(
        self,
        net: nn.Module,
        attack: FSHA | PropertyInference,
        *,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        able(
            "attack", attack, ("rehearse", "reconstruct"), "pass a hijack, such as sl.FSHA.at(...)"
        )
        self.attack = attack
        self.public = attack.public

    def observe(self, message: SmashedData) -> None:
        """Train pilot and decoder on one public batch, if they have anything to train."""
        self.attack.rehearse()

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W)."""
        return self.attack.reconstruct(message)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x))."""
        return self.attack.autoencode(x)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose pilot and decoder learn."""
        return cls(tiny.server(), FSHA.conformance_example(private, public))
