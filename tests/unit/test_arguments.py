"""Checks of arguments: what is right passes as it is, and a look at a network changes nothing."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab import arguments
from splitlab.nets.shapes import output_of

WHOLE = [3, np.int64(3), np.uint8(3), torch.tensor(3)]
REAL = [0.5, np.float32(0.5), np.float64(0.5), torch.tensor(0.5), np.array(0.5), Fraction(1, 2)]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers_of_any_library_are_taken(value):
    assert arguments.count("n", value, least=1) == arguments.seed(value) == 3
    assert type(arguments.count("n", value, least=1)) is int
    assert sl.nets.LastChannels(value).kept == 3


@pytest.mark.parametrize("value", REAL, ids=repr)
def test_real_numbers_of_any_library_are_taken(value):
    for check in (arguments.number, arguments.chance, arguments.share, arguments.finite):
        assert check("n", value) == 0.5
    assert arguments.within("n", value, 0, 1) == 0.5


@pytest.mark.parametrize(
    "value", [True, "3", None, 2.5, [3], torch.tensor([1, 2]), 10**5000], ids=range(7)
)
def test_what_is_no_count_gets_a_short_sentence(value):
    with pytest.raises(ValueError, match=r"^n is .*: choose a (whole )?number") as caught:
        arguments.count("n", value, least=1)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("value", [0, -1, 2**64 - 1, -(2**63)])
def test_a_seed_that_torch_takes_stays_itself(value):
    drawn = torch.rand(3, generator=torch.Generator().manual_seed(value))
    assert torch.equal(drawn, torch.rand(3, generator=arguments.generator(value)))


def test_larger_seeds_work_and_differ():
    nets = [sl.tiny.client_net(seed=seed) for seed in (2**64, 2**64 + 1, 10**30, 0)]
    weights = [net[0][0].weight.flatten().tolist() for net in nets]
    assert all(weights[a] != weights[b] for a in range(4) for b in range(a))
    again = sl.tiny.client_net(seed=10**30)
    assert again[0][0].weight.flatten().tolist() == weights[2]


class Careless(nn.Module):
    """Draws random numbers in any mode, counts its batches, and writes into what it gets."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5))

    def forward(self, x):
        return self.inner(x.add_(torch.rand(())))


def test_a_look_at_a_network_changes_nothing():
    net, x = Careless(), torch.zeros(2, 1, 4, 4)
    net.inner[1].eval()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes, stream = [part.training for part in net.modules()], torch.get_rng_state()
    made = output_of("net", net, x, what="images", do="")
    assert made.shape == x.shape and not made.requires_grad
    assert not x.any()
    assert torch.equal(stream, torch.get_rng_state())
    assert modes == [part.training for part in net.modules()] and modes.count(False) == 1
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_an_attack_is_made_without_moving_the_random_stream_or_its_networks():
    public = sl.tiny.split("digits", 0).public.subset(16, seed=0)
    nets = sl.nets.tiny
    pilot = nn.Sequential(nets.pilot(), nn.BatchNorm2d(32), nn.Dropout(0.5))
    state = {name: value.clone() for name, value in pilot.state_dict().items()}
    stream, x = torch.get_rng_state(), public.x.clone()
    critic = sl.Critic(nets.critic())
    attack = sl.FSHA(public, pilot=pilot, decoder=nets.decoder(), critic=critic, batch_size=8)
    sl.UnSplit(nets.shallow_server(), architecture=nn_of_chance, image_shape=(1, 16, 16))
    assert torch.equal(stream, torch.get_rng_state()) and torch.equal(x, public.x)
    assert pilot.training and attack.z_shape == (32, 4, 4)
    assert all(torch.equal(state[name], value) for name, value in pilot.state_dict().items())


def nn_of_chance(*, seed):
    """A client whose weights do not depend on the seed."""
    return nn.Conv2d(1, 2, 3)


def test_a_network_that_fits_images_alone_is_refused_with_the_shapes():
    with pytest.raises(ValueError, match=r"^net does not take z of shape \(3,\) \(.*\): cut it"):
        output_of("net", nn.Conv2d(1, 1, 1), torch.zeros(1, 3), what="z", do="cut it")
    with pytest.raises(ValueError, match=r"^net makes a tensor of shape \(6,\) of 2 z .*: cut it"):
        output_of("net", nn.Flatten(0), torch.zeros(2, 3), what="z", do="cut it")


def test_optimizers_are_made_once_and_say_why_they_are_not():
    made = arguments.optimizer(torch.optim.Adam, nn.Linear(1, 1).parameters(), who="client")
    assert isinstance(made, torch.optim.Adam)
    with pytest.raises(ValueError, match=r"^client has a network without parameters"):
        arguments.optimizer(torch.optim.Adam, nn.Flatten().parameters(), who="client")
    with pytest.raises(TypeError, match=r"^optimizer makes None, not an optimizer: pass"):
        weights = nn.Linear(1, 1).parameters()
        arguments.optimizer(lambda parameters: None, weights, who="client")


def test_lists_arrays_and_lists_of_names_become_tensors_and_tuples():
    x = torch.zeros(3, 1, 4, 4)
    for labels in ([0, 1, 0], (0, 1, 0), np.array([0, 1, 0], np.int32)):
        data = sl.ImageData(x, labels, ["a", "b"], block=[5, 5, 6], attributes={"odd": [True] * 3})
        assert data.y.dtype == torch.int64 and data.y.tolist() == [0, 1, 0]
        assert data.classes == ("a", "b") and data.block.tolist() == [5, 5, 6]
        assert data.attributes["odd"].dtype == torch.bool
    array = np.array([0, 1, 0])
    data = sl.ImageData(x, array, ("a", "b"))
    array[:] = 1
    assert data.y.tolist() == [0, 1, 0]
