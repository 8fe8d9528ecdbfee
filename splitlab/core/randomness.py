"""Explicit randomness: each party's own random state, and batches from a seeded sampler."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from splitlab import arguments
from splitlab.core.kinds import Misfit, generator_fits, have_same_keys, kind_of
from splitlab.core.state import Stateful

P = ParamSpec("P")
R = TypeVar("R")


class RandomState:
    """A party's own random state, which replaces torch's global one while the party works.

    Layers such as Dropout know only the global stream. Lending makes a run a function of its seeds,
    and keeps what one party draws from moving what another one draws.

    Args:
        owner: What the state is for ("client", "attacker"): two owners with one seed draw
            differently.
        seed: Any integer.
        device: Device on which the party computes; its stream is lent too when it is a GPU.

    Raises:
        ValueError: If the seed is no whole number.
    """

    def __init__(self, owner: str, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = arguments.seed(seed)
        self.device = torch.device(device)
        mixed = zlib.crc32(f"{owner}:{self.seed}".encode())
        self._cpu = torch.Generator().manual_seed(mixed).get_state()
        self._gpu = None
        if self.device.type == "cuda":
            self._gpu = torch.Generator(self.device).manual_seed(mixed).get_state()
        self._is_lent = False
        self._first = self._cpu

    def identity(self) -> dict[str, Any]:
        """Return what determines its numbers, other than its owner's name."""
        drawn = "not yet" if torch.equal(self._cpu, self._first) else self._cpu
        return {"seed": self.seed, "drawn": drawn}

    @contextmanager
    def lent(self, *, keep: bool = True) -> Iterator[None]:
        """Swap this state into torch's global stream, and restore the global one afterwards.

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

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a state that `state_dict` returned, on a CPU or a GPU.

        Raises:
            ValueError: If it is none. Nothing is changed then.
        """
        where, mine = "RandomState", {"cpu": torch.Generator()}
        if self._gpu is not None:
            mine["gpu"] = torch.Generator(self.device)
        if not isinstance(state, Mapping) or set(state) != {"cpu", "gpu"}:
            # The party may have moved: what it drew on another device has no use on this one.
            have_same_keys({"cpu": None}, state, where)
        for name, generator in mine.items():
            if name in state:
                generator_fits(generator, state[name], f"{where}[{name!r}]")
        self._cpu = state["cpu"].clone()
        if self._gpu is not None and "gpu" in state:
            self._gpu = state["gpu"].clone()


class HasRandomness(Protocol):
    """An object with its own random state."""

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
    """Batches of row numbers: a fresh permutation each epoch, without a last partial batch.

    Args:
        n: Number of rows.
        batch_size: Rows in a batch, at most `n`.
        owner: Whose batches these are ("client", "public").
        seed: Any integer.

    Raises:
        ValueError: If a batch is larger than the data, or an argument is no whole number.
    """

    STATE = ("permutation", "position")

    def __init__(self, n: int, batch_size: int, *, owner: str, seed: int) -> None:
        n, seed = arguments.count("n", n, least=0), arguments.seed(seed)
        batch_size = arguments.count("batch_size", batch_size, least=1)
        if batch_size > n:
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
        """Return what determines its batches, other than its owner's name."""
        drawn = (self.position, self.generator) if self.position else "not yet"
        return {"n": self.n, "batch_size": self.batch_size, "seed": self.seed, "drawn": drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state_dict` returned.

        Raises:
            ValueError: If it comes from a sampler of another number of rows, or from none. Nothing
                is changed then.
        """
        have_same_keys(self.state_dict(), state, "Sampler")
        order, position = state["permutation"], state["position"]
        if not isinstance(order, Tensor) or order.dtype != torch.int64 or order.ndim != 1:
            raise Misfit(f"Sampler.permutation is {kind_of(order)} and should be row numbers")
        if len(order) != self.n:
            raise ValueError(
                f"this sampler draws from {self.n} rows and the saved one from {len(order)}: "
                "load it beside the data it was saved with"
            )
        if not torch.equal(order.cpu().sort().values, torch.arange(self.n)):
            raise Misfit(f"Sampler.permutation is no order of {self.n} rows")
        if type(position) is not int or not 0 <= position <= self.n:
            found = arguments.described(position)
            raise Misfit(f"Sampler.position is {found} and should be from 0 to {self.n}")
        super().load_state_dict(state)
