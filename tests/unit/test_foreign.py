"""Foreign and changed images: in their range, a function of the seed, and changed as they say."""

import pytest
import torch

import splitlab as sl
from splitlab.data import DataError, foreign

MAKERS = [foreign.photographs, foreign.strokes]
CHANGES = [
    lambda x: foreign.thickened(x, 0.5),
    lambda x: foreign.thickened(x, -0.5),
    lambda x: foreign.slanted(x, 0.4),
    lambda x: foreign.scaled(x, 0.7),
    lambda x: foreign.scaled(x, 1.4),
]


@pytest.fixture(scope="module")
def faces():
    return sl.data.drawn_faces(40, size=16, channels=1)


def square(side, size=16):
    """A light square of an even side in the middle of a dark image."""
    x = torch.full((1, 1, size, size), -1.0)
    low = (size - side) // 2
    x[..., low : low + side, low : low + side] = 1
    return x


def ink(x):
    """The light area of images on [-1, 1], in pixels."""
    return ((x + 1) / 2).sum((1, 2, 3))


@pytest.mark.parametrize("make", MAKERS)
def test_foreign_images_are_a_function_of_the_seed(make):
    images = make(12, seed=3)
    assert images.shape == (1, 16, 16) and len(images) == 12 and images.grey
    assert -1 <= images.x.min() < images.x.max() <= 1
    assert torch.equal(images.x, make(12, seed=3).x)
    assert not torch.equal(images.x, make(12, seed=4).x)
    assert len(images.row_hashes()) == 12, "all of them differ"
    wide = make(12, size=32, channels=3, seed=3)
    assert wide.shape == (3, 32, 32) and wide.grey


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 1.5}, {"size": 2}, {"channels": 2}])
def test_foreign_images_that_cannot_be_had_are_refused(make, wrong):
    with pytest.raises(DataError):
        make(**{"n": 3} | wrong)


def test_a_patch_is_a_reduced_crop_of_a_photograph():
    from sklearn.datasets import load_sample_images

    wanted = foreign.photographs(1, size=6, seed=5).x[0, 0].double()
    found = []
    for picture in load_sample_images().images:
        grey = torch.from_numpy(picture.mean(2) / 127.5 - 1)[None, None]
        for factor in foreign.REDUCTIONS:
            small = torch.nn.functional.avg_pool2d(grey, factor, stride=1)[0, 0]
            across = 5 * factor + 1
            corners = small.unfold(0, across, 1).unfold(1, across, 1)[..., ::factor, ::factor]
            found.append(float((corners - wanted).abs().amax((2, 3)).min()))
    assert sum(difference < 1e-6 for difference in found) == 1


def test_a_patch_wider_than_a_photograph_is_refused():
    assert foreign.photographs(2, size=106).shape == (1, 106, 106)
    with pytest.raises(DataError, match="at most 106 pixels"):
        foreign.photographs(2, size=107)


def test_strokes_are_light_lines_on_dark_as_digits_are(digits):
    drawn, written = foreign.strokes(400).x, digits[1].x
    for images in (drawn, written):
        assert images.median() < -0.5, "mostly paper"
    assert 0.5 < float(ink(drawn).mean() / ink(written).mean()) < 1.5
    # No drawing is copied from a digit, nor comes near one as another digit does.
    own = sl.floors.nearest_public(written[:100], digits[0].x)
    other = sl.floors.nearest_public(written[:100], drawn)
    mse = sl.metrics.mse
    assert mse(other, written[:100]) > 2 * mse(own, written[:100])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("which", ["digits", "faces"])
def test_changed_images_keep_all_but_the_pixels(change, which, digits, faces):
    data = digits[1].subset(40) if which == "digits" else faces
    before = data.x.clone()
    other = foreign.changed(data, change)
    assert torch.equal(data.x, before) and torch.equal(other.y, data.y)
    assert other.shape == data.shape and other.value_range == data.value_range
    assert (other.name, other.part) == (data.name, data.part)
    assert not torch.equal(other.x, data.x)
    assert other.x.min() >= -1 and other.x.max() <= 1


