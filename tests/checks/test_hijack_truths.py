"""The truths that chapter 34's checks compare with, against numbers worked out by hand."""

import math

import pytest
import torch

from splitlab.course.checks.hijack_taken_apart import memory, slant, unseen


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
    assert unseen._attack(*case) == pytest.approx((0.25 + 0.25) / 2)
    # 0 is nearest to -0.7, for the public 0 is of the missing class; and so is -1.
    assert unseen._retrieval(*case) == pytest.approx((0.49 + 0.09) / 2)


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
    assert slant._moved(row, shift).flatten().tolist() == pytest.approx(moved)


def test_the_top_moves_right_the_bottom_left_and_the_middle_stays():
    x = torch.full((1, 1, 3, 5), -1.0)
    x[..., 2] = 1
    slanted = slant._slant(x, 2.0)[0, 0]
    assert slanted.argmax(1).tolist() == [4, 2, 0]


def test_two_steps_of_adam_by_hand():
    """Factors 4 and 1, both betas 1/2: m is 2 and 1.5, v is 8 and 4.5."""
    rates = memory._by_torch([4.0, 1.0], (0.5, 0.5))
    assert rates.tolist() == pytest.approx([1, (1.5 / 0.75) / math.sqrt(4.5 / 0.75)])


def test_without_a_slip_the_formulas_are_torchs_adam():
    factors = [0.5, 3.0, 2.0, 2.0, 0.7]
    for betas in ((0.9, 0.999), (0.5, 0.9)):
        torch.testing.assert_close(memory._rates(factors, betas), memory._by_torch(factors, betas))


def test_a_constant_size_changes_nothing_whatever_it_is():
    assert memory._by_torch([123.0] * 9, memory.USUAL).tolist() == pytest.approx([1] * 9)


def test_steady_growth_raises_the_rate_to_the_limit_of_two_geometric_series():
    growth = 1.1
    rates = memory._by_torch([growth**step for step in range(400)], (0.9, 0.99))
    m, v = 0.1 / (1 - 0.9 / growth), 0.01 / (1 - 0.99 / growth**2)
    correction = math.sqrt(1 - 0.99**400)
    assert rates[-1].item() == pytest.approx(m / math.sqrt(v) * correction, rel=1e-6)
    assert rates[-1] > 1
