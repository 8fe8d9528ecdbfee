"""NoPeek: train f so that z depends less on the images, measured by distance correlation.

Vepakomma, Singh, Gupta, Raskar: "NoPeek: Information Leakage Reduction to Share Activations in
Distributed Deep Learning", ICDM Workshops 2020, arXiv 2008.09161. Distance correlation: Szekely,
Rizzo, Bakirov: "Measuring and Testing Dependence by Correlation of Distances", Annals of Statistics
35, 2007.

Two papers' "NoPeek" can be different defenses. The public code of the hijack and that of SDAR
compute the distance correlation, `distance_correlation` here. A benchmark's code squares the
distances: `squared_distance_correlation`, which sees linear dependence alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from splitlab.arguments import TENSOR, count, flag, function, generator, instance, number
from splitlab.core.client import Defense, Turn
from splitlab.data import ImageData

if TYPE_CHECKING:
    from splitlab.core.client import Client

Statistic = Callable[[Tensor, Tensor], Tensor]


class NoPeek(Defense):
    """Add `alpha` times a dependence of z on the images to the client's loss.

    The client takes one backward pass through f with the server's gradient and its own. The server
    can answer with a longer gradient: nothing here bounds the ratio of the two.

    The statistic is one batch's. Its value under independence depends on the size of the batch and
    is far above 0 for a small one, which no `alpha` undoes; see `permuted`.

    Args:
        alpha: The weight, at least 0; at 0 there is no defense.
        statistic: Images (B, ...) and z (B, ...) -> a scalar with a graph to z.
        own_step: Changes the client's update rule to that of the hijack's public code, for
            comparison with it: the optimizer takes two steps a turn, first with this gradient and
            then with the server's. Both are taken at the old weights, and share one Adam state.

    Raises:
        TypeError: If `statistic` is no function.
        ValueError: If `alpha` is negative or not finite.
    """

    PASSING = ("gradients",)

    def __init__(
        self, alpha: float, *, statistic: Statistic | None = None, own_step: bool = False
    ) -> None:
        self.alpha = number("alpha", alpha)
        self.statistic = distance_correlation if statistic is None else statistic
        function("statistic", self.statistic, "pass a function of images and z, to a scalar")
        self.own_step = flag("own_step", own_step)
        self.gradients: list[Tensor | None] = []

    def __repr__(self) -> str:
        name = getattr(self.statistic, "__name__", type(self.statistic).__name__)
        return f"NoPeek({self.alpha:g}, {name}{', own step' if self.own_step else ''})"

    def local_loss(self, client: Client, turn: Turn) -> Tensor | None:
        """Return `alpha` times the statistic of this batch's images and z.

        With a step of its own it returns None, and keeps the gradients for `grads`.
        """
        if self.alpha == 0:
            return None
        assert turn.z is not None
        loss = self.alpha * self.statistic(turn.x, turn.z)
        if not self.own_step:
            return loss
        learned = _learned(client)
        self.gradients = list(
            torch.autograd.grad(loss, learned, retain_graph=True, allow_unused=True)
        )
        return None

    def grads(self, client: Client, turn: Turn) -> None:
        """Take its own step, if there is one; then the client steps with the server's gradients."""
        own, self.gradients = self.gradients, []
        if not own or not turn.update:
            return
        learned = _learned(client)
        servers = [weight.grad for weight in learned]
        _set_gradients(learned, own)
        client.optimizer.step()
        _set_gradients(learned, servers)

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example in which `alpha` outweighs the task."""
        return cls(10.0)


def distance_correlation(x: Tensor, z: Tensor) -> Tensor:
    """Return the distance correlation of two samples, from 0 to 1 (Szekely et al., 2007).

    With double-centered Euclidean distances A and B of n rows it is
    sqrt(mean(A B) / sqrt(mean(A A) mean(B B))). Of the whole distributions it is 0 only if they are
    independent; of n rows it is positive even then.

    Args:
        x: One sample, (n, ...).
        z: The other, (n, ...): row by row of the same things.

    Returns:
        A scalar in z's precision, with a graph to both; 0 where a sample is constant.

    Raises:
        ValueError: If the numbers of rows differ.
    """
    return _correlation(_centered(_distances(x, z)), _centered(_distances(z, x)))


def squared_distance_correlation(x: Tensor, z: Tensor) -> Tensor:
    """Return the correlation of squared distances, which detects linear dependence only.

    Double-centered squared distances are inner products, up to a factor of -2: the square of this
    statistic is the RV coefficient (Robert, Escoufier, 1976), or linear CKA. It is 0 for
    uncorrelated samples, however dependent. Arguments and errors as in `distance_correlation`.
    """
    return _correlation(_centered(_distances(x, z) ** 2), _centered(_distances(z, x) ** 2))


@torch.no_grad()
def bias_corrected(x: Tensor, z: Tensor) -> float:
    """Return the bias-corrected squared distance correlation (Szekely, Rizzo, 2013).

    Its mean under independence is close to 0 at any number of rows, so that it can be negative.

    Args:
        x: One sample, (n, ...), of at least 4 rows.
        z: The other, (n, ...).

    Raises:
        ValueError: If there are fewer rows, or their numbers differ.
    """
    instance("x", x, Tensor, TENSOR)
    if len(x) < 4:
        raise ValueError(f"there are {len(x)} rows: the bias-corrected statistic needs at least 4")
    a, b = _u_centered(_distances(x, z)), _u_centered(_distances(z, x))
    lengths = float(a.norm() * b.norm())
    return 0.0 if lengths <= 0 else float((a * b).sum()) / lengths


@torch.no_grad()
def permuted(
    x: Tensor,
    z: Tensor,
    *,
    statistic: Statistic = distance_correlation,
    times: int = 20,
    seed: int = 0,
) -> float:
    """Return the mean of a statistic when the rows of z are paired with other rows of x.

    It is what the statistic shows where nothing depends on anything, at this number of rows.

    Args:
        x: One sample, (n, ...).
        z: The other, (n, ...).
        statistic: As in `NoPeek`.
        times: Permutations, at least 1.
        seed: Seeds them.

    Raises:
        ValueError: If there is no permutation, or the numbers of rows differ.
    """
    times, drawn = count("times", times, least=1), generator(seed)
    instance("z", z, Tensor, TENSOR)
    orders = [torch.randperm(len(z), generator=drawn).to(z.device) for _ in range(times)]
    return sum(float(statistic(x, z[order])) for order in orders) / times


def _learned(client: Client) -> list[Tensor]:
    """Return what the client's optimizer trains."""
    groups = client.optimizer.param_groups
    return [weight for group in groups for weight in group["params"] if weight.requires_grad]


