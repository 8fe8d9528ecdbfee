"""Black-box inversion: ask the client what z it makes of public images, and learn the way back.

He, Zhang, Lee: "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019:
the attacker may query f as an oracle, and trains an inverse network on the pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self, Unpack

from torch import Tensor, nn

from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.messages import SmashedData
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny, upsampling_decoder
from splitlab.nets.pair_decoder import PairDecoder, train_decoder


class BlackBoxInversion(PassiveServer):
    """Serve honestly; then train a decoder on pairs (x_pub, z) that an oracle answered.

    Call `query` with the oracle before `reconstruct`. The oracle is used there and not kept.

    Args:
        net: The honest server's network s.
        public: The attacker's own images, of the private ones' shape and value range.
        decoder: z, standardised number by number -> (B, C, H, W). By default an upsampling decoder
            made for the first z that the oracle returns.
        steps: Steps of the decoder's training.
        rate: Adam's learning rate.
        batch_size: Pairs in a batch of the decoder's training.
        seed: Seeds the decoder and its batches, and the server's random state.
        honest: Further arguments of `HonestServer`.

    Attributes:
        queries: How many images the oracle has been asked about.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive), with an oracle",
        goal="reconstruct the private images from z",
        sees=("z and labels, once a step",),
        knows=("its own network s", "public images of the same kind as the private ones"),
        does_not_know=("the private images", "the client's network f: neither weights nor layers"),
        grants=("an oracle: f's answers to images of its own choice, after training",),
        source="He, Zhang, Lee, ACSAC 2019",
    )
    STATE = ("queries",)
    LATER = ("decoder",)

    def __init__(
        self,
        net: nn.Module,
        *,
        public: ImageData,
        decoder: nn.Module | None = None,
        steps: int = 200,
        rate: float = 2e-3,
        batch_size: int = 64,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        self.public = public.to(self.device)
        self.first_decoder = None if decoder is None else decoder.to(self.device)
        self.steps, self.rate, self.batch_size, self.seed = steps, rate, batch_size, seed
        self.decoder: PairDecoder | None = None
        self.queries = 0

    def query(self, oracle: Callable[[Tensor], Tensor], n: int | None = None) -> None:
        """Ask the oracle about public images, and train the decoder on its answers, from scratch.

        Args:
            oracle: Images (n, C, H, W) -> z (n, ...), such as `client.smash`.
            n: How many images to ask about, the first ones; all of them by default.

        Raises:
            ValueError: If there are not so many public images, or the answers are not one for each.
        """
        n = len(self.public) if n is None else n
        if not 2 <= n <= len(self.public):
            raise ValueError(
                f"the attacker has {len(self.public)} public images and cannot ask about {n}: "
                "choose n from 2 to that number"
            )
        x = self.public.x[:n]
        z = oracle(x).detach().clone().to(self.device)  # own memory, whatever the oracle kept
        self.queries += n
        with self.attacker_randomness.lent():
            self.decoder = train_decoder(
                z,
                x,
                value_range=self.public.value_range,
                decoder=self._network(tuple(z.shape[1:])),
                steps=self.steps,
                rate=self.rate,
                batch_size=self.batch_size,
                seed=self.seed,
            )

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W), in the public value range.

        Raises:
            RuntimeError: If no oracle has been asked.
        """
        if self.decoder is None:
            raise RuntimeError(
                "the attack has no pairs to learn from yet: call attack.query(client.smash) after "
                "training"
            )
        return self.decoder.images(message.z)

    def rebuild(self, name: str, state: Any) -> PairDecoder:
        """Return a decoder of the saved one's shape."""
        network = self._network(tuple(state["weights"]["mean"].shape)).to(self.device)
        return PairDecoder.like(state["weights"], network, self.public.value_range)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return one whose decoder takes three steps."""
        return cls(tiny.server(), public=public, steps=3, batch_size=8)

    def _network(self, z_shape: tuple[int, ...]) -> nn.Module:
        """A decoder as it is before training, for standardised z of this shape."""
        if self.first_decoder is not None:
            return copy.deepcopy(self.first_decoder)
        return upsampling_decoder(z_shape, self.public.shape, seed=self.seed)
