"""Chapter 52's experiments: static and adaptive attackers differ in what they know, and no more."""

import pytest
import rotation
import torch
from torch import nn

import splitlab as sl
from splitlab.course.experiments.blur_frontier import GROUPS, hijack_points, passive_points
from splitlab.course.experiments.blur_hijacks import (
    CONFIRMED,
    FURTHER,
    BlurHijack,
    UndoingFSHA,
)
from splitlab.course.experiments.blurs import (
    CHOSEN,
    DEFENSES,
    SCREENED,
    STRENGTHS,
    Blur,
    averaged,
    undefended,
)
from splitlab.defenses import GaussianNoise, OrthogonalProjection, PatchShuffle

STEPS = 3


@pytest.fixture(scope="module")
def split():
    return sl.tiny.split("digits", 0)


def client(split, *defenses):
    return sl.Client(
        sl.tiny.client_net(), split.private, defenses=defenses, **sl.tiny.client() | {"seed": 0}
    )


def hijacked(split, attack, *defenses):
    """The weights of f after a few steps."""
    victim = client(split, *defenses)
    sl.train([victim], attack, STEPS)
    return nn.utils.parameters_to_vector(victim.net.parameters()).detach()


def test_every_defense_has_four_strengths_and_is_recorded_at_each():
    assert DEFENSES.keys() == STRENGTHS.keys()
    recorded = list((CHOSEN | SCREENED).values())
    for name, strengths in STRENGTHS.items():
        assert len(set(strengths)) == 4
        assert all((name, strength) in recorded for strength in strengths)
    assert set(GROUPS) == {*DEFENSES, "NoPeek"}


def test_averaging_keeps_the_images_apart_and_takes_the_noise_away(split):
    noisy, x = client(split, GaussianNoise(0.5, norm=8.0)), split.private.x[:5]
    plain = GaussianNoise(0.5, norm=8.0).clipped(undefended(noisy, x))
    for repeats in (1, 64):
        left = averaged(noisy, x, repeats) - plain
        assert float(left.std()) == pytest.approx(0.5 / repeats**0.5, rel=0.1)


def test_to_look_behind_the_defenses_leaves_them_on(split):
    victim = client(split, PatchShuffle(seed=1))
    plain = undefended(victim, split.private.x[:2])
    assert len(victim.defenses) == 1
    assert not torch.equal(plain, victim.smash(split.private.x[:2]).z)
    with pytest.raises(TypeError):
        undefended(victim, None)
    assert len(victim.defenses) == 1


@pytest.mark.parametrize("strength", rotation.share([0.5, 2.0], 2))
def test_a_row_has_what_the_claims_and_the_frontier_read(strength):
    row = Blur("", "", 0, STEPS, defense="Gaussian noise", strength=strength).measure("cpu", ())
    assert row["epsilon"]["release"] < row["epsilon"]["run"] or STEPS < 20
    assert {"static", "adaptive", "bounds", "accuracy", "nearest", "sent"} <= row.keys()
    for figures in row["bounds"].values():
        assert 0 < figures["dfil"] <= figures["cramer_rao"]


def test_a_hijack_that_knows_the_rotation_does_what_it_does_without_one(split):
    secret = OrthogonalProjection(seed=3)
    plain = hijacked(split, sl.FSHA.at(sl.tiny, split.public, steps=STEPS))
    undoing = UndoingFSHA.at(sl.tiny, split.public, steps=STEPS)
    secret.smash(None, None, torch.zeros(1, 512))
    undoing.back = secret.matrix.clone()
    same = hijacked(split, undoing, secret)
    other = hijacked(split, sl.FSHA.at(sl.tiny, split.public, steps=STEPS), secret)
    # Adam makes whole steps of rounding errors where a gradient is zero.
    assert float((same - plain).norm()) < 0.1 * float((other - plain).norm())


def test_a_hijack_that_watches_a_shuffle_waits_and_finds_the_order(split):
    secret, own = PatchShuffle(seed=3), sl.tiny.client_net(seed=9)
    undoing = UndoingFSHA.at(sl.tiny, split.public, steps=STEPS)
    undoing.watch(STEPS, own)
    before = nn.utils.parameters_to_vector(client(split).net.parameters())
    assert torch.equal(hijacked(split, undoing, secret), before)
    z = torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    message = sl.SmashedData(z=secret.smash(None, None, z), sender="client", step=0)
    torch.testing.assert_close(undoing.turned(message).z, z)


@pytest.mark.parametrize(
    "name",
    [
        "adaptive, Gaussian noise 1",
        "adaptive, top-k 32",
        "adaptive, projection 128",
    ],
)
def test_an_adaptive_hijack_rehearses_before_it_meets_the_client(split, name):
    options = {"steps": STEPS} | (CONFIRMED | FURTHER)[name] | {"steps": STEPS}
    experiment = BlurHijack("", name, 0, **options)
    attack = experiment.attack(split, "cpu")
    x = split.public.x[:64]
    error = (attack.autoencode(x) - x).square().mean() / x.var()
    assert float(error) < 0.8, "its decoder has learned nothing yet"
    assert attack.optimizer is not None


def test_the_frontiers_have_every_defense_and_an_adaptive_attacker_is_never_worse():
    passive, hijacks = passive_points(), hijack_points()
    assert {point.group for point in passive} == {"none", *GROUPS}
    left_out = {"Shredder", "noise and NoPeek"}
    assert {point.group for point in hijacks} == {"none", *GROUPS} - left_out
    for point in [*passive, *hijacks]:
        static, adaptive = point.y
        assert adaptive <= static
        assert point.record["runs"]
