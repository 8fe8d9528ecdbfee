"""Factors on a gradient against Adam itself, and the bound that no factor passes."""

import pytest
import torch

from splitlab.attacks.schedules import effective_rate, fastest_growth, growing


def moved(factors, lr=1e-2, betas=(0.9, 0.999)):
    """How far torch's Adam moves a number at each step, for a gradient of 3 times these factors."""
    number = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([number], lr=lr, betas=betas, eps=0.0)
    steps = []
    for factor in factors:
        before = number.item()
        number.grad = torch.tensor([3.0 * factor], dtype=torch.float64)
        adam.step()
        steps.append((before - number.item()) / lr)
    return steps


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)])
@pytest.mark.parametrize(
    "schedule",
    [growing(1.0, start=7.0), growing(1.05), growing(0.97), lambda t: (-1.0) ** t],
    ids=["constant", "growing", "falling", "alternating"],
)
def test_the_effective_rate_is_what_torchs_adam_moves(schedule, betas):
    factors = [schedule(step) for step in range(120)]
    assert effective_rate(factors, betas) == pytest.approx(moved(factors, betas=betas), rel=1e-9)


def test_a_constant_factor_changes_nothing_and_a_changing_one_does():
    assert effective_rate([50.0] * 30) == pytest.approx([1.0] * 30)
    assert effective_rate([growing(1.05)(t) for t in range(300)])[-1] > 2.5
    assert effective_rate([growing(0.97)(t) for t in range(300)])[-1] < 0.1
    after = effective_rate([100.0] + [1.0] * 99)
    assert after[0] == pytest.approx(1.0), "Adam's first step is 1 whatever the gradient"
    assert max(after[50:]) < 0.2


def test_nothing_that_was_tried_grows_better_than_the_fastest():
    growth, most = fastest_growth()
    assert (growth, most) == pytest.approx((1.11, 7.27), abs=5e-3)
    late = {c: effective_rate([growing(c)(t) for t in range(2000)])[-1] for c in (1.02, 1.05, 1.15)}
    best = effective_rate([growing(growth)(t) for t in range(2000)])[-1]
    assert max(late.values()) < best <= most
    assert best == pytest.approx(most * (1 - 0.999**2000) ** 0.5, rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    for factors in torch.randn(50, 300, generator=generator).exp().tolist():
        assert effective_rate(factors)[-1] < most * (1 - 0.999**300) ** 0.5


def test_schedules_say_what_they_are():
    assert [growing(2.0, start=3.0)(step) for step in range(3)] == [3.0, 6.0, 12.0]


def test_impossible_schedules_are_refused():
    with pytest.raises(ValueError, match=r"growth is 0\.0: choose a finite number above 0"):
        growing(0.0)
    with pytest.raises(ValueError, match=r"start is 0\.0: choose a finite number above 0"):
        growing(1.1, start=0.0)
    with pytest.raises(ValueError, match="begin with 0"):
        effective_rate([0.0, 1.0])
    with pytest.raises(ValueError, match="from 0 to below 1"):
        effective_rate([1.0], (0.9, 1.0))
    with pytest.raises(ValueError, match="b1\\^2 below b2"):
        fastest_growth((0.9, 0.5))
