"""SplitOut: outlier factors as scikit-learn has them, a rehearsal that leaves no trace."""

import copy
import statistics
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor
from states import plain
from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.core.client import Turn
from splitlab.defenses import SplitOut


def make(net=None, **options):
    """One with a short rehearsal, on a part of the data."""
    options = {"share": 0.1, "steps": 6, "window": 1, "stop": False} | options
    return SplitOut(sl.tiny.server_net(seed=3) if net is None else net, **options)


def among(rehearsed, **options):
    """One that has these gradients, and no client."""
    detector = make(**options)
    detector.fit(torch.as_tensor(np.asarray(rehearsed)).double())
    return detector


def show(detector, gradients):
    """Show gradients of the first parameter, as `backward` would."""
    net = nn.Linear(len(gradients[0]), 1, bias=False)
    for step, gradient in enumerate(gradients):
        net.weight.grad = torch.as_tensor(gradient).to(net.weight)[None]
        detector.grads(SimpleNamespace(step=step, net=net), Turn(x=torch.zeros(1, 1)))


# The factor


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_factor_is_scikit_learns_with_all_but_one_as_neighbors(n):
    rng = np.random.default_rng(n)
    rehearsed, new = rng.normal(size=(n, 4)), rng.normal(size=(6, 4)) * 3
    model = LocalOutlierFactor(n_neighbors=n - 1, novelty=True).fit(rehearsed)
    expected = (-model.score_samples(new)).tolist()
    detector = among(rehearsed)
    assert [detector.factor(torch.tensor(row)) for row in new] == pytest.approx(expected)
    # Its default threshold is scikit-learn's own.
    alarms = [factor > make().threshold for factor in expected]
    assert alarms == (model.predict(new) == -1).tolist()


def test_the_factor_is_the_ratio_of_densities():
    """Two rehearsed gradients, 0 and 1, and a new one at 3, with one neighbor.

    The distances to be reached are 1 for both rehearsed ones and 2 for the new one: it lies in half
    of their density.
    """
    detector = among([[0.0], [1.0]])
    assert detector.factor(torch.tensor([3.0])) == pytest.approx(2.0)
    assert detector.factor(torch.tensor([0.5])) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_the_farthest_outlier(value):
    detector = among([[0.0, 0.0], [1.0, 0.0]])
    show(detector, [[value, 0.0]])
    assert detector.factors == [float("inf")] and detector.alarms == [0]


# The rehearsal


@pytest.mark.parametrize("u_shaped", [False, True])
def test_the_rehearsal_leaves_the_client_as_it_was(make_client, u_shaped):
    def client(*defenses):
        torch.manual_seed(1)
        net = nn.Sequential(sl.tiny.client_net(), nn.Dropout(0.2))
        tail = nn.Linear(10, 10) if u_shaped else None
        stream = torch.get_rng_state()
        made = make_client(net, tail=tail, defenses=defenses)
        assert torch.equal(torch.get_rng_state(), stream)
        return made

    server_net = sl.tiny.server_net(seed=3)
    before = plain(server_net.state_dict())
    detector = make(server_net)
    with_it = client(detector)
    assert len(detector.rehearsed) == 6 and detector.rehearsed.any(1).all()
    assert plain(server_net.state_dict()) == before
    one, other = (c.state_dict() for c in (with_it, client()))
    one.pop("defenses")
    other.pop("defenses", None)
    assert plain(one) == plain(other)
    nets = [server_net, with_it.net, *([with_it.tail] if u_shaped else [])]
    assert all(weight.grad is None for net in nets for weight in net.parameters())


def test_the_same_seed_rehearses_the_same_and_another_one_not(make_client):
    found = []
    for seed in (0, 0, 1):
        detector = make(seed=seed)
        torch.rand(seed + 3)  # the global stream has no part in it
        make_client(nn.Sequential(sl.tiny.client_net(), nn.Dropout(0.2)), defenses=[detector])
        found.append(detector.rehearsed)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "optimizer", [sl.tiny.client_optimizer, partial(SGD, lr=0.1, momentum=0.9)]
)
def test_it_rehearses_what_an_honest_run_on_the_same_images_does(make_client, optimizer, digits):
    """With all images, and the same batches, the gradients are those of honest training."""
    detector = make(sl.tiny.server_net(), share=1.0, steps=4)
    client = make_client(optimizer=optimizer, defenses=[detector])
    net, server = copy.deepcopy(client.net), sl.tiny.server_net()
    whole = optimizer([*net.parameters(), *server.parameters()])
    few = digits[0].subset(len(digits[0]), seed=0)
    sampler = sl.Sampler(len(few), 16, owner="the rehearsal", seed=0)
    for row in detector.rehearsed:
        rows = sampler.next()
        whole.zero_grad()
        nn.functional.cross_entropy(server(net(few.x[rows])), few.y[rows]).backward()
        torch.testing.assert_close(row, net[0][0].weight.grad.flatten().double())
        whole.step()


