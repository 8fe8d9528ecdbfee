"""Label permutation: the server trains on class numbers whose meaning it does not know.

Gao, Zhang: "PCAT: Functionality and Data Stealing from Split Learning by Pseudo-Client Attack",
USENIX Security 2023, propose it against an attacker who trains a client of its own through the
server's network, with the labels of public images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from splitlab.arguments import count, generator
from splitlab.arguments import seed as whole
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client


class LabelPermutation(Defense):
    """Rename the classes that the server sees by a secret permutation, and undo it in its scores.

    It changes neither z nor the gradient of the task.

    Args:
        classes: How many there are, at least 2.
        renamed: How many of them get another name, 2 to `classes`; None for all.
        seed: Makes the permutation; the client's secret.

    Attributes:
        names: The number under which each class is sent, (classes,).

    Raises:
        ValueError: If a number of classes is out of its range.
    """

    PROTOCOLS = ("vanilla",)

    def __init__(self, classes: int, *, renamed: int | None = None, seed: int) -> None:
        self.classes, self.seed = count("classes", classes, least=2), whole(seed)
        classes = self.classes
        self.renamed = classes if renamed is None else count("renamed", renamed, least=0)
        if not 2 <= self.renamed <= classes:
            raise ValueError(
                f"renamed is {self.renamed}: choose a number of classes from 2 to {classes}"
            )
        chosen = torch.randperm(classes, generator=generator(seed))[: self.renamed]
        self.names = torch.arange(classes)
        self.names[chosen] = chosen.roll(1)  # a cycle: each chosen class gets another's number

    def __repr__(self) -> str:
        return f"LabelPermutation({self.classes}, renamed={self.renamed})"

    def prepare(self, client: Client) -> None:
        """Refuse a client that sends no labels or has other classes.

        Raises:
            ValueError: In these cases.
        """
        if not client.sends_labels:
            raise ValueError(
                f"{client.name} sends no labels in its protocol, so a permutation of them "
                "would defend nothing: leave out LabelPermutation"
            )
        highest = int(client.data.y.max())
        if highest >= self.classes:
            raise ValueError(
                f"there is a label {highest} and LabelPermutation has {self.classes} classes: pass "
                "the number of classes of the task"
            )

    def begin(self, client: Client, turn: Turn) -> None:
        """Rename the labels of the batch."""
        assert turn.labels is not None
        turn.labels = self.names.to(turn.labels.device)[turn.labels]

    def scores(self, client: Client, logits: Tensor) -> Tensor:
        """Return the server's scores, (N, classes), under the original class numbers."""
        return logits[:, self.names.to(logits.device)]

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example that renames all ten classes."""
        return cls(10, seed=1)
