"""The base of a client's attacks on labels: it keeps the gradients that arrive.

In vertical split learning the server holds the labels. The client sees none, but dz_i, the gradient
of row i, is (p_i - y_i) times a vector: Li, Sun and others, ICLR 2022.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab.arguments import count, described, instance
from splitlab.core import setup
from splitlab.core.curious import HonestClient, PassiveClient
from splitlab.core.messages import Gradient
from splitlab.data import Data, ImageData
from splitlab.nets import tiny


@dataclass(frozen=True, eq=False)
class Received:
    """Received gradients, one row for each image of each batch.

    Attributes:
        step: The step of each, int64 (n,).
        index: The image's row number in the client's data, int64 (n,).
        dz: The gradients, flattened, (n, d).
    """

    step: Tensor
    index: Tensor
    dz: Tensor

    def __len__(self) -> int:
        return len(self.step)

    def of(self, rows: Tensor) -> Received:
        """Return some of the rows, chosen by a mask, bool (n,)."""
        return Received(self.step[rows], self.index[rows], self.dz[rows])

    def norms(self) -> Tensor:
        """Return the norm of each gradient, float64 (n,)."""
        norms: Tensor = self.dz.double().norm(dim=1)
        return norms

    def directions(self) -> Tensor:
        """Return each gradient scaled to norm 1, float64 (n, d); a gradient of 0 stays 0.

        That includes very small ones: a confident network sends gradients with norms of 1e-14,
        whose direction still reveals the label. `torch.nn.functional.normalize` treats such norms
        as 0.
        """
        return directions(self.dz)


@dataclass(frozen=True, eq=False)
class Inferred:
    """The labels that an attack has inferred, one row for each image of each batch.

    Attributes:
        step: The step of each, int64 (n,).
        labels: The inferred class or cluster, int64 (n,).
        score: For two classes (n,), higher the more it speaks for label 1; for K classes (n, K);
            None for an attack that gives none.
        named: Whether the classes have the names that the truth has; clusters have not.
        index: The image's row number in the client's data, int64 (n,); None where the attacker does
            not know it, a server, say.
        batches: Then the sender and the step of each batch, in the order of the rows.
    """

    step: Tensor
    labels: Tensor
    score: Tensor | None = None
    named: bool = True
    index: Tensor | None = None
    batches: tuple[tuple[str, int], ...] = ()


def directions(gradients: Tensor) -> Tensor:
    """Return each gradient, (n, ...), flattened and scaled to norm 1, float64 (n, d); 0 stays 0."""
    rows = gradients.flatten(1).double()
    norms = rows.norm(dim=1, keepdim=True)
    return rows / torch.where(norms == 0, 1.0, norms)


class Options(HonestClient, total=False):
    """Arguments of `LabelInference` that an attack takes in addition to its own."""

    classes: int
    keep: int
    seed: int


def _known(known: Any, rows: int, classes: int) -> dict[int, int]:
    """Return known labels by row number; an error if a row or a label does not exist."""
    if not isinstance(known, Mapping):
        raise TypeError(f"known is {described(known)}: pass a dictionary, as known={{row: label}}")
    checked = {}
    for row, label in known.items():
        try:
            place = setup.class_number(row, rows, name="row")
            checked[place] = setup.class_number(label, classes, name="label")
        except ValueError:
            raise ValueError(
                f"row {described(row)} is known to be {described(label)}, but rows run from 0 to "
                f"{rows - 1} and labels from 0 to {classes - 1}"
            ) from None
    return checked


class LabelInference(PassiveClient, ABC):
    """Base class of label inference: a passive client that keeps gradients and sees no label.

    A subclass overrides `score` and `infer_labels`. Both depend on what was received alone, so that
    an attack may be tried on what another one kept: `other.load_state_dict(one.state_dict())`.

    Args:
        net: The client's network f.
        data: The private images, without labels: `data.without_labels()`.
        classes: Number of classes.
        known: Known labels by row number; most attacks need none.
        keep: Steps whose gradients it keeps, from the first on: (B, d) numbers each.
        honest: Further arguments of `Client`. Row numbers are sent unless it says otherwise.

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If the data carry labels, a known row or label is not there, or a number is out
            of range.
    """

    STATE = ("_kept",)
    PROTOCOLS = ("vanilla",)

    def __init__(
        self,
        net: nn.Module,
        data: ImageData,
        *,
        classes: int = 2,
        known: Mapping[int, int] | None = None,
        keep: int = 1000,
        seed: int = 0,
        **honest: Unpack[HonestClient],
    ) -> None:
        instance("data", data, Data, "pass ImageData, without labels: data.without_labels()")
        if len(data.classes) > 1:
            raise ValueError(
                f"{type(self).__name__} must not hold the labels that it infers: "
                "pass data.without_labels()"
            )
        honest.setdefault("sends_index", True)
        super().__init__(net, data, seed=seed, **honest)
        self.classes, self.keep = count("classes", classes, least=2), count("keep", keep, least=1)
        self.known = _known({} if known is None else known, len(data), self.classes)
        self._kept: list[tuple[int, Tensor, Tensor]] = []

    def observe(self, message: Gradient, index: Tensor) -> None:
        """Keep one step's gradients."""
        if len(self._kept) < self.keep:
            self._kept.append((message.step, index.clone(), message.dz.flatten(1).clone()))

    def received(self, first: int = 0, end: int | None = None) -> Received:
        """Return the gradients of the steps `first` to `end` - 1.

        Raises:
            ValueError: If nothing was kept of these steps.
        """
        end = self.keep if end is None else end
        kept = [one for one in self._kept if first <= one[0] < end]
        if not kept:
            raise ValueError(
                f"{type(self).__name__} kept no gradient of the steps {first} to {end}: "
                f"train first; it keeps the first {self.keep} steps"
            )
        step = torch.cat([torch.full_like(index, number) for number, index, _ in kept])
        index, dz = (torch.cat(column) for column in zip(*(one[1:] for one in kept), strict=True))
        return Received(step, index, dz)

    def inferred(self, first: int = 0, end: int | None = None) -> Inferred:
        """Return the labels inferred from the steps `first` to `end` - 1.

        Rows whose label is known are left out.

        Raises:
            ValueError: If nothing was kept of these steps.
        """
        received = self.received(first, end)
        known = torch.tensor(sorted(self.known), dtype=torch.int64, device=received.index.device)
        received = received.of(~torch.isin(received.index, known))
        score = self.score(received)
        return Inferred(
            step=received.step,
            labels=self.infer_labels(received),
            score=score,
            named=score is not None,
            index=received.index,
        )

    def score(self, received: Received) -> Tensor | None:
        """Return a score of each gradient; None if the attack computes none.

        Returns:
            For two classes (n,), higher the more it speaks for label 1; for K classes (n, K).
        """
        return None

    @abstractmethod
    def infer_labels(self, received: Received) -> Tensor:
        """Return a label for each gradient, int64 (n,)."""

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example for two classes."""
        images, adam = private.without_labels(), partial(Adam, lr=1e-3)
        return cls(tiny.client(), images, optimizer=adam, batch_size=8)
