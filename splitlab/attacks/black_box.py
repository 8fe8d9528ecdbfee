"""Black-box inversion: query the client on public images, and learn to invert its answers.

He, Zhang, Lee: "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019:
the attacker may query f as an oracle, and trains an inverse network on the pairs.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, Unpack

from torch import Tensor, nn

from splitlab.arguments import IMAGES, NETWORK, count, instance, number
from splitlab.arguments import seed as whole
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.grants import Granted, Oracle, refused
from splitlab.core.messages import SmashedData
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny, upsampling_decoder
from splitlab.nets.evaluation import duplicate
from splitlab.nets.pair_decoder import PairDecoder, train_decoder


class BlackBoxInversion(PassiveServer):
    """Serve honestly, then train a decoder on pairs (x_pub, z) from an oracle.

    Call `prepare` with the oracle before `reconstruct`. The oracle is used there and not kept.

    Args:
        net: The honest server's network s.
        public: The attacker's own images, of the private ones' shape and value range.
        decoder: z, standardized number by number -> (B, C, H, W). By default an upsampling decoder
            made for the first z that the oracle returns.
        parameters: About how many parameters the default decoder has. Give one number where
            attacks behind different cuts are compared: by default the decoder grows with z's
            channels (see `upsampling_decoder`).
        questions: How many public images to ask about, the first ones; all of them by default.
        steps: Steps of the decoder's training.
        rate: Adam's learning rate.
        batch_size: Pairs in a batch of the decoder's training.
        seed: Seeds the decoder and its batches, and the server's random state.
        honest: Further arguments of `HonestServer`.

    Attributes:
        queries: How many images the oracle has been asked about.

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If there are not so many public images, or a number is out of range.
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
    GRANTED: ClassVar[Granted] = "an oracle"
    LATER = ("decoder",)

    def __init__(
        self,
        net: nn.Module,
        *,
        public: ImageData,
        decoder: nn.Module | None = None,
        parameters: int | None = None,
        questions: int | None = None,
        steps: int = 200,
        rate: float = 2e-3,
        batch_size: int = 64,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        instance("public", public, ImageData, IMAGES)
        if decoder is not None:
            instance("decoder", decoder, nn.Module, NETWORK)
        self.public = public.to(self.device)
        self.questions = (
            len(public) if questions is None else count("questions", questions, least=2)
        )
        if self.questions > len(public):
            raise ValueError(
                f"questions is {questions} and the attacker has {len(public)} public images: "
                "choose from 2 to that number"
            )
        self.first_decoder = None if decoder is None else decoder.to(self.device)
        self.steps, self.rate = count("steps", steps, least=1), number("rate", rate, above=True)
        self.batch_size, self.seed = count("batch_size", batch_size, least=1), whole(seed)
        self.parameters = None if parameters is None else count("parameters", parameters, least=1)
        self.decoder: PairDecoder | None = None
        self.queries = 0

    def prepare(self, grant: Oracle) -> None:
        """Query the oracle on public images, and train the decoder on its answers, from scratch.

        Args:
            grant: The oracle: images (n, C, H, W) -> smashed data, such as `client.smash`.

        Raises:
            TypeError: If it is no oracle.
            ValueError: If the answers are not one for each image.
        """
        if not callable(grant):
            raise refused(self, grant)
        x = self.public.x[: self.questions]
        z = grant(x).delivered().z.to(self.device)  # own memory, whatever the oracle kept
        self.queries += len(x)
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
                "the attack has no pairs to learn from yet: call attack.prepare(client.smash) "
                "after training"
            )
        return self.decoder.images(message.z)

    def rebuild(self, name: str, state: Any) -> PairDecoder:
        """Return a decoder of the same shape as the saved one."""
        network = self._network(tuple(state["weights"]["mean"].shape)).to(self.device)
        return PairDecoder.like(state["weights"], network, self.public.value_range)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose decoder takes three steps."""
        return cls(tiny.server(), public=public, steps=3, batch_size=8)

    def _network(self, z_shape: tuple[int, ...]) -> nn.Module:
        """Return an untrained decoder for standardized z of this shape."""
        if self.first_decoder is not None:
            return duplicate(self.first_decoder, self.first_decoder)
        about: dict[str, Any] = {"parameters": self.parameters, "seed": self.seed}
        return upsampling_decoder(z_shape, self.public.shape, **about)