def test_it_rehearses_on_its_share_and_at_least_on_a_batch(make_client, digits, monkeypatch):
    sizes, subset = [], type(digits[0]).subset
    monkeypatch.setattr(
        type(digits[0]), "subset", lambda self, n, **o: sizes.append(n) or subset(self, n, **o)
    )
    for share in (1.0, 0.25, 0.001):
        make_client(defenses=[make(share=share, steps=2)])
    n = len(digits[0])
    assert sizes == [n, round(n / 4), 16]


# The alarm


def test_the_median_is_above_the_threshold_if_and_only_if_most_factors_are():
    """With an odd window. With an even one, half of the factors may do, if they are far above."""
    rng = np.random.default_rng(0)
    rehearsed = rng.normal(size=(12, 3))
    gradients = [
        row * (4 if far else 0.3)
        for row, far in zip(rng.normal(size=(60, 3)), rng.random(60) < 0.5, strict=True)
    ]
    for window in (1, 5, 7):
        detector = among(rehearsed, window=window)
        show(detector, gradients)
        factors = detector.factors
        assert len(factors) == 60 and [step for step, _ in detector.seen] == list(
            range(window - 1, 60)
        )
        outliers = [factor > 1.5 for factor in factors]
        most = [
            step
            for step in range(window - 1, 60)
            if 2 * sum(outliers[step + 1 - window : step + 1]) > window
        ]
        assert detector.alarms == most and 5 < len(most) < 55
    assert detector.seen[0][1] == statistics.median(factors[:7])


def test_with_an_even_window_more_than_half_always_alarm_and_less_than_half_never():
    rng = np.random.default_rng(0)
    detector = among(rng.normal(size=(12, 3)), window=4)
    show(detector, [row * (4 if n % 3 else 0.3) for n, row in enumerate(rng.normal(size=(60, 3)))])
    for step, score in detector.seen:
        above = sum(factor > 1.5 for factor in detector.factors[step - 3 : step + 1])
        if above != 2:
            assert (score > 1.5) == (above > 2)


def test_a_gradient_ten_times_as_long_is_an_outlier_and_a_typical_one_is_not(make_client):
    detector = make(share=1.0, steps=20)
    make_client(defenses=[detector])
    typical = detector.rehearsed.median(0).values
    assert detector.factor(typical) < 1.5
    longest = detector.rehearsed[detector.rehearsed.norm(dim=1).argmax()]
    assert detector.factor(10 * longest) > 1.5


def test_it_keeps_the_rehearsed_gradients_of_an_honest_client_within(make_client):
    """The same networks on other batches are no outliers; a server that shouts is one."""

    class Shouts(sl.HonestServer):
        def reply(self, message):
            return self.gradient(message, 30 * super().reply(message).dz)

    medians = []
    for kind in (sl.HonestServer, Shouts):
        detector = make(share=1.0, steps=10, window=5)
        sl.train([make_client(defenses=[detector])], kind(sl.tiny.server_net()), 8)
        medians.append([score for _, score in detector.seen])
        assert len(detector.factors) == 8 and len(detector.seen) == 4
    assert max(medians[0]) < 1.5 < min(medians[1])


def test_it_works_with_a_tail(make_client):
    """The rest that it imagines ends where the tail begins."""
    torch.manual_seed(0)
    body, tail = nn.Sequential(*sl.tiny.server_net()[:-1]), sl.tiny.server_net()[-1:]
    detector = make(body, share=1.0)
    client = make_client(tail=tail, defenses=[detector])
    sl.train([client], sl.HonestServer(copy.deepcopy(body)), 3, protocol=sl.u_shaped)
    assert len(detector.seen) == 3 and all(0 < factor < 10 for factor in detector.factors)
    # The same whole network, split in another place, has the same gradients.
    vanilla = make(nn.Sequential(*body, *sl.tiny.server_net()[-1:]), share=1.0)
    make_client(defenses=[vanilla])
    torch.testing.assert_close(vanilla.rehearsed, detector.rehearsed)


def test_the_sentence_has_window_and_median():
    detector = among([[0.0], [1.0]], window=2, stop=True)
    with pytest.raises(sl.HijackingDetected) as caught:
        show(detector, [[3.0], [3.0], [3.0]])
    assert str(caught.value) == (
        "step 1: the last 2 gradients have a median outlier factor of 2.00 among those of the "
        "rehearsal; SplitOut alarms above 1.5"
    )
