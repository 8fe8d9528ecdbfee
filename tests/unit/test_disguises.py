"""Disguises: what each does to a pixel, and that metrics see them as the chapter says."""

import pytest
import torch

import splitlab as sl
from splitlab.course import disguises
from splitlab.referee import metrics

RANGE = (-1.0, 1.0)


def ramp(low, high):
    """Return two images of 5x5 whose pixels run through the value range."""
    return torch.linspace(low, high, 50).reshape(2, 1, 5, 5)


def test_moving_shifts_columns_and_repeats_the_border():
    x = ramp(*RANGE)
    moved = disguises.moved(x, RANGE)
    assert torch.equal(moved[..., 1:], x[..., :-1])
    assert torch.equal(moved[..., 0], x[..., 0])
    assert torch.equal(disguises.moved(x, RANGE, 2)[..., 2:], x[..., :-2])


@pytest.mark.parametrize("value_range", [RANGE, (0.0, 1.0), (0.0, 255.0)])
def test_brightness_and_negatives_know_the_value_range(value_range):
    low, high = value_range
    x = ramp(low, high)
    step = disguises.brighter(x, value_range) - x
    assert torch.allclose(step[x < low + 0.8 * (high - low)], torch.tensor(0.15 * (high - low)))
    assert disguises.brighter(x, value_range).max() == high
    negative = disguises.inverted(x, value_range)
    assert torch.allclose(negative.flatten(), x.flatten().flip(0), atol=1e-6 * (high - low))
    assert torch.allclose(disguises.inverted(negative, value_range), x)


def test_blurring_takes_the_mean_of_nine_pixels():
    x = torch.rand(3, 2, 6, 6)
    blurred = disguises.blurred(x, (0.0, 1.0))
    assert torch.allclose(blurred[:, :, 2, 3], x[:, :, 1:4, 2:5].mean((2, 3)))
    assert torch.allclose(disguises.blurred(torch.ones(1, 1, 4, 4), RANGE), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("disguise", disguises.DISGUISES.values())
def test_a_disguise_keeps_shape_and_range_and_leaves_its_input_alone(disguise, digits):
    x = digits[0].x[:20]
    before = x.clone()
    disguised = disguise(x, RANGE)
    assert disguised.shape == x.shape
    assert disguised.min() >= -1 and disguised.max() <= 1
    assert torch.equal(x, before) and not torch.equal(disguised, x)


def test_a_negative_escapes_matching(digits):
    x = digits[0].x[:500]
    negative = disguises.inverted(x, RANGE)
    assert metrics.matched(negative, x) < 0.05
    assert metrics.matched_by_correlation(negative, x) == 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x: sl.disguises.moved(x, RANGE, 5), "1 to 4 of them, not 5"),
        (lambda x: sl.disguises.moved(x, RANGE, 0), "not 0"),
        (lambda x: sl.disguises.brighter(x, RANGE, 2), "from 0 to 1, not 2"),
    ],
)
def test_what_is_no_disguise_is_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(ramp(*RANGE))