def test_a_repeated_channel_stays_one(digits):
    data = sl.data.digits(channels=3).subset(5)
    assert foreign.changed(data, lambda x: -x).grey


@pytest.mark.parametrize(("pixels", "side"), [(0.0, 6), (0.5, 7), (1.0, 8), (-0.5, 5), (-1.0, 4)])
def test_thickness_moves_every_edge(pixels, side):
    """A square of 6 pixels grows or shrinks by twice the amount; bilinear edges add a little."""
    assert float(ink(foreign.thickened(square(6), pixels))) == pytest.approx(side**2, rel=0.2)


def test_thicker_is_nowhere_darker_and_thinner_nowhere_lighter(digits, faces):
    # Compared with the enlarged and reduced image: that alone blurs a little.
    for x in (digits[1].x[:20], faces.x[:20]):
        same = torch.nn.functional.avg_pool2d(
            torch.nn.functional.interpolate(
                x, scale_factor=4, mode="bilinear", align_corners=False
            ),
            4,
        )
        thin, thinner = foreign.thickened(x, -0.25), foreign.thickened(x, -0.5)
        thick, thicker = foreign.thickened(x, 0.25), foreign.thickened(x, 0.5)
        for dark, light in ((thinner, thin), (thin, same), (same, thick), (thick, thicker)):
            assert (dark <= light + 1e-5).all()


@pytest.mark.parametrize("pixels", [0.3, 8.0])
def test_thickness_comes_in_quarters_that_fit(pixels):
    with pytest.raises(ValueError, match=r"a multiple of 0\.25"):
        foreign.thickened(square(6), pixels)


def test_a_slant_moves_rows_sideways():
    x = torch.full((1, 1, 16, 16), -1.0)
    x[..., 7:9] = 1  # a stroke straight up
    slanted = foreign.slanted(x, 0.5)
    at = ((slanted + 1) / 2 * torch.arange(16.0)).sum(-1) / ((slanted + 1) / 2).sum(-1)
    middle, up = 7.5, 7.5 - torch.arange(16.0)
    torch.testing.assert_close(at[0, 0], middle + 0.5 * up)


def test_to_and_fro_is_where_one_was(digits):
    x = digits[1].x[:50]
    for there, back in (
        (lambda x: foreign.slanted(x, 0.3), lambda x: foreign.slanted(x, -0.3)),
        (lambda x: foreign.scaled(x, 0.8), lambda x: foreign.scaled(x, 1.25)),
    ):
        lost = sl.metrics.mse(back(there(x)), x)
        assert lost < 0.1 * sl.metrics.mse(there(x), x)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.5])
def test_a_scale_is_of_heights_and_widths(factor):
    assert float(ink(foreign.scaled(square(8), factor))) == pytest.approx(64 * factor**2, rel=0.05)


def test_what_comes_in_is_the_borders_median():
    x = torch.full((2, 1, 16, 16), -1.0)
    x[1] = 0.25
    x[:, :, 4:12, 4:12] = 1
    x[:, :, 0, 7:9] = 0.5  # a stroke that touches the border is not drawn on outside
    small = foreign.scaled(x, 0.5)
    assert (small[0, 0, :3] == -1).all() and (small[1, 0, :3] == 0.25).all()


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.2, 5.0])
def test_a_scale_out_of_range_is_refused(factor):
    with pytest.raises(ValueError, match=r"0\.25 to 4"):
        foreign.scaled(square(6), factor)


@pytest.mark.parametrize(("n", "rows", "expected"), [(10, 32, 40), (32, 32, 32), (100, 32, 100)])
def test_few_images_are_repeated_to_fill_a_batch(digits, n, rows, expected):
    kept = foreign.few(digits[1], n, 2, rows=rows)
    assert len(kept) == expected
    counts = kept.row.unique(return_counts=True)[1]
    assert len(counts) == n and (counts == expected // n).all()
    assert torch.equal(kept.row[:n], digits[1].subset(n, 2).row)


@pytest.mark.parametrize("n", [0, 10_000])
def test_more_images_than_there_are_cannot_be_kept(digits, n):
    with pytest.raises(DataError, match="choose n from 1"):
        foreign.few(digits[1], n)
