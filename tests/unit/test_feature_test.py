"""The two detectors that are this library's: a test of the features, and the gradient's rank."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from torch import nn

import splitlab as sl
from splitlab.core.client import Turn
from splitlab.defenses import FeatureTest, GradientRank
from splitlab.defenses.gradient_rank import rank_share
from splitlab.nets import LastChannels

CLASSES = 4

# The features


def batches(count, n=12, width=40, seed=0):
    """(x, z, y): z is nearly linear in the images, and labels depend on one pixel."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(9, width))
    made = []
    for _ in range(count):
        x = rng.normal(size=(n, 9)) + 0.2
        z = x @ mixing + rng.normal(size=(n, width)) + 1
        y = np.digitize(x[:, 0], [-0.5, 0.2, 0.9])
        made.append([torch.tensor(part) for part in (x.reshape(n, 1, 3, 3), z, y)])
    return made


def show(detector, made, first=0):
    client = SimpleNamespace(data=SimpleNamespace(classes="abcd"))
    for step, (x, z, y) in enumerate(made, start=first):
        client.step, dz = step, torch.zeros_like(z)
        turn = Turn(x=x, labels=y, z=z.reshape(len(z), -1, 1, 1).requires_grad_())
        assert detector.incoming(client, turn, dz) is dz


def by_scikit_learn(known, new, components):
    """The explained variance of a new batch's images and labels, by PCA and regression."""

    def flat(part):
        return part[0].flatten(1).numpy(), part[1].numpy(), np.eye(CLASSES)[part[2].numpy()]

    x, z, y = (np.concatenate(parts) for parts in zip(*map(flat, known), strict=True))
    new_x, new_z, new_y = flat(new)
    pca = PCA(components, svd_solver="full").fit(z)
    found = []
    for target, truth in ((x, new_x), (y, new_y)):
        model = LinearRegression().fit(pca.transform(z), target)
        error = np.mean((truth - model.predict(pca.transform(new_z))) ** 2)
        found.append(1 - error / np.mean((truth - target.mean(0)) ** 2))
    return found


@pytest.mark.parametrize("width", [10, 200])  # fewer numbers in z than rows, and more
@pytest.mark.parametrize("components", [1, 3, 8])
def test_explained_variances_are_those_of_pca_and_regression(width, components):
    made = batches(6, width=width, seed=components)
    detector = FeatureTest(components=components, batches=3, every=1, after=0, window=1, stop=False)
    show(detector, made)
    assert [step for step, _ in detector.seen] == [3, 4, 5]
    for step, score in detector.seen:
        image, label = by_scikit_learn(made[step - 3 : step], made[step], components)
        assert score == pytest.approx(image - label, abs=1e-8)
        assert abs(image) > 0.01 and abs(image - label) > 0.01


def test_more_components_than_z_has_are_as_many_as_it_has():
    made = batches(4, width=5)
    five, many = (
        FeatureTest(components=n, batches=2, every=1, after=0, window=1, stop=False)
        for n in (5, 20)
    )
    show(five, made)
    show(many, made)
    assert [s for _, s in many.seen] == pytest.approx([s for _, s in five.seen], abs=1e-3)


def test_features_that_are_constant_explain_nothing():
    made = [(x, torch.ones_like(z), y) for x, z, y in batches(3)]
    detector = FeatureTest(batches=2, every=1, after=0, window=1, stop=False)
    show(detector, made)
    assert detector.seen == [(2, pytest.approx(0.0, abs=1e-9))]


def test_features_of_the_image_score_high_and_features_of_the_label_low():
    scores = []
    for keep in ("image", "label"):
        made = batches(5, n=40)
        for part in made:
            one_hot = nn.functional.one_hot(part[2], CLASSES).double()
            part[1] = part[0].flatten(1) if keep == "image" else one_hot
        detector = FeatureTest(batches=4, every=1, after=0, window=1, components=9, stop=False)
        show(detector, made)
        scores.append(detector.seen[-1][1])
    assert scores[0] > 0.3 and scores[1] < -0.3


def test_trials_are_due_at_their_steps_and_a_window_averages_them():
    made = batches(30)
    single, averaged = (
        FeatureTest(batches=2, every=4, after=9, window=window, stop=False) for window in (1, 3)
    )
    show(single, made)
    show(averaged, made)
    assert [step for step, _ in single.seen] == [12, 16, 20, 24, 28]
    scores = [score for _, score in single.seen]
    expected = [sum(scores[n - 3 : n]) / 3 for n in range(3, 6)]
    assert [step for step, _ in averaged.seen] == [20, 24, 28]
    assert [score for _, score in averaged.seen] == pytest.approx(expected, abs=1e-12)


