"""Split training is whole training: the same weights, to the last bit where one thread adds up."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam

import splitlab as sl
from splitlab.course.experiments import largest_difference, train_whole

STEPS = 12


def adam(parameters):
    return Adam(parameters, lr=1e-3)


def whole_training(net_f, net_s, data, seed):
    """Return the state of Sequential(f, s) after training copies of both undivided."""
    whole = copy.deepcopy(nn.Sequential(net_f, net_s))
    train_whole(whole, data, STEPS, optimizer=adam, batch_size=16, seed=seed)
    return whole.state_dict()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0.0), (torch.float32, 1e-6)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_vanilla_equals_whole_training(digits, dtype, tolerance, seed):
    private = digits[0]
    net_f, net_s = (
        sl.nets.tiny.client(seed=seed).to(dtype),
        sl.nets.tiny.server(seed=seed).to(dtype),
    )
    expected = whole_training(net_f, net_s, private, seed)

    class InDtype(nn.Module):  # the data stay float32; f computes in its own precision
        def __init__(self):
            super().__init__()
            self.net = net_f

        def forward(self, x):
            return self.net(x.to(dtype))

    client = sl.Client(InDtype(), private, optimizer=adam, batch_size=16, seed=seed)
    server = sl.HonestServer(net_s, optimizer=adam)
    sl.train([client], server, STEPS)
    actual = nn.Sequential(net_f, net_s).state_dict()
    assert expected.keys() == actual.keys()
    for name in expected:
        difference = (expected[name] - actual[name]).abs().max()
        assert difference <= tolerance, f"{name} differs by {difference}"


def test_the_comparison_notices_one_wrong_step(digits):
    """The equality above is no accident: one step more, and the weights differ."""
    net_f, net_s = sl.nets.tiny.client(), sl.nets.tiny.server()
    before = whole_training(net_f, net_s, digits[0], 0)
    client = sl.Client(net_f, digits[0], optimizer=adam, batch_size=16)
    server = sl.HonestServer(net_s, optimizer=adam)
    sl.train([client], server, STEPS + 1)
    after = nn.Sequential(net_f, net_s).state_dict()
    moved = {n: (before[n] - after[n]).abs().max() for n in before if "weight" in n}
    assert max(moved.values()) > 1e-5
    assert largest_difference(before, after) >= max(moved.values())
