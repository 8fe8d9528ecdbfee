"""The slant: drawn strokes whose covariance is known, and what must not change it."""

import numpy as np
import pytest
import torch

import splitlab as sl
from splitlab.data import by_slant, slant


def strokes(size=16):
    """A backslash, a slash, a column, a row, an even cross, a blank image: light on dark."""
    x = -torch.ones(6, 1, size, size)
    line = torch.arange(size)
    x[0, 0, line, line] = 1
    x[1, 0, line, size - 1 - line] = 1
    x[2, 0, :, 3] = 1
    x[3, 0, 5, :] = 1
    x[4, 0, line, line] = x[4, 0, line, size - 1 - line] = 1
    return x


def test_drawn_strokes_have_the_slant_of_their_points():
    variance = (16**2 - 1) / 12  # of the numbers 0 to 15
    expected = torch.tensor([variance, -variance, 0, 0, 0, 0])
    assert torch.allclose(slant(strokes()), expected, atol=1e-4)


def test_it_is_the_weighted_covariance_of_numpy():
    x = torch.rand(4, 1, 7, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows, columns = np.mgrid[:7, :9]
    for image, value in zip(x, slant(x), strict=True):
        ink = (image[0].double().numpy() + 1).ravel()
        expected = np.cov(columns.ravel(), rows.ravel(), aweights=ink, ddof=0)[0, 1]
        assert float(value) == pytest.approx(expected, abs=1e-4)


def test_place_strength_company_and_range_do_not_matter():
    x = strokes(8)[:2].repeat_interleave(2, 0)
    x = torch.nn.functional.pad(x, (0, 4, 0, 4), value=-1.0)
    expected = slant(x)
    assert torch.allclose(slant(x.roll((3, 2), (2, 3))), expected, atol=1e-4)  # elsewhere
    assert torch.allclose(slant((x + 1) / 4 - 1), expected, atol=1e-4)  # fainter
    assert torch.allclose(slant(x[2:]), expected[2:], atol=1e-5)  # fewer beside it
    assert torch.allclose(slant((x + 1) / 2, (0.0, 1.0)), expected, atol=1e-4)
    assert torch.allclose(slant(x.expand(-1, 3, -1, -1)), expected, atol=1e-4)
    assert torch.allclose(slant(x.flip(3)), -expected, atol=1e-4)  # mirrored


def test_by_slant_labels_both_sides_and_shares_the_images(digits):
    private, public, _ = digits
    threshold = float(slant(public.x).median())
    part = by_slant(public, threshold)
    assert abs(float(part.y.double().mean()) - 0.5) < 0.01
    assert part.classes == ("falling", "rising")
    assert torch.equal(part.y == 1, slant(public.x) < threshold)
    assert part.x is public.x
    # The clinic's writers have another hand than the server's: not half and half, but both.
    assert 0.2 < float(by_slant(private, threshold).y.double().mean()) < 0.8
    assert by_slant(public.select([0]), 1e9).y.tolist() == [1]


def test_anything_but_images_gets_a_sentence():
    with pytest.raises(ValueError, match=r"x must be images of shape \(N, C, H, W\)"):
        sl.data.slant(torch.zeros(16, 16))
