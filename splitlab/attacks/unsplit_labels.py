"""UnSplit's label inference: labels of the U-shaped protocol, from the tail's gradient.

Erdogan, Kupcu, Cicek: "UnSplit", WPES 2022, arXiv 2108.09033, section on label inference.

What the wire carries: da, the gradient of the client's mean loss with respect to the server's
output a, one row for each image of the batch, each divided by the size of the batch. The public
code does otherwise: it takes one image at a time, and compares the gradient of the tail's own
weights, which never leave the client. In that gradient each class has its row, so that the names of
the classes can be read off. In da they cannot: number the classes otherwise, in the labels and in
the tail's last layer, and da is the same. So names are known only to a server that knows the tail's
first weights.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import ClassVar, Self, Unpack

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from splitlab.arguments import NETWORK, instance
from splitlab.arguments import optimizer as made_optimizer
from splitlab.attacks.label_inference import Inferred
from splitlab.core.curious import Honest, PassiveServer
from splitlab.core.messages import Message, OutputGradient, SmashedData
from splitlab.core.party import OptimizerFactory
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets import tiny


class UnSplitLabels(PassiveServer):
    """Serve honestly, and choose the label whose gradient at a cloned tail is nearest to da.

    For each image and each class it computes the gradient that its clone of the tail would have
    sent, and guesses the class whose gradient is nearest to da. Then the clone takes a step on its
    guesses, as the tail takes one on the labels.

    Args:
        net: The honest server's network s: z -> a.
        clone: Its own tail: a -> logits (B, K), of the layers of the client's and, unless it was
            granted them (`UnSplitLabelsKnownStart`), with other first weights.
        clone_optimizer: Makes the clone's optimizer.
        seed: As in `Server`.
        honest: Further arguments of `HonestServer`.

    Attributes:
        guesses: The guessed labels of each step's batch, int64 (B,), in the order of the batches.
        batches: The sender and the step of each.

    Raises:
        TypeError: If the clone is no network, or `clone_optimizer` makes no optimizer.
        ValueError: If the clone has nothing to train.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="server, honest but curious (passive)",
        goal="infer the labels that stay with the client",
        sees=("z, once a step", "da, the gradient of its own output, one row for each image"),
        knows=("the architecture of the tail, the loss and the optimizer", "its own network s"),
        does_not_know=("the labels", "the weights of the tail"),
        source="Erdogan, Kupcu, Cicek, WPES 2022",
    )
    STATE = ("guesses", "batches")
    PASSING = ("_a",)
    PROTOCOLS = ("u_shaped",)

    def __init__(
        self,
        net: nn.Module,
        *,
        clone: nn.Module,
        clone_optimizer: OptimizerFactory,
        seed: int = 0,
        **honest: Unpack[Honest],
    ) -> None:
        super().__init__(net, seed=seed, **honest)
        instance("clone", clone, nn.Module, NETWORK)
        self.clone = clone.to(self.device)
        self.clone_optimizer = made_optimizer(
            clone_optimizer, self.clone.parameters(), who="the clone", name="clone_optimizer"
        )
        self.guesses: list[Tensor] = []
        self.batches: list[tuple[str, int]] = []
        self._a = torch.empty(0)

    def asked(self, message: OutputGradient) -> SmashedData:
        """As in `Server`; keeps the output that da belongs to, before the step that changes s."""
        asked = super().asked(message)
        if self.receiving and self._graph is not None:  # and not while da is being checked
            self._a = self._graph[1].detach()
        return asked

    def check(self, message: Message) -> None:
        """Refuse the vanilla protocol, where no tail's gradient arrives."""
        if isinstance(message, SmashedData) and message.asks == "gradient":
            raise ValueError(
                f"{type(self).__name__} infers labels from the gradient of the client's tail, and "
                "there is no tail in the vanilla protocol: use protocol=u_shaped"
            )
        super().check(message)

    def observe_output_gradient(self, message: OutputGradient) -> None:
        """Infer the batch's labels, and train the clone with them."""
        guess = self.infer_labels(self._a, message.da)
        self.guesses.append(guess)
        self.batches.append((message.sender, message.step))
        self.clone_optimizer.zero_grad()
        cross_entropy(self.clone(self._a), guess).backward()
        self.clone_optimizer.step()

    def infer_labels(self, a: Tensor, da: Tensor) -> Tensor:
        """Return the class of each row whose gradient at the clone is nearest to da, int64 (B,).

        Args:
            a: The server's output, (B, F).
            da: The gradient of the client's mean loss with respect to it, (B, F).

        Raises:
            ValueError: If the two differ in shape.
        """
        if a.shape != da.shape:
            raise ValueError(
                f"a has shape {tuple(a.shape)} and da {tuple(da.shape)}: pass the output that da "
                "is the gradient of"
            )
        a = a.detach().requires_grad_()
        logits = self.clone(a)
        distances = []
        for label in range(logits.shape[1]):
            loss = cross_entropy(logits, torch.full((len(a),), label, device=a.device))
            (candidate,) = torch.autograd.grad(loss, a, retain_graph=True)
            distances.append((candidate - da).flatten(1).square().sum(1))
        return torch.stack(distances, dim=1).argmin(1)

    def inferred(self, first: int = 0, end: int | None = None) -> Inferred:
        """Return the labels inferred in the steps `first` to `end` - 1.

        Raises:
            ValueError: If there was no such step.
        """
        guesses, batches = self.guesses[first:end], tuple(self.batches[first:end])
        if not guesses:
            raise ValueError(
                f"{type(self).__name__} has inferred nothing in the steps {first} to {end}: "
                f"train first; it has seen {len(self.guesses)} steps"
            )
        numbers = range(first, first + len(guesses))
        step = [torch.full_like(g, number) for number, g in zip(numbers, guesses, strict=True)]
        return Inferred(step=torch.cat(step), labels=torch.cat(guesses), batches=batches)

    def infer_from_weights(self, a: Tensor, gradient: Tensor) -> int:
        """Infer one image's label from the gradient of the tail's weights, as the public code.

        No message of the protocol carries that gradient, so this is here to compare with.

        Args:
            a: The server's output for the image, (1, F).
            gradient: Of the loss with respect to all of the tail's weights, flattened, (P,).
        """
        logits, weights = self.clone(a), list(self.clone.parameters())
        distances = []
        for label in range(logits.shape[1]):
            loss = cross_entropy(logits, torch.tensor([label], device=a.device))
            parts = torch.autograd.grad(loss, weights, retain_graph=True)
            candidate = torch.cat([part.flatten() for part in parts])
            distances.append(float((candidate - gradient).square().sum()))
        return distances.index(min(distances))

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose clone has the tail's layer."""
        clone = nn.Linear(10, 10)
        return cls(tiny.server(), clone=clone, clone_optimizer=partial(Adam, lr=1e-3))


class UnSplitLabelsKnownStart(UnSplitLabels):
    """Infer labels as `UnSplitLabels` does, with a clone that starts at the tail's first weights.

    Then the names of its classes are the client's, and a right guess keeps the clone the tail's
    twin: it takes the same step.
    """

    threat: ClassVar[ThreatModel] = replace(
        UnSplitLabels.threat,
        does_not_know=("the labels", "the weights of the tail after the first step"),
        grants=("the first weights of the tail",),
    )
