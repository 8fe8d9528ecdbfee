"""Distance correlation against the slow truth and a package, and what NoPeek adds to a step."""

from functools import partial
from importlib import import_module
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.defenses import (
    NoPeek,
    bias_corrected,
    distance_correlation,
    permuted,
    squared_distance_correlation,
)


@pytest.fixture(scope="module")
def dcor():
    """The package, imported where it is used: its first import compiles for some 20 seconds."""
    return import_module("dcor")


def sample(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def by_loops(x, z, power=1):
    """The definition, number by number."""
    n = len(x)

    def centered(rows):
        d = [
            [sqrt(sum((u - v) ** 2 for u, v in zip(p, q, strict=True))) ** power for q in rows]
            for p in rows
        ]
        row = [sum(d[i]) / n for i in range(n)]
        column = [sum(d[i][j] for i in range(n)) / n for j in range(n)]
        mean = sum(row) / n
        return [[d[i][j] - row[i] - column[j] + mean for j in range(n)] for i in range(n)]

    def covariance(a, b):
        return sum(a[i][j] * b[i][j] for i in range(n) for j in range(n)) / n**2

    a, b = centered(x.tolist()), centered(z.tolist())
    return sqrt(covariance(a, b) / sqrt(covariance(a, a) * covariance(b, b)))


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(2, 9), columns=st.integers(1, 4), seed=st.integers(0, 1000))
def test_both_statistics_are_their_definitions(rows, columns, seed):
    x, z = sample(rows, columns, seed), sample(rows, 3, seed + 1)
    z = z + x[:, :1]
    assert float(distance_correlation(x, z)) == pytest.approx(by_loops(x, z), abs=1e-12)
    squared = float(squared_distance_correlation(x, z))
    assert squared == pytest.approx(by_loops(x, z, power=2), abs=1e-7)


@pytest.mark.parametrize("rows", [4, 32, 100])
def test_it_is_what_the_package_says(rows, dcor):
    x = sample(rows, 5, 0)
    z = x[:, :2] ** 2 + 0.1 * sample(rows, 2, 1)
    given = x.numpy(), z.numpy()
    assert float(distance_correlation(x, z)) == pytest.approx(dcor.distance_correlation(*given))
    assert bias_corrected(x, z) == pytest.approx(dcor.u_distance_correlation_sqr(*given))


def test_images_count_as_rows_of_pixels_in_the_wider_precision():
    x, z = sample(6, 16, 0), sample(6, 8, 1)
    shaped = distance_correlation(x.view(6, 1, 4, 4).float(), z.view(6, 2, 2, 2))
    assert shaped.dtype == torch.float64
    assert float(shaped) == pytest.approx(float(distance_correlation(x, z)), abs=1e-6)


@pytest.mark.parametrize("statistic", [distance_correlation, squared_distance_correlation])
def test_its_gradient_is_that_of_finite_differences(statistic):
    x, z = sample(6, 3, 0), sample(6, 2, 1).requires_grad_()
    assert torch.autograd.gradcheck(partial(statistic, x), z)


def test_equal_rows_leave_a_finite_gradient():
    z = sample(6, 2, 1)
    z[1] = z[0]
    z.requires_grad_()
    distance_correlation(sample(6, 3, 0), z).backward()
    assert z.grad.isfinite().all() and z.grad.abs().sum() > 0


@pytest.mark.parametrize("rows", [1, 5])
def test_a_constant_z_has_no_correlation_and_no_gradient(rows):
    z = torch.ones(rows, 3, dtype=torch.float64, requires_grad=True)
    value = distance_correlation(sample(rows, 2, 0), z)
    value.backward()
    assert value.item() == 0 and not z.grad.any()


def test_moving_turning_and_scaling_change_nothing():
    x, z = sample(20, 3, 0), sample(20, 3, 1)
    z = z + x
    turned = z @ torch.linalg.qr(sample(3, 3, 2)).Q * 7 + 5
    expected = float(distance_correlation(x, z))
    assert float(distance_correlation(x, turned)) == pytest.approx(expected, abs=1e-12)
    assert float(distance_correlation(x, 3 * x - 1)) == pytest.approx(1)


def test_only_distances_see_a_dependence_that_is_not_linear():
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)[:, None]
    assert float(squared_distance_correlation(x, x**2)) < 1e-6
    assert float(distance_correlation(x, x**2)) > 0.4


def test_a_small_batch_scores_high_without_any_dependence_and_corrected_not():
    x, z = sample(32, 256, 0), sample(32, 512, 1)
    assert float(distance_correlation(x, z)) > 0.7
    values = [bias_corrected(sample(32, 8, k), sample(32, 8, k + 500)) for k in range(60)]
    assert abs(sum(values) / len(values)) < 0.02
    assert min(values) < 0


