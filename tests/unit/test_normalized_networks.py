"""Networks with weight or spectral normalization, whose layers keep a weight that is computed."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.core.rounds import ServerCopies
from splitlab.course.conformance.examples import everything
from splitlab.nets.evaluation import duplicate

pytestmark = [
    pytest.mark.usefixtures("short_referee"),
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
]

NORMS = {
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "parametrized spectral_norm": nn.utils.parametrizations.spectral_norm,
    "parametrized weight_norm": nn.utils.parametrizations.weight_norm,
}


@pytest.fixture(params=NORMS)
def norm(request):
    return NORMS[request.param]


@pytest.fixture
def make(norm, digits):
    """Make (client, network of the server), the same every time."""
    private = digits[0].subset(32, seed=0)

    def parties(name="client"):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(norm(nn.Conv2d(1, 32, 4, stride=4)), nn.ReLU())
            server = nn.Sequential(nn.Flatten(), norm(nn.Linear(512, 10)))
        options = sl.tiny.client() | {"batch_size": 8, "name": name}
        return sl.Client(net, private, **options), server

    return parties


def test_asking_changes_nothing(make):
    client, net = make()
    server = sl.HonestServer(net)
    sl.train([client], server, 2)
    before = everything([client, server])
    message = client.smash(client.data.x)
    client.smash(client.data.x, training_mode=True)
    server.predict(message.z)
    assert torch.equal(message.z, client.smash(client.data.x).z)
    assert everything([client, server]) == before


def test_a_copy_is_a_network_of_its_own(make):
    client, _ = make()
    sl.train([client], sl.HonestServer(make()[1]), 1)
    copy = duplicate(client.net, client.net)
    x = client.data.x[:4]
    assert torch.equal(copy.eval()(x), client.net.eval()(x))
    with torch.no_grad():
        for tensor in copy.parameters():
            tensor.zero_()
    assert client.net(x).abs().sum() > 0


def test_a_killed_run_ends_as_a_whole_one(make, tmp_path):
    def train(steps, **options):
        client, net = make()
        server = sl.HonestServer(net)
        sl.train([client], server, steps, **options)
        return everything([client.state_dict(), server.state_dict()])

    whole = train(4)
    train(2, checkpoint=tmp_path / "run", every=1)
    assert train(4, checkpoint=tmp_path / "run", every=1) == whole


@pytest.mark.parametrize("attack", ["FSHA", "no hijack", "black box", "white box"])
def test_attacks_and_the_referee_take_them(attack, make, digits):
    public, referee = (part.subset(64, seed=0) for part in digits[1:])
    client, net = make()
    hijack = sl.FSHA.at(sl.tiny, public, batch_size=8)
    server = {
        "FSHA": lambda: hijack,
        "no hijack": lambda: sl.NoHijack(net, hijack, optimizer=sl.tiny.client_optimizer),
        "black box": lambda: sl.BlackBoxInversion(net, public=public, steps=2, batch_size=8),
        "white box": lambda: sl.WhiteBoxInversion(net, f=make()[0].net, public=public, steps=2),
    }[attack]()
    sl.train([client], server, 2)
    if attack.endswith("box"):
        sl.grant(server, client)
    report = sl.evaluate(client, server, referee, n_match=16)
    assert report["attack"]["mse"] > 0


def test_servers_are_copied_after_a_step(make):
    (one, net), (two, _) = make("one"), make("two")
    server = sl.HonestServer(net)
    server.reply(one.forward().delivered())
    one, two = make("one")[0], make("two")[0]
    copies = ServerCopies(server, {"one": 32, "two": 32})
    sl.train([one, two], copies, 4, protocol=sl.SplitFed())
    weights = [list(client.net.state_dict().values()) for client in (one, two)]
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))