def test_it_keeps_no_more_batches_than_it_needs():
    detector = FeatureTest(batches=2, every=1, after=0, window=1, stop=False)
    made = batches(5)
    show(detector, made)
    assert len(detector.kept) == 2
    for kept, (x, z, y) in zip(detector.kept, made[-2:], strict=True):
        assert torch.equal(kept[0], z) and torch.equal(kept[1], x.flatten(1))
        assert not kept[0].requires_grad and torch.equal(kept[2].argmax(1), y)


def test_without_labels_the_features_are_not_judged():
    detector = FeatureTest(batches=1, every=1, after=0, window=1, stop=False)
    x, z, _ = batches(1)[0]
    detector.incoming(SimpleNamespace(step=0), Turn(x=x, z=z), torch.zeros_like(z))
    assert detector.kept == []


def test_features_that_are_no_numbers_alarm():
    made = batches(4)
    made[3][1][0, 0] = math.nan
    with pytest.raises(sl.HijackingDetected, match="step 3: the main directions of z explain nan"):
        show(FeatureTest(1e6, batches=2, every=1, after=0, window=1), made)


# The rank


def of_rank(rank, rows=(3, 4, 4), channels=16, seed=0):
    """A gradient, (B, C, H, W), whose matrix (places, channels) is a product of this rank."""
    generator = torch.Generator().manual_seed(seed)
    b, h, w = rows
    left = torch.randn(b * h * w, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, channels, generator=generator, dtype=torch.float64)
    return (left @ right).reshape(b, h, w, channels).movedim(-1, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [1, 5, 8, 16])
def test_the_rank_of_a_product_is_known(rank, dtype):
    assert rank_share(of_rank(rank).to(dtype)) == rank / 16
    assert rank_share(1e-9 * of_rank(rank).to(dtype)) == rank / 16


@pytest.mark.parametrize(("rank", "rows"), [(2, (1, 2, 2)), (4, (1, 2, 2)), (3, (8, 1, 1))])
def test_with_fewer_places_than_channels_the_places_bound_the_rank(rank, rows):
    assert rank_share(of_rank(rank, rows)) == rank / math.prod(rows)


def test_ranks_that_can_be_worked_out():
    assert rank_share(torch.zeros(2, 4, 3, 3)) == 0.0
    assert rank_share(torch.ones(2, 4, 3, 3)) == 0.25
    assert rank_share(torch.eye(4)) == 1.0  # without places, rows are images
    assert rank_share(torch.diag(torch.tensor([1.0, 2e-4, 0.5e-4, 0.0]))) == 0.5
    assert rank_share(torch.diag(torch.tensor([1.0, 2e-4, 0.5e-4, 0.0])), 1e-5) == 0.75
    for value in (math.nan, math.inf):
        broken = torch.ones(2, 4, 3, 3)
        broken[0, 0, 0, 0] = value
        assert math.isnan(rank_share(broken))


def test_a_rotation_of_z_hides_no_rank():
    drawn = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    rotation, _ = torch.linalg.qr(drawn.double())
    dz = torch.einsum("bchw,cd->bdhw", of_rank(8), rotation)
    assert (dz.abs().amax((0, 2, 3)) > 0.1).all()
    assert rank_share(dz) == 0.5


@pytest.mark.parametrize(("design", "expected"), [("fast", 0.5), ("paper", 1.0)])
def test_at_cut_2_the_fast_design_has_half_of_the_rank_and_the_papers_all(
    make_client, make_attack, design, expected
):
    """16 of 32 channels hold a patch of 4x4 pixels; the others have a gradient of zero."""
    client = make_client(defenses=[GradientRank(stop=False)])
    sl.train([client], make_attack(design, steps=4), 4)
    (rank,) = client.defenses
    assert [score for _, score in rank.seen] == [expected] * 4
    assert rank.alarms == ([0, 1, 2, 3] if design == "fast" else [])


def test_an_honest_server_has_nearly_all_of_the_rank(make_client):
    client = make_client(defenses=[GradientRank()])
    sl.train([client], sl.HonestServer(sl.tiny.server_net()), 4)
    assert min(score for _, score in client.defenses[0].seen) > 0.9


def test_a_task_on_the_spare_channels_alone_has_the_other_half(make_client):
    client = make_client(defenses=[GradientRank(stop=False)])
    spare = nn.Sequential(LastChannels(16), sl.tiny.server_net())
    sl.train([client], sl.HonestServer(spare), 2)
    assert [score for _, score in client.defenses[0].seen] == [0.5] * 2