def test_the_permuted_value_is_the_mean_over_other_rows():
    x, z = sample(12, 3, 0), sample(12, 3, 0)
    generator = torch.Generator().manual_seed(4)
    orders = [torch.randperm(12, generator=generator) for _ in range(3)]
    expected = sum(float(distance_correlation(x, z[order])) for order in orders) / 3
    assert permuted(x, z, times=3, seed=4) == pytest.approx(expected)
    assert permuted(x, z, times=3, seed=4) < float(distance_correlation(x, z))
    squared = permuted(x, z, statistic=squared_distance_correlation, times=3, seed=4)
    assert squared != pytest.approx(expected)


WRONG = {
    "negative": (lambda: NoPeek(-1.0), r"alpha is -1\.0: choose a finite number of at least 0"),
    "infinite": (lambda: NoPeek(float("inf")), "alpha is inf: choose a finite number"),
    "rows": (
        lambda: distance_correlation(torch.zeros(3, 1), torch.zeros(4, 1)),
        "the samples have 3 and 4 rows: pass equally many rows of both",
    ),
    "few": (lambda: bias_corrected(torch.zeros(3, 1), torch.zeros(3, 1)), "3 rows: .* at least 4"),
    "times": (
        lambda: permuted(torch.zeros(3, 1), torch.zeros(3, 1), times=0),
        "times is 0: choose a whole number of at least 1",
    ),
}


@pytest.mark.parametrize("call, sentence", WRONG.values(), ids=WRONG.keys())
def test_what_makes_no_sense_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def client_with(data, alpha, *, optimizer=partial(SGD, lr=1.0), **options):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.Tanh())
    defenses = [] if alpha is None else [NoPeek(alpha, **options)]
    return sl.Client(net, data, optimizer=optimizer, batch_size=16, defenses=defenses, seed=0)


@pytest.fixture(scope="module")
def data():
    return sl.tiny.split("digits", 0).private.subset(64, seed=0)


@pytest.mark.parametrize("statistic", [distance_correlation, squared_distance_correlation])
def test_one_step_follows_the_servers_gradient_and_alpha_times_the_statistics(data, statistic):
    client = client_with(data, 3.0, statistic=statistic)
    before = [p.detach().clone() for p in client.net.parameters()]
    message = client.forward()
    turn, dz = client.turn, torch.randn(message.z.shape, generator=torch.Generator().manual_seed(1))
    again = client_with(data, None).net
    z = again(turn.x)
    ((dz * z).sum() + 3.0 * statistic(turn.x, z)).backward()
    client.backward(sl.Gradient(dz=dz, sender="server", step=0))
    for old, new, like in zip(before, client.net.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(old - new.detach(), like.grad, rtol=1e-4, atol=1e-6)
        assert like.grad.abs().max() > 0


def test_a_step_of_its_own_comes_first_and_shares_the_state_of_the_optimizer(data):
    client = client_with(data, 3.0, own_step=True, optimizer=partial(Adam, lr=0.01))
    net = client_with(data, None).net
    by_hand = Adam(net.parameters(), lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for step in range(3):
        message = client.forward()
        turn, dz = client.turn, torch.randn(message.z.shape, generator=generator)
        z, learned = net(turn.x), list(net.parameters())
        own = torch.autograd.grad(3.0 * distance_correlation(turn.x, z), learned, retain_graph=True)
        servers = torch.autograd.grad(z, learned, dz)
        for gradients in (own, servers):  # both at the old weights
            for weight, gradient in zip(learned, gradients, strict=True):
                weight.grad = gradient
            by_hand.step()
        client.backward(sl.Gradient(dz=dz, sender="server", step=step))
        for mine, theirs in zip(net.parameters(), client.net.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("own_step", [False, True])
def test_alpha_0_is_no_defense(data, own_step):
    states = []
    for alpha in (None, 0.0):
        client = client_with(data, alpha, own_step=own_step)
        sl.train([client], sl.HonestServer(nn.Linear(8, 10)), 5)
        states.append(client.net.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_with_it_lowers_the_correlation(data):
    found = []
    for alpha in (None, 2.0):
        client = client_with(data, alpha)
        sl.train([client], sl.HonestServer(nn.Linear(8, 10), optimizer=partial(SGD, lr=0.1)), 60)
        found.append(float(distance_correlation(data.x, client.smash(data.x).z)))
    assert found[1] < 0.8 * found[0]
