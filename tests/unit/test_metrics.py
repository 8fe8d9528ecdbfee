"""Metrics against other people's implementations, and against what they are said to mean."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torchmetrics import MeanSquaredError
from torchmetrics.image import PeakSignalNoiseRatio

from splitlab.data import digits
from splitlab.referee import metrics

RANGE = (-1.0, 1.0)
SHAPES = [(1, 1, 16, 16), (7, 1, 16, 16), (13, 3, 9, 11), (503, 1, 8, 8), (1001, 2, 7, 7)]


def pair(shape, seed=0, low=-1.0, high=1.0):
    g = torch.Generator().manual_seed(seed)
    true = torch.rand(shape, generator=g) * (high - low) + low
    noise = torch.randn(shape, generator=g) * 0.2 * (high - low)
    return (true + noise).clamp(low, high), true


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


@pytest.fixture(scope="module")
def private():
    return digits().split(0).private


# --- against other implementations ----------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [64, 50, 1000])
def test_mse_is_torchmetrics_over_batches_with_a_partial_last_one(shape, batch):
    x, y = pair(shape)
    reference = MeanSquaredError()
    for a, b in zip(x.split(batch), y.split(batch), strict=True):
        reference.update(a.contiguous().double(), b.contiguous().double())
    assert metrics.mse(x, y) == pytest.approx(float(reference.compute()), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)], ids=str)
def test_psnr_is_torchmetrics_over_batches_with_a_partial_last_one(shape, span):
    x, y = pair(shape, 1, *span)
    reference = PeakSignalNoiseRatio(data_range=span[1] - span[0])
    for a, b in zip(x.split(64), y.split(64), strict=True):
        reference.update(a, b)
    assert metrics.psnr(x, y, span) == pytest.approx(float(reference.compute()), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 255.0)], ids=str)
def test_ssim_is_skimages_default(shape, span):
    x, y = pair(shape, 2, *span)
    wanted = [
        structural_similarity(
            a - span[0], b - span[0], data_range=span[1] - span[0], channel_axis=0
        )
        for a, b in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    assert metrics.ssim(x, y, span) == pytest.approx(float(np.mean(wanted)), abs=1e-9)


def test_ssim_is_skimages_on_real_digits(private):
    x, y = private.x[:37], private.x[37:74]
    wanted = [
        structural_similarity((a + 1) / 2, (b + 1) / 2, data_range=1.0)
        for a, b in zip(x[:, 0].double().numpy(), y[:, 0].double().numpy(), strict=True)
    ]
    assert metrics.ssim(x, y, RANGE) == pytest.approx(float(np.mean(wanted)), abs=1e-9)


def test_the_mean_over_batches_is_not_the_mean_over_images():
    """The published mistake: averaging batch means gives the last partial batch too much weight."""
    true = torch.zeros(65, 1, 4, 4)
    reconstructed = true.clone()
    reconstructed[64] = 1.0
    assert metrics.mse(reconstructed, true) == pytest.approx(1 / 65, rel=1e-12)


# --- by hand --------------------------------------------------------------------------------


def test_values_by_hand():
    true = torch.tensor([0.0, 1.0, 2.0, 5.0]).reshape(4, 1, 1, 1)
    x = true + torch.tensor([1.0, -1.0, 2.0, 0.0]).reshape(4, 1, 1, 1)
    assert metrics.mse(x, true) == 1.5
    assert metrics.psnr(x, true, (0, 10)) == pytest.approx(10 * math.log10(100 / 1.5))
    assert metrics.explained_variance(x, true) == pytest.approx(1 - 1.5 / 3.5)
    # Candidates 0 1 2 5; reconstructions 1 0 4 5 are nearest to 1, 0, 5, 5.
    assert metrics.matched(x, true) == 0.25
    assert metrics.matched(x, true, ids=torch.tensor([1, 0, 3, 3])) == 1.0


def test_identical_images_are_perfect(private):
    x = private.x[:50]
    assert metrics.mse(x, x) == 0
    assert metrics.psnr(x, x, RANGE) == math.inf
    assert metrics.ssim(x, x, RANGE) == pytest.approx(1, abs=1e-12)
    assert metrics.explained_variance(x, x) == 1
    assert metrics.matched(x, x) == metrics.matched_by_correlation(x, x) == 1


def test_the_mean_image_explains_nothing_but_has_a_fair_ssim(private):
    """Why SSIM alone misleads."""
    mean = private.x.mean(0, keepdim=True).expand(private.x.shape)
    assert metrics.explained_variance(mean, private.x) == pytest.approx(0, abs=1e-6)
    assert metrics.ssim(mean, private.x, RANGE) > 0.4


# --- matched --------------------------------------------------------------------------------


def test_matched_agrees_with_a_loop(private):
    true = private.x[:60]
    x = true + torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    near = [int((true - image).square().sum((1, 2, 3)).argmin()) for image in x]
    wanted = np.mean([n == i for i, n in enumerate(near)])
    assert 0 < wanted < 1
    assert metrics.matched(x, true) == pytest.approx(wanted)
    correlation = np.corrcoef(x.flatten(1).numpy(), true.flatten(1).numpy())[:60, 60:]
    wanted = (correlation.argmax(1) == np.arange(60)).mean()
    assert metrics.matched_by_correlation(x, true) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", [metrics.matched, metrics.matched_by_correlation])
def test_chunks_do_not_change_matched(private, monkeypatch, metric):
    true = private.x[:90]
    x = true + torch.randn(true.shape, generator=torch.Generator().manual_seed(1))
    ids = torch.randperm(90, generator=torch.Generator().manual_seed(2))
    whole = metric(x[ids][:70], true, ids[:70])
    monkeypatch.setattr(metrics, "CHUNK", 11)
    assert metric(x[ids][:70], true, ids[:70]) == pytest.approx(whole)
    assert 0 < whole < 1


@pytest.mark.parametrize("metric", [metrics.matched, metrics.matched_by_correlation])
def test_more_candidates_make_matching_harder(private, metric):
    true = private.x[:400]
    x = true + 1.5 * torch.randn(true.shape, generator=torch.Generator().manual_seed(3))
    few = metric(x[:50], true[:50])
    many = metric(x[:50], true, torch.arange(50))
    assert many < few


@pytest.mark.parametrize("metric", [metrics.matched, metrics.matched_by_correlation])
def test_one_picture_for_all_scores_chance(private, metric):
    true = private.x[:40]
    same = true.mean(0, keepdim=True).expand(true.shape)
    assert metric(same, true) == pytest.approx(1 / 40)


@pytest.mark.parametrize("value", [0.0, -1.0, 0.3])
def test_constant_reconstructions_score_chance_by_correlation(private, value):
    true = private.x[:40]
    constant = torch.full_like(true, value)
    assert metrics.matched_by_correlation(constant, true) == pytest.approx(1 / 40)


def test_a_picture_that_shows_only_in_the_rounding_is_constant(private):
    true = private.x[:40].double()
    assert metrics.matched_by_correlation(0.3 + 1e-8 * true, true) == pytest.approx(1 / 40)
    assert metrics.matched_by_correlation(0.3 + 1e-3 * true, true) == 1


@pytest.mark.parametrize("metric", [metrics.matched, metrics.matched_by_correlation])
def test_equal_distances_are_ties_whatever_their_rounding(metric):
    g = torch.Generator().manual_seed(8)
    pixels = torch.rand(99, generator=g)
    true = torch.stack([pixels[torch.randperm(99, generator=g)] for _ in range(40)])
    true = true.reshape(40, 1, 9, 11)
    black = torch.zeros(1, 1, 9, 11)
    scores = [metric(black, true, torch.tensor([i])) for i in range(40)]
    assert scores == pytest.approx([1 / 40] * 40)


def test_a_constant_candidate_is_no_ones_match(private):
    true = private.x[:40].clone()
    true[7] = 0.1
    x = true + 0.01 * torch.randn(true.shape, generator=torch.Generator().manual_seed(4))
    assert metrics.matched_by_correlation(x, true) >= 39 / 40
    assert metrics.matched_by_correlation(private.x[:40], true, torch.full((40,), 7)) == 0


@pytest.mark.parametrize("metric", [metrics.matched, metrics.matched_by_correlation])
def test_a_tie_of_two_counts_half(private, metric):
    true = private.x[:40].clone()
    true[1] = true[0]
    assert metric(true, true) == pytest.approx(39 / 40)


@given(st.floats(0.35, 3.0))
@settings(max_examples=20, deadline=None)
def test_contrast_and_brightness_do_not_move_the_correlation_variant(scale):
    g = torch.Generator().manual_seed(5)
    true = torch.rand(30, 1, 8, 8, generator=g)
    x = true + 0.5 * torch.randn(true.shape, generator=g)
    before = metrics.matched_by_correlation(x, true)
    assert metrics.matched_by_correlation(scale * x + 2 * scale, true) == pytest.approx(before)


def test_brightness_moves_matched_but_not_the_correlation_variant(private):
    true = private.x[:300]
    x = true + 0.05 * torch.randn(true.shape, generator=torch.Generator().manual_seed(6))
    assert metrics.matched(x, true) == metrics.matched_by_correlation(x, true) == 1
    assert metrics.matched(x + 0.5, true) < 0.9
    assert metrics.matched_by_correlation(x + 0.5, true) == 1


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_a_set_of_different_images_matches_itself(n, channels, seed):
    x = torch.rand(n, channels, 5, 4, generator=torch.Generator().manual_seed(seed))
    assert metrics.matched(x, x) == metrics.matched_by_correlation(x, x) == 1
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed + 1))
    assert metrics.matched(x[order], x, order) == 1


# --- scale ----------------------------------------------------------------------------------


@given(st.floats(0.01, 300), st.floats(-50, 50), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_what_does_not_depend_on_the_scale(scale, shift, seed):
    x, y = (t.double() for t in pair((9, 1, 8, 8), seed))
    other = (shift - scale, shift + scale)
    x2, y2 = scale * x + shift, scale * y + shift
    assert metrics.psnr(x2, y2, other) == pytest.approx(metrics.psnr(x, y, RANGE), rel=1e-6)
    assert metrics.mse(x2, y2) == pytest.approx(scale**2 * metrics.mse(x, y), rel=1e-6)
    assert metrics.explained_variance(x2, y2) == pytest.approx(
        metrics.explained_variance(x, y), abs=1e-6
    )
    assert metrics.matched(x2, y2) == pytest.approx(metrics.matched(x, y))
    assert metrics.ssim(x2, y2, other) == pytest.approx(metrics.ssim(x, y, RANGE), abs=1e-6)


def test_a_negative_is_not_similar(private):
    """On [-1, 1] without a shift, the signs of means and covariances cancel, and SSIM is .9."""
    assert metrics.ssim(-private.x, private.x, RANGE) < -0.5


def test_the_wrong_value_range_changes_psnr_and_ssim():
    x, y = pair((9, 1, 8, 8))
    assert metrics.psnr(x, y, (0, 1)) == pytest.approx(
        metrics.psnr(x, y, RANGE) - 20 * math.log10(2)
    )
    assert metrics.ssim(x, y, (0, 1)) != pytest.approx(metrics.ssim(x, y, RANGE), abs=1e-4)


# --- recognized and the whole set -----------------------------------------------------------


def test_recognized_is_accuracy_over_images():
    images = torch.linspace(0, 1, 1203).reshape(-1, 1, 1, 1)
    labels = (images.flatten() > 0.25).long()
    accuracy = metrics.recognized(lambda x: (x.flatten(1)[:, 0] > 0.5).long(), images, labels)
    assert accuracy == pytest.approx(1 - ((images > 0.25) & (images <= 0.5)).sum().item() / 1203)


def test_recognized_refuses_what_does_not_fit():
    x = torch.rand(5, 1, 8, 8)
    with pytest.raises(ValueError, match="5 images, but labels") as error:
        metrics.recognized(lambda x: x, x, torch.zeros(4).long())
    one_sentence(error)
    with pytest.raises(ValueError, match="one label for each image"):
        metrics.recognized(lambda x: x.flatten(1), x, torch.zeros(5).long())


def test_image_metrics_are_the_single_metrics(private):
    true, labels = private.x[:80], private.y[:80]
    x = (true + torch.randn(true.shape, generator=torch.Generator().manual_seed(7))).clamp(-1, 1)

    def guess(images):
        return torch.full((len(images),), 3)

    ids = torch.arange(80)
    values = metrics.image_metrics(
        x, true, value_range=RANGE, candidates=private.x, ids=ids, classifier=guess, labels=labels
    )
    assert tuple(values) == metrics.METRICS
    assert values == {
        "mse": metrics.mse(x, true),
        "psnr": metrics.psnr(x, true, RANGE),
        "ssim": metrics.ssim(x, true, RANGE),
        "explained_variance": metrics.explained_variance(x, true),
        "recognized": pytest.approx(float((labels == 3).double().mean())),
        "matched": metrics.matched(x, private.x, ids),
    }
    assert all(type(v) is float for v in values.values())
    assert "recognized" not in metrics.image_metrics(x, true, value_range=RANGE)


def test_a_classifier_needs_labels():
    x, y = pair((3, 1, 8, 8))
    with pytest.raises(ValueError, match="without labels") as error:
        metrics.image_metrics(x, y, value_range=RANGE, classifier=lambda x: x)
    one_sentence(error)


def test_metrics_leave_their_inputs_and_the_random_stream_alone():
    x, y = pair((20, 1, 8, 8))
    x.requires_grad_()
    kept, state = (x.detach().clone(), y.clone()), torch.get_rng_state()
    assert type(metrics.image_metrics(x, y, value_range=RANGE)["mse"]) is float
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])
    assert torch.equal(state, torch.get_rng_state())


# --- bad input ------------------------------------------------------------------------------

PAIR_METRICS = {
    "mse": metrics.mse,
    "psnr": lambda x, y: metrics.psnr(x, y, RANGE),
    "ssim": lambda x, y: metrics.ssim(x, y, RANGE),
    "explained_variance": metrics.explained_variance,
    "matched": metrics.matched,
    "matched_by_correlation": metrics.matched_by_correlation,
}


@pytest.mark.parametrize("metric", PAIR_METRICS.values(), ids=PAIR_METRICS)
@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 9), "shape"),
        (torch.zeros(4, 3, 8, 8), torch.zeros(4, 1, 8, 8), "shape"),
        (torch.zeros(4, 1, 8, 8), torch.zeros(3, 1, 8, 8), "shape|4 reconstructions and 3"),
        (torch.zeros(4, 8, 8), torch.zeros(4, 8, 8), r"\(N, C, H, W\)"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8), "at least 1"),
        (torch.zeros(4, 1, 8, 8).long(), torch.zeros(4, 1, 8, 8).long(), "floating-point"),
        (torch.full((4, 1, 8, 8), float("nan")), torch.zeros(4, 1, 8, 8), "reconstructed .*NaN"),
        (torch.zeros(4, 1, 8, 8), torch.full((4, 1, 8, 8), float("inf")), "true .*infinity"),
    ],
)
def test_bad_images_are_refused_in_one_sentence(metric, x, y, message):
    with pytest.raises(ValueError, match=message) as error:
        metric(x, y)
    one_sentence(error)


@pytest.mark.parametrize("value_range", [(1, -1), (0, 0)])
def test_an_empty_value_range_is_refused(value_range):
    x, y = pair((3, 1, 8, 8))
    for metric in (metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="value_range") as error:
            metric(x, y, value_range)
        one_sentence(error)


def test_images_smaller_than_the_ssim_window_are_refused():
    x, y = pair((3, 1, 8, 6))
    with pytest.raises(ValueError, match="7x7 pixels, but these images are 8x6") as error:
        metrics.ssim(x, y, RANGE)
    one_sentence(error)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0])
def test_no_variance_to_explain_is_refused(value):
    true = torch.full((7, 1, 8, 8), value)
    with pytest.raises(ValueError, match="all the same") as error:
        metrics.explained_variance(torch.rand(7, 1, 8, 8), true)
    one_sentence(error)


@pytest.mark.parametrize(
    "ids, message",
    [
        (torch.tensor([0, 1]), "ids must be 3 whole numbers"),
        (torch.tensor([0.0, 1.0, 2.0]), "whole numbers"),
        (torch.tensor([0, 1, 5]), "between 0 and 4"),
        (torch.tensor([0, 1, -1]), "between 0 and 4"),
    ],
)
def test_bad_ids_are_refused(ids, message):
    x, _ = pair((3, 1, 8, 8))
    true, _ = pair((5, 1, 8, 8))
    for metric in (metrics.matched, metrics.matched_by_correlation):
        with pytest.raises(ValueError, match=message) as error:
            metric(x, true, ids)
        one_sentence(error)
