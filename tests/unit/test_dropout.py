"""Dropout at the cut: what it drops, when, and what it leaves of the mean."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.defenses import CutDropout


@pytest.fixture(scope="module")
def data():
    return sl.tiny.split("digits", 0).private.subset(64, seed=0)


def client_with(data, p):
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4000))
    torch.manual_seed(0)
    for weight in net.parameters():
        nn.init.uniform_(weight, 0.5, 1)
    return sl.Client(net, data, batch_size=16, defenses=[CutDropout(p)], seed=0)


@pytest.mark.parametrize("p", [0.0, 0.25, 0.9])
def test_the_share_is_dropped_and_the_others_are_scaled(data, p):
    client = client_with(data, p)
    whole, sent = client.net(data.x), client.smash(data.x).z
    dropped = sent == 0
    assert dropped.float().mean() == pytest.approx(p, abs=0.01)
    torch.testing.assert_close(sent[~dropped], whole.detach()[~dropped] / (1 - p))


def test_it_draws_anew_in_training_and_not_in_what_changes_nothing(data):
    client = client_with(data, 0.5)
    first = client.forward().z
    client.backward(sl.Gradient(dz=torch.zeros_like(first), sender="server", step=0))
    assert not torch.equal(client.forward().z == 0, first == 0)
    assert torch.equal(client.smash(data.x).z, client.smash(data.x).z)


def test_no_gradient_passes_where_z_was_dropped(data):
    client = client_with(data, 0.5)
    z = client.forward().z
    dz = (z == 0).float()  # only where nothing was sent
    before = [weight.detach().clone() for weight in client.net.parameters()]
    client.backward(sl.Gradient(dz=dz, sender="server", step=0))
    after = client.net.parameters()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_gets_a_sentence(p):
    with pytest.raises(ValueError, match=r"^p is .*: choose a (probability|finite number) "):
        CutDropout(p)
