"""Query-free inversion: train a surrogate client to fit the server's own layers.

He, Zhang, Lee: "Model Inversion Attacks Against Collaborative Inference", ACSAC 2019:
with neither f's weights nor answers from it, the attacker reconstructs f from the layers that it
holds and images of its own, and then inverts what it has reconstructed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, Self, Unpack

from torch import Tensor, nn
from torch.optim import Adam

from splitlab.arguments import IMAGES, NETWORK, count, instance, number, one_of
from splitlab.arguments import optimizer as made_optimizer
from splitlab.arguments import seed as whole
from splitlab.attacks.white_box import invert
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.grants import Granted, refused
from splitlab.core.messages import Message, SmashedData
from splitlab.core.randomness import Sampler
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny, upsampling_decoder
from splitlab.nets.evaluation import in_parts
from splitlab.nets.pair_decoder import PairDecoder, train_decoder
from splitlab.nets.shapes import output_of


class QueryFreeInversion(PassiveServer):
    """Serve honestly; then train a surrogate client under the frozen s, and invert it.

    Call `prepare` after training, before `reconstruct`. Nothing makes the surrogate's z agree with
    f's but that s has to understand both, so this should work worse than the others. The vanilla
    protocol is needed: s must end in the classes. The defaults were chosen on digits at tiny scale
    (`benchmarks/choose_inversion.py`).

    Args:
        net: The honest server's network s.
        public: The attacker's own images, of the private ones' shape and value range, with labels.
        surrogate: A network of the client's architecture, with first weights of its own.
        inversion: "descent" on the image through the surrogate, or a "decoder" trained on the
            surrogate's z of the public images.
        surrogate_steps: Steps of the surrogate's training.
        surrogate_rate: Adam's learning rate there.
        batch_size: Public images in a batch of it.
        parameters: About how many parameters the decoder has; see `BlackBoxInversion`.
        steps: Steps of the descent, or of the decoder's training.
        rate: Adam's learning rate at the first step of the descent; the decoder has its own.
        weight: Weight of the total variation in the descent.
        seed: Seeds batches, decoder and the server's random state.
        honest: Further arguments of `HonestServer`.

    Attributes:
        losses: The cross-entropy of s(surrogate(x_pub)) in each step of the surrogate's training.

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If the inversion is unknown, a number is out of range, or the surrogate does not
            take the public images.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="reconstruct the private images from z",
        sees=("z and labels, once a step",),
        knows=(
            "its own network s",
            "public images of the same kind as the private ones, with labels",
        ),
        does_not_know=("the private images", "the weights of f"),
        grants=("the architecture of f",),
        source="He, Zhang, Lee, ACSAC 2019",
    )
    STATE = ("losses",)
    GRANTED: ClassVar[Granted] = "nothing"
    LATER = ("decoder",)
    PROTOCOLS = ("vanilla",)

    def __init__(
        self,
        net: nn.Module,
        *,
        public: ImageData,
        surrogate: nn.Module,
        inversion: Literal["descent", "decoder"] = "descent",
        surrogate_steps: int = 100,
        surrogate_rate: float = 1e-3,
        batch_size: int = 32,
        parameters: int | None = None,
        steps: int = 200,
        rate: float = 0.1,
        weight: float = 0.3,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        instance("public", public, ImageData, IMAGES)
        instance("surrogate", surrogate, nn.Module, NETWORK)
        one_of("inversion", inversion, ("descent", "decoder"))
        self.public = public.to(self.device)
        self.surrogate = surrogate.to(self.device)
        self.inversion = inversion
        self.surrogate_steps = count("surrogate_steps", surrogate_steps, least=1)
        self.steps, self.rate = count("steps", steps, least=1), number("rate", rate, above=True)
        self.weight, self.seed = number("weight", weight), whole(seed)
        self.parameters = None if parameters is None else count("parameters", parameters, least=1)
        adam = partial(Adam, lr=number("surrogate_rate", surrogate_rate, above=True))
        learned = self.surrogate.parameters()
        self.surrogate_optimizer = made_optimizer(adam, learned, who="the surrogate")
        do = "give it the architecture of the client's network"
        output_of("surrogate", surrogate, self.public.x[:1], what="public images", do=do)
        self.sampler = Sampler(len(public), batch_size, owner="public", seed=seed)
        self.decoder: PairDecoder | None = None
        self.losses: list[float] = []

    def prepare(self, grant: None = None) -> None:
        """Train the surrogate for more steps, so that s infers the public labels from its z.

        Args:
            grant: Nothing.

        Raises:
            TypeError: If something is granted.
            ValueError: If s does not end in one number for each class of the public data.
        """
        if grant is not None:
            raise refused(self, grant)
        s = self.frozen_net()
        self.surrogate.train().requires_grad_()
        with self.attacker_randomness.lent():
            losses = [self._imitate_batch(s) for _ in range(self.surrogate_steps)]
            self.losses += [float(loss) for loss in losses]
            if self.inversion == "decoder":
                z = in_parts(self.surrogate, self.public.x)
                self.decoder = train_decoder(
                    z,
                    self.public.x,
                    value_range=self.public.value_range,
                    parameters=self.parameters,
                    steps=self.steps,
                    seed=self.seed,
                )

    def check(self, message: Message) -> None:
        """Refuse the U-shaped protocol, where the outputs of s are not classes."""
        if isinstance(message, SmashedData) and message.asks == "output":
            raise ValueError(
                "QueryFreeInversion trains its surrogate on the classes in which s ends, and in "
                "the U-shaped protocol s does not reach them: use protocol=vanilla"
            )
        super().check(message)

    def _imitate_batch(self, s: nn.Module) -> Tensor:
        rows = self.sampler.next().to(self.device)
        logits = s(self.surrogate(self.public.x[rows]))
        if logits.dim() != 2 or logits.shape[1] < len(self.public.classes):
            raise ValueError(
                f"s ends in {tuple(logits.shape[1:])} numbers and the public data have "
                f"{len(self.public.classes)} classes: this attack needs the vanilla protocol, "
                "where s ends in the classes"
            )
        loss = nn.functional.cross_entropy(logits, self.public.y[rows])
        self.surrogate_optimizer.zero_grad()
        loss.backward()
        self.surrogate_optimizer.step()
        return loss.detach()

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Return images (N, C, H, W) in the public value range, by inverting the surrogate.

        Raises:
            RuntimeError: If there is no trained surrogate.
            ValueError: If z has another shape than the surrogate's output.
        """
        if not self.losses:
            raise RuntimeError(
                "the attack has trained no surrogate yet: call attack.prepare() after training"
            )
        if self.decoder is not None:
            return self.decoder.images(message.z)
        return invert(
            self.surrogate,
            message.z,
            self.public.x.mean(0),
            value_range=self.public.value_range,
            steps=self.steps,
            rate=self.rate,
            weight=self.weight,
        )

    def rebuild(self, name: str, state: Any) -> PairDecoder:
        """Return a decoder of the same shape as the saved one."""
        shape = tuple(state["weights"]["mean"].shape)
        about: dict[str, Any] = {"parameters": self.parameters, "seed": self.seed}
        network = upsampling_decoder(shape, self.public.shape, **about).to(self.device)
        return PairDecoder.like(state["weights"], network, self.public.value_range)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example: surrogate and decoder each take three steps."""
        return cls(
            tiny.server(),
            public=public,
            surrogate=tiny.client(seed=1),
            inversion="decoder",
            surrogate_steps=3,
            batch_size=8,
            steps=3,
        )
