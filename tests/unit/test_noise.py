"""Noise on a clipped z: what is clipped, what is added, and the epsilon that it is worth."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm as normal
from torch import nn

import splitlab as sl
from splitlab.defenses import GaussianNoise, LaplaceNoise, gaussian_epsilon


def rows(*lengths, order=2):
    """One row of each length, (n, 2, 3, 3)."""
    z = torch.randn(len(lengths), 2, 3, 3, generator=torch.Generator().manual_seed(0))
    unit = z / z.flatten(1).norm(order, dim=1).view(-1, 1, 1, 1)
    return unit * torch.tensor(lengths).view(-1, 1, 1, 1)


@pytest.mark.parametrize(("kind", "order"), [(GaussianNoise, 2), (LaplaceNoise, 1)])
def test_long_rows_are_shortened_and_short_ones_are_not(kind, order):
    z = rows(0.5, 2.0, 7.0, order=order)
    clipped = kind(1.0, norm=2.0).clipped(z)
    torch.testing.assert_close(clipped[:2], z[:2])
    torch.testing.assert_close(clipped[2], z[2] * 2 / 7)


def test_a_row_of_zeros_stays_zero():
    assert not GaussianNoise(1.0, norm=2.0).clipped(torch.zeros(2, 3)).any()


@pytest.mark.parametrize(
    ("kind", "deviation"), [(GaussianNoise, 0.5), (LaplaceNoise, 0.5 * 2**0.5)]
)
def test_noise_has_its_size_is_new_each_time_and_comes_after_the_clip(kind, deviation):
    torch.manual_seed(0)
    defense, z = kind(0.5, norm=1e-6), torch.ones(1000, 64)
    first, second = defense.noisy(z), defense.noisy(z)
    assert float(first.std()) == pytest.approx(deviation, rel=0.03)
    assert abs(float(first.mean())) < 0.01
    correlation = float((first * second).mean()) / deviation**2
    assert abs(correlation) < 0.02


def test_laplace_noise_has_heavier_tails():
    torch.manual_seed(0)
    z = torch.zeros(1000, 64)
    found = {}
    for kind in (GaussianNoise, LaplaceNoise):
        noise = kind(1.0, norm=1.0).noisy(z)
        found[kind] = float((noise**4).mean() / (noise**2).mean() ** 2)
    assert found[GaussianNoise] == pytest.approx(3, abs=0.2)
    assert found[LaplaceNoise] == pytest.approx(6, abs=0.6)


def test_the_gradient_goes_through_the_clip():
    z = rows(5.0).double().requires_grad_()
    defense = GaussianNoise(1.0, norm=2.0)
    assert torch.autograd.gradcheck(defense.clipped, (z,))


def test_a_client_sends_noise_anew_for_each_copy_of_an_image():
    private = sl.tiny.split("digits", 0).private
    defense = GaussianNoise(0.5, norm=8.0)
    client = sl.Client(sl.tiny.client_net(), private, defenses=[defense], batch_size=8)
    z = client.smash(private.x[:1].repeat(2, 1, 1, 1)).z
    assert float((z[0] - z[1]).std()) == pytest.approx(0.5 * 2**0.5, rel=0.2)
    again = client.smash(private.x[:1].repeat(2, 1, 1, 1)).z
    torch.testing.assert_close(z, again)  # smash changes nothing, not even the random state


@settings(max_examples=40, deadline=None)
@given(ratio=st.floats(0.01, 100), delta=st.floats(1e-9, 0.2))
def test_the_epsilon_is_the_smallest_one_of_the_theorem(ratio, delta):
    epsilon = gaussian_epsilon(ratio, delta)

    def needed(epsilon):  # theorem 8 of Balle and Wang
        second = math.exp(epsilon + normal.logcdf(-ratio / 2 - epsilon / ratio))
        return normal.cdf(ratio / 2 - epsilon / ratio) - second

    assert needed(epsilon) <= delta * (1 + 1e-3)
    if epsilon > 1e-3:
        assert needed(epsilon * 0.99) > delta


def test_two_normal_clouds_that_are_hardly_apart_need_no_epsilon():
    assert gaussian_epsilon(0.0, 1e-5) == 0.0
    assert gaussian_epsilon(1e-6, 1e-5) == 0.0


def test_it_is_less_than_the_classic_bound_where_that_holds():
    ratio, delta = 0.2, 1e-5
    classic = ratio * math.sqrt(2 * math.log(1.25 / delta))
    assert classic < 1
    assert gaussian_epsilon(ratio, delta) < classic


def test_epsilons_of_a_release_and_of_several():
    gaussian, laplace = GaussianNoise(1.0, norm=8.0), LaplaceNoise(0.5, norm=10.0)
    assert gaussian.epsilon() == pytest.approx(195.35, abs=0.01)
    assert gaussian.epsilon(16) == pytest.approx(GaussianNoise(0.25, norm=8.0).epsilon())
    assert gaussian.epsilon(delta=1e-3) < gaussian.epsilon()
    assert (laplace.epsilon(), laplace.epsilon(3)) == (40.0, 120.0)


def test_an_audit_of_one_release_finds_less_than_the_epsilon():
    """Two opposite z, the worst case: no threshold on a projection shows more than was promised."""
    torch.manual_seed(0)
    defense, delta = GaussianNoise(4.0, norm=2.0), 1e-2
    z = torch.zeros(50_000, 4)
    z[:, 0] = 9.0
    ones, others = defense.noisy(z)[:, 0], defense.noisy(-z)[:, 0]
    found = []
    for threshold in torch.linspace(-8, 12, 30):
        hits, false = (float((side > threshold).double().mean()) for side in (ones, others))
        if false > 0.005:
            found.append(math.log(max(hits - delta, 1e-9) / false))
    assert 0.5 * defense.epsilon(delta=delta) < max(found) < 1.1 * defense.epsilon(delta=delta)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "a lot", True, None])
def test_bad_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"^scale is .*: choose a finite number above 0$"):
        GaussianNoise(value, norm=1.0)
    with pytest.raises(ValueError, match=r"^norm is .*: choose a finite number above 0$"):
        LaplaceNoise(1.0, norm=value)


def test_bad_questions_are_refused():
    defense = GaussianNoise(1.0, norm=1.0)
    with pytest.raises(ValueError, match=r"releases is 0: "):
        defense.epsilon(0)
    with pytest.raises(ValueError, match=r"releases is 1.5: "):
        defense.epsilon(1.5)
    with pytest.raises(ValueError, match=r"releases is 'two': "):
        defense.epsilon("two")
    with pytest.raises(ValueError, match=r"delta is 0: "):
        defense.epsilon(delta=0)
    with pytest.raises(ValueError, match=r"ratio is -1\.0: choose a finite number of at least 0"):
        gaussian_epsilon(-1.0, 0.1)


def test_noise_and_pruning_compose_in_either_order():
    private = sl.tiny.split("digits", 0).private
    defenses = [sl.defenses.TopK(16), GaussianNoise(0.5, norm=8.0), sl.defenses.TopK(8)]
    client = sl.Client(sl.tiny.client_net(), private, defenses=defenses, batch_size=8)
    z = client.smash(private.x[:4]).z
    assert (z != 0).flatten(1).sum(1).tolist() == [8] * 4


def test_without_a_clip_a_network_outgrows_the_noise():
    """Why there is a clip: a longer z has less noise, relative to its length."""
    z = nn.Flatten()(torch.ones(4, 8))
    defense = GaussianNoise(1.0, norm=1.0)
    torch.testing.assert_close(defense.clipped(1000 * z), defense.clipped(z))