def _set_gradients(weights: list[Tensor], gradients: list[Tensor | None]) -> None:
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return Euclidean distances (n, n) between rows (n, ...), in the precision of both samples."""
    for sample in (rows, others):
        instance("a sample", sample, Tensor, TENSOR)
    if len(rows) != len(others):
        raise ValueError(
            f"the samples have {len(rows)} and {len(others)} rows: pass equally many rows of both"
        )
    flat = rows.flatten(1).to(torch.promote_types(rows.dtype, others.dtype))
    # Not by inner products, whose rounding is as large as short distances.
    return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")


def _centered(distances: Tensor) -> Tensor:
    """Return distances centered so that the mean of every row and column is zero."""
    rows, columns = distances.mean(1, keepdim=True), distances.mean(0, keepdim=True)
    return distances - rows - columns + distances.mean()


def _u_centered(distances: Tensor) -> Tensor:
    """Return distances centered without bias, 0 on the diagonal (Szekely, Rizzo, 2013)."""
    n = len(distances)
    rows, columns = distances.sum(1, keepdim=True), distances.sum(0, keepdim=True)
    centered = distances - (rows + columns) / (n - 2) + distances.sum() / ((n - 1) * (n - 2))
    return centered - centered.diag().diag()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    lengths, product = a.norm() * b.norm(), (a * b).sum()
    if lengths <= 0 or product <= 0:  # constant, or rounding: the root has no slope there
        return 0 * product
    return torch.sqrt(product / lengths)
