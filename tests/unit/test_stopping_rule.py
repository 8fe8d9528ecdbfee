"""The stopping rule: its distance by hand values, and that it keeps the window it should."""

import pytest
import torch

import splitlab as sl
from splitlab.attacks.stopping_rule import StoppingRule, cloud_distance


@pytest.fixture(scope="module")
def faces():
    return sl.data.drawn_faces(600, size=16, channels=1).split(0)


@pytest.fixture(params=["digits", "faces"])
def parts(request, digits, faces):
    return digits if request.param == "digits" else faces


def test_the_distance_has_its_hand_values():
    """A shift costs its square; a stretch by k costs (k - 1)^2 times the total variance."""
    cloud = torch.randn(500, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    variance = float(torch.cov(cloud.flatten(1).T.double()).trace())
    middle = cloud.mean(0)
    assert cloud_distance(cloud, cloud) == pytest.approx(0, abs=1e-6)
    assert cloud_distance(cloud + 0.5, cloud) == pytest.approx(4 * 0.25, rel=1e-4)
    stretched = middle + 3 * (cloud - middle)
    assert cloud_distance(stretched, cloud) == pytest.approx(4 * variance, rel=1e-4)
    assert cloud_distance(cloud[torch.randperm(500)], cloud) == pytest.approx(0, abs=1e-6)


def test_images_of_the_same_kind_are_near_and_others_are_not(parts):
    private, public, _ = parts
    near = cloud_distance(private.x, public.x)
    noise = torch.randn(len(private), *private.shape, generator=torch.Generator().manual_seed(0))
    mean = public.x.mean(0).expand(len(private), -1, -1, -1)
    assert near < 0.3 * cloud_distance(mean, public.x)
    assert near < 0.3 * cloud_distance(public.x.mean(0) + 0.3 * noise, public.x)


class Shows:
    """A server that decodes to what it was told, step by step."""

    def __init__(self, pictures):
        self.pictures = iter(pictures)

    def reconstruct(self, message):
        return next(self.pictures)


def watch(rule, pictures):
    rule.start([], Shows(pictures), len(pictures))
    for step in range(len(pictures)):
        rule.message(sl.SmashedData(z=torch.zeros(1), sender="client", step=step))
        rule.message(sl.Gradient(dz=torch.zeros(1), sender="server", step=step))
        rule.step(step, None, None)


def test_it_keeps_the_window_that_is_nearest(parts):
    private, public, _ = parts
    x = private.x[:160]
    good, dim = list(x.split(40)), list((0.3 * x).split(40))
    rule = StoppingRule(public, window=2)
    watch(rule, [dim[0], dim[1], good[0], good[1], dim[2], dim[3], good[2]])
    assert rule.steps == [2, 4, 6]  # the last window is not over
    assert rule.best == 1
    assert torch.equal(rule.pictures, x[:80])


def test_it_looks_at_messages_alone_and_survives_an_interruption(make_client, make_attack, digits):
    def run(rule, steps):
        sl.train([make_client()], make_attack(), steps, observers=[rule])

    whole, begun, resumed = (StoppingRule(digits[1], window=2) for _ in range(3))
    run(whole, 5)
    run(begun, 5)
    resumed.load_state_dict(begun.state_dict())
    assert resumed.distances == whole.distances and len(whole.distances) == 2
    assert torch.equal(resumed.pictures, whole.pictures)
    assert len(resumed._under_way) == 1


def test_wrong_uses_get_a_sentence(digits):
    with pytest.raises(ValueError, match="window is 0: it holds at least one step"):
        StoppingRule(digits[1], window=0)
    with pytest.raises(ValueError, match="no window of 20 steps is over yet"):
        _ = StoppingRule(digits[1]).best
