"""Fisher information about an image in a noisy z, and the bounds that follow from it."""

import pytest
import torch
from torch import nn

from splitlab.referee.fisher import cramer_rao_bound, dfil_bound, fisher_information


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_of_a_linear_map_it_is_the_same_everywhere():
    a = numbers(7, 4)
    information = fisher_information(lambda u: u @ a.T, numbers(3, 4, seed=1), scale=0.5)
    torch.testing.assert_close(information, (a.T @ a * 4).expand(3, 4, 4))


def test_of_a_network_it_agrees_with_finite_differences():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5)).double()
    u, step = numbers(2, 1, 2, 3), 1e-5
    information = fisher_information(net, u, scale=2.0, releases=3)
    for row, found in zip(u, information, strict=True):
        columns = []
        for k in range(6):
            aside = torch.zeros(6, dtype=torch.float64)
            aside[k] = step
            aside = aside.view(1, 2, 3)
            columns.append((net((row + aside)[None]) - net((row - aside)[None]))[0] / (2 * step))
        jacobian = torch.stack(columns, 1)
        torch.testing.assert_close(found, jacobian.T @ jacobian * 3 / 4, rtol=1e-6, atol=1e-8)


def test_an_unbiased_attacker_of_a_linear_map_reaches_the_larger_bound_and_no_less():
    a, scale, u = numbers(7, 4), 0.5, numbers(1, 4, seed=1)
    information = fisher_information(lambda v: v @ a.T, u, scale=scale)
    z = u @ a.T + scale * numbers(200_000, 7, seed=2)
    found = z @ torch.linalg.pinv(a).T
    error = float((found - u).square().mean())
    bound = float(cramer_rao_bound(information))
    assert error == pytest.approx(bound, rel=0.02)
    assert float(dfil_bound(information)) < bound


def test_a_biased_attacker_can_be_better_than_both():
    """It always answers with the mean, which the bounds do not know."""
    u = 0.01 * numbers(500, 4)
    information = fisher_information(lambda v: v, u, scale=1.0)
    error = float((u - u.mean(0)).square().mean())
    assert error < 0.01 < float(dfil_bound(information).min())


def test_what_is_not_seen_cannot_be_reconstructed_without_bias():
    information = fisher_information(lambda v: v[:, :2], numbers(3, 4), scale=1.0)
    assert cramer_rao_bound(information).isinf().all()
    torch.testing.assert_close(dfil_bound(information), torch.full((3,), 2.0).double())


@pytest.mark.parametrize(("scale", "releases"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1.0, 0)])
def test_without_noise_it_says_nothing(scale, releases):
    with pytest.raises(ValueError, match=r"^(scale|releases) is .*: choose a"):
        fisher_information(lambda u: u, numbers(1, 2), scale=scale, releases=releases)
