"""Fisher information about an image in z with Gaussian noise, which bounds unbiased attackers.

Guo, Karrer, Chaudhuri, van der Maaten: "Bounding Training Data Reconstruction in Private (Deep)
Learning", ICML 2022 (dFIL); for split inference Maeng, Guo, Kariyappa, Suh: "Bounding the
Invertibility of Privacy-Preserving Instance Encoding Using Fisher Information", NeurIPS 2023.

The bounds are of Cramer and Rao's kind: they hold for an *unbiased* attacker. One that knows what
images look like is biased towards them, and can have a smaller error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from splitlab.arguments import TENSOR, call, count, described, function, instance, number


def fisher_information(
    encode: Callable[[Tensor], Tensor], u: Tensor, *, scale: float, releases: int = 1
) -> Tensor:
    """Return the Fisher information about each row of u in encode(u) plus Gaussian noise.

    With the Jacobian J of one row it is J^T J / scale^2, times the number of releases.

    Args:
        encode: u (B, ...) -> what the noise is added to, (B, ...); row by row, differentiable.
        u: The coordinates of the images, (N, ...), n numbers each.
        scale: Standard deviation of the noise, above 0. Without noise nothing is bounded.
        releases: How often each row is sent, at least 1.

    Returns:
        (N, n, n), in float64.

    Raises:
        TypeError: If `encode` is no function, or u no tensor.
        ValueError: If an argument is out of its range.
    """
    function("encode", encode, "pass a function of u, row by row, such as a network")
    instance("u", u, Tensor, TENSOR)
    scale, releases = number("scale", scale, above=True), count("releases", releases, least=1)
    if u.ndim < 2 or len(u) == 0 or not u.is_floating_point():
        raise ValueError(
            f"u is {described(u)}, {u.dtype}: pass floating-point coordinates, one row for each "
            "image, (N, n)"
        )

    def one(row: Tensor) -> Tensor:
        return encode(row[None])[0].flatten()

    n = u[0].numel()
    do = "pass a function of rows (B, ...) that works row by row, without BatchNorm, say"
    made = call("encode", partial(torch.func.vmap(torch.func.jacrev(one)), u), do)
    jacobians = made.reshape(len(u), -1, n).double()
    return torch.matmul(jacobians.mT, jacobians) * (releases / scale**2)


def dfil_bound(information: Tensor) -> Tensor:
    """Return a lower bound on an unbiased attacker's mean squared error: n / trace, (N,).

    dFIL is the trace divided by n, and this is 1 / dFIL.

    Args:
        information: (N, n, n), as `fisher_information` returns it.
    """
    _check(information)
    n = information.shape[-1]
    return n / information.diagonal(dim1=-2, dim2=-1).sum(-1)


def cramer_rao_bound(information: Tensor) -> Tensor:
    """Return the larger bound, trace of the inverse / n, (N,); infinite where there is no inverse.

    An unbiased attacker has a finite error only where every coordinate is seen.

    Args:
        information: (N, n, n), as `fisher_information` returns it.
    """
    _check(information)
    values = torch.linalg.eigvalsh(information)
    seen = values > values[:, -1:] * 1e-12
    inverse = torch.where(seen, 1 / values.clamp_min(1e-300), torch.inf)
    return inverse.mean(-1)


def _check(information: Tensor) -> None:
    """Refuse anything but information matrices, (N, n, n)."""
    instance("information", information, Tensor, TENSOR)
    if information.ndim != 3 or information.shape[1] != information.shape[2]:
        raise ValueError(
            f"information is {described(information)}: pass what fisher_information returns"
        )
