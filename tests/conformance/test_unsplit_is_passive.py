"""UnSplit looks on: gradients, weights and buffers are an honest run's, bit for bit."""

import pytest
import torch
from torch import nn

import splitlab as sl

SEARCH = {"rounds": 2, "image_steps": 2, "clone_steps": 2}


class Gradients(sl.Observer):
    """Keeps copies of all gradients that the client is sent."""

    def __init__(self):
        self.dz = []

    def message(self, message):
        if isinstance(message, sl.Gradient):
            self.dz.append(message.dz.clone())


def server_net(*, last=True):
    """A server with BatchNorm and Dropout, which a careless attacker would disturb."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(32, 16, 3), nn.BatchNorm2d(16), nn.Dropout(0.3), nn.Flatten()]
        return nn.Sequential(*layers, *([nn.Linear(64, 10)] if last else []))


def run(make_client, server, protocol=sl.vanilla, observers=(), tail=None):
    seen = Gradients()
    client = make_client(tail=tail)
    sl.train([client], server, 8, protocol=protocol, observers=[seen, *observers])
    nets = nn.ModuleDict({"net": client.net, "server": server.net})
    if tail is not None:
        nets["tail"] = client.tail
    return seen.dz, nets.state_dict()


def assert_same(one, other):
    (dz, state), (honest_dz, honest_state) = one, other
    assert len(dz) == 8
    assert all(torch.equal(a, b) for a, b in zip(dz, honest_dz, strict=True))
    assert all(torch.equal(state[name], honest_state[name]) for name in honest_state)


@pytest.mark.parametrize("kind", [sl.UnSplit, sl.UnSplitBrightOnDark])
def test_inversion_in_mid_training_changes_nothing(make_client, kind):
    """The referee asks for reconstructions during the run, so the attack has worked by then."""
    options = sl.tiny.unsplit(architecture=sl.nets.tiny.client, starts=1) | SEARCH
    attack = kind(server_net(), **options)
    watched = sl.Snapshots(every=4, images=2)
    attacked = run(make_client, attack, observers=[watched])
    assert len(watched.taken) == 3
    honest = sl.HonestServer(server_net(), optimizer=sl.tiny.client_optimizer)
    assert_same(attacked, run(make_client, honest))


@pytest.mark.parametrize("layers", [1, 2])
def test_label_inference_changes_nothing(make_client, layers):
    def tail():
        with torch.random.fork_rng():
            torch.manual_seed(1)
            two = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
            return nn.Linear(64, 10) if layers == 1 else two

    options = {"clone": tail(), "clone_optimizer": sl.tiny.client_optimizer}
    attack = sl.UnSplitLabels(server_net(last=False), **options)
    attacked = run(make_client, attack, sl.u_shaped, tail=tail())
    assert len(attack.guesses) == 8
    assert_same(
        attacked,
        run(make_client, sl.HonestServer(server_net(last=False)), sl.u_shaped, tail=tail()),
    )
