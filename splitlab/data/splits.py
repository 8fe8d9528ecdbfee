"""Splitting whole blocks of rows among the three parties of an experiment."""

import math
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from splitlab.arguments import described, generator, reals
from splitlab.data.errors import DataError

PARTS = ("private", "public", "referee")

D = TypeVar("D")  # `Data`, or a kind of it


class Split(NamedTuple, Generic[D]):
    """The three parts of a data set: `private, public, referee = data.split(seed)`.

    Attributes:
        private: The client's own rows.
        public: The attacker's own rows.
        referee: What the scorer trains its classifiers on; None after `official_split`.
    """

    private: D
    public: D
    referee: D | None


def deal(block: Tensor, seed: int, shares: tuple[int, int, int], name: str) -> list[Tensor]:
    """Split blocks into private, public and referee.

    Args:
        block: The block that each row belongs to, int64, shape (N,).
        seed: Permutes the blocks before they are dealt; the same on every machine.
        shares: Proportions of the blocks for the three parts.
        name: The name of the data set, for messages.

    Returns:
        Three masks, bool, shape (N,): the rows of each part.

    Raises:
        DataError: If there are too few blocks to give each part at least one.
    """
    try:
        numbers = reals("shares", shares)
    except TypeError:
        numbers = []
    if len(numbers) != 3 or not all(0 < number < math.inf for number in numbers):
        raise DataError(
            f"{name}: shares must be three numbers above 0 (private, public, referee), "
            f"not {described(shares)}."
        )
    blocks = block.unique().cpu()
    order = blocks[permutation(len(blocks), seed)].to(block.device)
    first = round(len(blocks) * shares[0] / sum(shares))
    second = round(len(blocks) * (shares[0] + shares[1]) / sum(shares))
    if not 0 < first < second < len(blocks):
        raise DataError(
            f"{name}: {len(blocks)} blocks of rows are too few to deal to private, "
            f"public and referee in the proportions {shares}; use more data."
        )
    dealt = order[:first], order[first:second], order[second:]
    return [torch.isin(block, blocks) for blocks in dealt]


def permutation(n: int, seed: int) -> Tensor:
    """Permute the numbers 0 to n - 1.

    Args:
        n: How many numbers.
        seed: Decides the order, and nothing else does; the same on every machine.

    Returns:
        Int64, shape (n,).

    Raises:
        ValueError: If the seed is no whole number.
    """
    return torch.randperm(n, generator=generator(seed))
