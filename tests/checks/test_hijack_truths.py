"""The truths that chapter 34's checks compare with, against numbers worked out by hand."""

import math

import pytest
import torch

from splitlab.course.checks.hijack_taken_apart.effective_rate import USUAL, _rates
from splitlab.course.checks.hijack_taken_apart.slanted import _moved, _slant
from splitlab.course.checks.hijack_taken_apart.unseen_errors import _attack, _retrieval


def pixels(*values):
    """One-pixel images."""
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def test_errors_on_the_unseen_class_by_hand():
    case = (
        pixels(0.5, 9.0, -0.5),
        pixels(0.0, 1.0, -1.0),
        torch.tensor([2, 0, 2]),
        pixels(0.0, 0.8, -0.7),
        torch.tensor([2, 0, 1]),
        2,
    )
    assert _attack(*case) == pytest.approx((0.25 + 0.25) / 2)
    # 0 is nearest to -0.7, for the public 0 is of the missing class; and so is -1.
    assert _retrieval(*case) == pytest.approx((0.49 + 0.09) / 2)


@pytest.mark.parametrize(
    ("shift", "moved"),
    [
        (0.0, [1.0, 2.0, 4.0]),
        (1.0, [-1.0, 1.0, 2.0]),
        (-1.0, [2.0, 4.0, -1.0]),
        (0.5, [0.0, 1.5, 3.0]),
        (-0.25, [1.25, 2.5, 2.75]),
        (7.0, [-1.0, -1.0, -1.0]),
    ],
)
def test_a_row_moves_to_the_right_and_background_comes_in(shift, moved):
    row = torch.tensor([[[1.0, 2.0, 4.0]]])
    assert _moved(row, shift).flatten().tolist() == pytest.approx(moved)


def test_the_top_moves_right_the_bottom_left_and_the_middle_stays():
    x = torch.full((1, 1, 3, 5), -1.0)
    x[..., 2] = 1
    slanted = _slant(x, 2.0)[0, 0]
    assert slanted.argmax(1).tolist() == [4, 2, 0]


def by_torch(factors, betas):
    """Let torch's Adam take the steps, at a rate of 1, and measure them."""
    weight = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([weight], lr=1.0, betas=betas, eps=0.0)
    rates = []
    for factor in factors:
        before = weight.item()
        weight.grad = torch.full_like(weight, factor)
        adam.step()
        rates.append(before - weight.item())
    return rates


def test_two_steps_of_adam_by_hand():
    """Factors 4 and 1, both betas 1/2: m is 2 and 1.5, v is 8 and 4.5."""
    assert _rates([4.0, 1.0], (0.5, 0.5)) == pytest.approx(
        [1, (1.5 / 0.75) / math.sqrt(4.5 / 0.75)]
    )


def test_without_a_slip_the_formulas_are_torchs_adam():
    factors = [0.5, 3.0, 2.0, 2.0, 0.7]
    for betas in (USUAL, (0.5, 0.9)):
        assert _rates(factors, betas) == pytest.approx(by_torch(factors, betas))


def test_a_constant_size_changes_nothing_whatever_it_is():
    assert _rates([123.0] * 9) == pytest.approx([1] * 9)


def test_steady_growth_raises_the_rate_to_the_limit_of_two_geometric_series():
    growth = 1.1
    rates = _rates([growth**step for step in range(400)], (0.9, 0.99))
    m, v = 0.1 / (1 - 0.9 / growth), 0.01 / (1 - 0.99 / growth**2)
    correction = math.sqrt(1 - 0.99**400)
    assert rates[-1] == pytest.approx(m / math.sqrt(v) * correction, rel=1e-6)
    assert rates[-1] > 1
