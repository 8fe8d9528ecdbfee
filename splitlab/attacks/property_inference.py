"""Property inference: the hijack with a classifier in the decoder's place.

Pasquini, Ateniese, Bernaschi: "Unleashing the Tiger: Inference Attacks on Split Learning",
CCS 2021, the section on property inference; the critic's and the client's losses, and their
equation numbers, are those of `FSHA`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from splitlab.attacks.fsha import FSHA
from splitlab.core.messages import SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets.evaluation import EVALUATION_BATCH, evaluating, in_parts


class PropertyInference(FSHA):
    """Hijack the client until a classifier of the server reads a property of the image off z.

    The property is the label of the public images; the client's own labels and task may be
    anything. By default the paper's design: a learned pilot, and the head in the decoder's place.
    The fast design of `FSHA` takes part with its fixed pilot, its decoder and its critic: the head
    then learns on the pilot's codes, moves nothing else, and there are pictures as well.

    Args:
        public: The attacker's own images, labelled with the property, with at least two classes
            among them.
        pilot: f~, (B, C, H, W) -> z. May have nothing to learn.
        head: C, z -> logits (B, K), one for each class of the public images.
        critic: D, (B, ...) -> (B, 1) scores, without a sigmoid.
        decoder: z -> (B, C, H, W) with nothing to learn, where the critic sees images; None for no
            pictures.
        autoencoder_optimizer: Makes the optimizer of pilot and head.
        options: Further arguments of `FSHA`.

    Raises:
        ValueError: If all public images are of one class, the head has another number of outputs
            than there are classes, the decoder has something to learn, the critic is to see images
            without a decoder, or an argument is wrong for `FSHA`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, malicious (active)",
        goal="tell a property of each private image from z",
        sees=("z, once a step", "labels of the client's task, which it ignores"),
        knows=(
            "public images of the same kind as the private ones",
            "the property of each public image",
            "the shape of z",
        ),
        does_not_know=(
            "the private images and their property",
            "the client's network f: neither weights nor layers",
        ),
        source="Pasquini, Ateniese, Bernaschi, CCS 2021",
    )

    def __init__(
        self,
        public: ImageData,
        *,
        pilot: nn.Module,
        head: nn.Module,
        critic: nn.Module,
        decoder: nn.Module | None = None,
        autoencoder_optimizer: OptimizerFactory = partial(Adam, lr=1e-5),
        **options: Any,
    ) -> None:
        if len(public.y.unique()) < 2:
            raise ValueError(
                f"all {len(public)} public images have the label {public.classes[public.y[0]]!r}: "
                "label them with the property, and give the attack images of at least two classes"
            )
        if options.get("critic_sees") == "image" and decoder is None:
            raise ValueError('critic_sees="image" needs a decoder, and there is none: pass decoder')
        if decoder is not None and any(True for _ in decoder.parameters()):
            raise ValueError(
                "the decoder has parameters, which nothing here would train: pass one that is the "
                "inverse of a fixed pilot, such as nets.DepthToSpace"
            )
        self.has_decoder = decoder is not None
        super().__init__(
            public,
            pilot=pilot,
            decoder=nn.Identity() if decoder is None else decoder,
            critic=critic,
            autoencoder_optimizer=autoencoder_optimizer,
            **options,
        )
        self.head = head.to(self.device)
        # In place of that of pilot and decoder.
        self.autoencoder_optimizer = autoencoder_optimizer(
            [*self.pilot.parameters(), *self.head.parameters()]
        )
        outputs = self.classify(self.public.x[:1]).shape[1]
        if outputs != len(public.classes):
            raise ValueError(
                f"the head has {outputs} outputs and the public images have {len(public.classes)} "
                "classes: make one output for each class"
            )

    def __repr__(self) -> str:
        return f"PropertyInference({', '.join(self.public.classes)}; {super().__repr__()})"

    def public_loss(self, x: Tensor, y: Tensor, z_public: Tensor) -> Tensor:
        """How badly the head tells the property y of public images from z_public; a scalar.

        It takes equation (1)'s place: the mean cross-entropy. A learned pilot follows it, too.
        """
        return cross_entropy(self.head(z_public), y)

    def infer_property(self, message: SmashedData) -> Tensor:
        """Return the probability of each class of the property, (N, K), for smashed data.

        Where there is a decoder the head judges the code of the decoded picture: what else is in z
        no critic has ever looked at.
        """
        if self.has_decoder:
            return self.classify(self.reconstruct(message))
        return in_parts(self.head, message.z).softmax(1)

    def classify(self, x: Tensor) -> Tensor:
        """Return the same for head(pilot(x)): what the attacker's networks could tell at best."""
        with evaluating(self.pilot, self.head):
            logits = [self.head(self.pilot(part)) for part in x.split(EVALUATION_BATCH)]
        return torch.cat(logits).softmax(1)

    def reconstruct(self, message: SmashedData) -> Tensor:
        """Decode smashed data into images (N, C, H, W), where there is a decoder.

        Raises:
            ValueError: If there is none.
        """
        self._needs_decoder()
        return super().reconstruct(message)

    def autoencode(self, x: Tensor) -> Tensor:
        """Return decoder(pilot(x)), where there is a decoder.

        Raises:
            ValueError: If there is none.
        """
        self._needs_decoder()
        return super().autoencode(x)

    def _needs_decoder(self) -> None:
        if not self.has_decoder:
            raise ValueError(
                "this attack has a head in the decoder's place and makes no pictures: ask for "
                "infer_property, or run sl.FSHA"
            )

    def _stateful(self) -> list[str]:
        return [*super()._stateful(), "head"]
