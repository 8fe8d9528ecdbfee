"""Explicit randomness: a random state for each party, and batches from a seeded sampler."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from splitlab.core.state import Stateful

P = ParamSpec("P")
R = TypeVar("R")


class RandomState:
    """A party's own random state, lent to torch's global stream while the party works.

    Layers such as Dropout know only the global stream. Lending makes a run a function of its seeds,
    and keeps what one party draws from moving what another one draws.

    Args:
        owner: What the state is for ("client", "attacker"): two owners with one seed draw
            differently.
        seed: Any integer.
        device: Device on which the party computes; its stream is lent too when it is a GPU.
    """

    def __init__(self, owner: str, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.device = torch.device(device)
        mixed = zlib.crc32(f"{owner}:{seed}".encode())
        self._cpu = torch.Generator().manual_seed(mixed).get_state()
        self._gpu = None
        if self.device.type == "cuda":
            self._gpu = torch.Generator(self.device).manual_seed(mixed).get_state()
        self._is_lent = False
        self._first = self._cpu

    def identity(self) -> dict[str, Any]:
        """Return what its numbers are a function of, beside its owner's name."""
        drawn = "not yet" if torch.equal(self._cpu, self._first) else self._cpu
        return {"seed": self.seed, "drawn": drawn}

    @contextmanager
    def lent(self, *, keep: bool = True) -> Iterator[None]:
        """Swap this state into the global stream, and the global one back afterwards.

        Args:
            keep: Whether this state advances. A referee that only looks passes False.
        """
        if self._is_lent:  # a method of the party called another one: the stream is ours already
            yield
            return
        outer_cpu = torch.get_rng_state()
        outer_gpu = torch.cuda.get_rng_state(self.device) if self._gpu is not None else None
        torch.set_rng_state(self._cpu)
        if self._gpu is not None:
            torch.cuda.set_rng_state(self._gpu, self.device)
        self._is_lent = True
        try:
            yield
        finally:
            self._is_lent = False
            if keep:
                self._cpu = torch.get_rng_state()
                if self._gpu is not None:
                    self._gpu = torch.cuda.get_rng_state(self.device)
            torch.set_rng_state(outer_cpu)
            if outer_gpu is not None:
                torch.cuda.set_rng_state(outer_gpu, self.device)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state as byte tensors."""
        state = {"cpu": self._cpu.clone()}
        if self._gpu is not None:
            state["gpu"] = self._gpu.clone()
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a state that `state_dict` returned."""
        self._cpu = state["cpu"].clone()
        if self._gpu is not None and "gpu" in state:
            self._gpu = state["gpu"].clone()


class HasRandomness(Protocol):
    """Whatever has a random state of its own."""

    randomness: RandomState


Self_ = TypeVar("Self_", bound=HasRandomness)


def with_own_randomness(
    method: Callable[Concatenate[Self_, P], R],
) -> Callable[Concatenate[Self_, P], R]:
    """Decorate a party's method so that it draws from the party's own random state."""

    def wrapped(self: Self_, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.randomness.lent():
            return method(self, *args, **kwargs)

    functools.update_wrapper(wrapped, method)
    return wrapped


class Sampler(Stateful):
    """Batches of row numbers: a fresh permutation each epoch, the last partial batch dropped.

    Args:
        n: Number of rows.
        batch_size: Rows in a batch, at most `n`.
        owner: Whose batches these are ("client", "public").
        seed: Any integer.

    Raises:
        ValueError: If a batch is larger than the data.
    """

    STATE = ("permutation", "position")

    def __init__(self, n: int, batch_size: int, *, owner: str, seed: int) -> None:
        if not 1 <= batch_size <= n:
            raise ValueError(
                f"cannot draw batches of {batch_size} from {n} rows: "
                f"choose a batch_size from 1 to {n}"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.generator = torch.Generator().manual_seed(zlib.crc32(f"{owner} rows:{seed}".encode()))
        self.permutation = torch.randperm(n, generator=self.generator)
        self.position = 0

    def next(self) -> Tensor:
        """Return the next batch's row numbers, int64 (batch_size,), on the CPU."""
        if self.position + self.batch_size > self.n:
            self.permutation = torch.randperm(self.n, generator=self.generator)
            self.position = 0
        rows = self.permutation[self.position : self.position + self.batch_size]
        self.position += self.batch_size
        return rows.clone()

    def identity(self) -> dict[str, Any]:
        """Return what its batches are a function of, beside its owner's name."""
        drawn = (self.position, self.generator) if self.position else "not yet"
        return {"n": self.n, "batch_size": self.batch_size, "seed": self.seed, "drawn": drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it comes from a sampler of another number of rows.
        """
        if len(state["permutation"]) != self.n:
            raise ValueError(
                f"this sampler draws from {self.n} rows and the saved one from "
                f"{len(state['permutation'])}: load it beside the data it was saved with"
            )
        super().load_state_dict(state)
