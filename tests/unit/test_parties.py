"""Clients, servers, defenses' hooks, and the training loop."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.core.randomness import RandomState, Sampler
from splitlab.nets.evaluation import evaluating


def test_client_refuses_a_gradient_of_another_shape_or_step(make_client):
    client = make_client()
    smashed = client.forward()
    with pytest.raises(ValueError, match="one number for each number of z"):
        client.backward(sl.Gradient(dz=torch.zeros(1, 2), sender="server", step=0))
    with pytest.raises(RuntimeError, match="did not ask for a gradient of step 7"):
        client.backward(sl.Gradient(dz=torch.zeros_like(smashed.z), sender="server", step=7))
    client.backward(sl.Gradient(dz=torch.zeros_like(smashed.z), sender="server", step=0))
    assert client.step == 1


def test_client_refuses_two_forwards(make_client):
    client = make_client()
    client.forward()
    with pytest.raises(RuntimeError, match="still waits for the gradient of step 0"):
        client.forward()


def test_client_refuses_a_batch_larger_than_its_data(make_client):
    with pytest.raises(ValueError, match="cannot draw batches of 5000"):
        make_client(batch_size=5000)


def test_server_without_labels_says_what_to_do(make_client):
    client = make_client(sends_labels=False)
    with pytest.raises(ValueError, match="sends_labels=True"):
        sl.train([client], sl.HonestServer(sl.nets.tiny.server()), 1)


def test_client_gradient_is_the_chain_rule(make_client):
    """What backward leaves in f's gradients is (dz/df)^T dz."""
    client = make_client(optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    smashed = client.forward()
    dz = torch.randn_like(smashed.z)
    expected = torch.autograd.grad(
        (smashed.z * dz).sum(), client.net.parameters(), retain_graph=True
    )
    client.backward(sl.Gradient(dz=dz, sender="server", step=0))
    for parameter, gradient in zip(client.net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_smash_changes_nothing(make_client):
    client = make_client(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)))
    before = {name: value.clone() for name, value in client.state_dict()["net"]["weights"].items()}
    state = client.randomness.state_dict()["cpu"]
    one = client.smash(client.data.x[:40], training_mode=True).z
    two = client.smash(client.data.x[:40], training_mode=True).z
    assert torch.equal(one, two)  # the random state was put back
    assert torch.equal(state, client.randomness.state_dict()["cpu"])
    after = client.state_dict()["net"]["weights"]
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(one, client.smash(client.data.x[:40]).z)  # the mode matters
    assert not one.requires_grad


NORMED = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "parametrized": nn.utils.parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("norm", NORMED)
def test_networks_that_deepcopy_refuses_are_trained_looked_at_and_resumed(
    make_client, digits, tmp_path, norm
):
    """Old-style norms leave a tensor with a graph on the layer, at both ends of the network."""

    def run(steps, **options):
        torch.manual_seed(0)
        f = nn.Sequential(NORMED[norm](nn.Conv2d(1, 4, 4, 2, 1)), nn.BatchNorm2d(4))
        s = nn.Sequential(nn.Flatten(), NORMED[norm](nn.Linear(256, 10)))
        client, server = make_client(f), sl.BlackBoxInversion(s, public=digits[1], steps=2)
        sl.train([client], server, steps, **options)
        return client, server

    client, server = run(4)
    before = {name: value.clone() for name, value in client.net.state_dict().items()}
    assert not server.frozen_net()[1].weight.requires_grad
    sl.grant(server, client)
    for mode in (False, True):
        server.reconstruct(client.smash(client.data.x[:40], training_mode=mode))
    after = client.net.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    copies = sl.ServerCopies(server, {"client": 1})
    sl.train([client], copies, 1)
    run(2, checkpoint=tmp_path / "run", every=1)
    resumed, _ = run(4, checkpoint=tmp_path / "run", every=1)
    state = resumed.net.state_dict()
    assert all(torch.equal(before[name], state[name]) for name in before)


def test_smash_in_training_mode_shows_what_the_server_receives(make_client):
    client = make_client()
    rows = Sampler(len(client.data), 16, owner="client", seed=0).next()
    smashed = client.smash(client.data.x[rows], training_mode=True)
    assert torch.equal(client.forward().z, smashed.z)


@pytest.mark.parametrize("n", [1, 5, 16, 17, 40])
def test_in_training_mode_all_batches_are_whole(make_client, n):
    """As in training, which drops a last partial batch: no other size, and none of one row."""
    sizes = []
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 8), nn.BatchNorm1d(8))
    client = make_client(flat)
    flat.register_forward_pre_hook(lambda net, given: sizes.append(len(given[0])))
    x = client.data.x[:n]
    z = client.smash(x, training_mode=True).z
    assert len(z) == n and set(sizes) == {16}
    rows = [number % n for number in range(n - 16, n)]  # the last ones, after earlier ones
    alone = client.smash(x[rows], training_mode=True).z
    last = n % 16 or 16
    assert torch.equal(z[-last:], alone[-last:])


class Everything(sl.Defense):
    """A defense that uses every hook, and writes down the order."""

    def __init__(self):
        self.calls = []

    def prepare(self, client):
        self.calls.append("prepare")

    def begin(self, client, turn):
        self.calls.append("begin")
        turn.labels = (turn.labels + 1) % 10

    def smash(self, client, turn, z):
        self.calls.append("smash")
        return z * 2

    def local_loss(self, client, turn):
        self.calls.append("local_loss")
        return turn.z.square().sum()

    def incoming(self, client, turn, dz):
        self.calls.append("incoming")
        return dz * 3

    def grads(self, client, turn):
        self.calls.append("grads")


def test_defenses_take_part_in_the_turn(make_client):
    defense = Everything()
    client = make_client(defenses=[defense], optimizer=lambda p: torch.optim.SGD(p, lr=0.0))
    rows = Sampler(len(client.data), 16, owner="client", seed=0).next()
    smashed = client.forward()
    assert torch.equal(smashed.labels, (client.data.y[rows] + 1) % 10)
    z = smashed.z  # already doubled
    expected = torch.autograd.grad(
        (z * 3).sum() + z.square().sum(), client.net.parameters(), retain_graph=True
    )
    client.backward(sl.Gradient(dz=torch.ones_like(z), sender="server", step=0))
    for parameter, gradient in zip(client.net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert defense.calls == ["prepare", "begin", "smash", "incoming", "local_loss", "grads"]


def test_defenses_are_active_in_evaluation(make_client):
    plain, defended = make_client(), make_client(defenses=[Everything()])
    x = plain.data.x[:8]
    assert torch.equal(defended.smash(x).z, 2 * plain.smash(x).z)


def test_a_defense_can_skip_the_update_or_stop_the_training(make_client):
    class Skip(sl.Defense):
        def begin(self, client, turn):
            turn.fake, turn.update = True, False

    class Stop(sl.Defense):
        def incoming(self, client, turn, dz):
            raise sl.HijackingDetected("the gradients ignore the labels")

    client = make_client(defenses=[Skip()])
    before = [p.clone() for p in client.net.parameters()]
    server = sl.HonestServer(sl.nets.tiny.server())
    sl.train([client], server, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, client.net.parameters(), strict=True))
    with pytest.raises(sl.HijackingDetected):
        sl.train([make_client(defenses=[Stop()])], server, 2)


def test_weights_hand_a_client_on(make_client):
    one, two = make_client(), make_client(sl.tiny.client_net(seed=5), name="second")
    sl.train([one], sl.HonestServer(sl.nets.tiny.server()), 2)
    two.load(sl.Wire()(one.weights(), two))
    x = one.data.x[:4]
    assert torch.equal(one.smash(x).z, two.smash(x).z)


def test_several_clients_take_turns(make_client):
    clients = [make_client(name="first"), make_client(name="second", seed=1)]
    sl.train(clients, sl.HonestServer(sl.nets.tiny.server()), 5)
    assert [client.step for client in clients] == [3, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (lambda c: (c, 3), TypeError, "clients is a list"),
        (lambda c: ([], 3), ValueError, "clients is empty"),
        (lambda c: ([c], 0), ValueError, "steps is 0"),
    ],
)
def test_train_refuses_what_it_cannot_do(make_client, arguments, error, sentence):
    clients, steps = arguments(make_client())
    with pytest.raises(error, match=sentence):
        sl.train(clients, sl.HonestServer(sl.nets.tiny.server()), steps)


def test_log_collects_every_step(make_client):
    log = sl.train([make_client()], sl.HonestServer(sl.nets.tiny.server()), 4)
    assert log.steps == 4
    assert list(log) == ["task_loss", "task_accuracy"]
    assert len(log["task_loss"]) == 4
    assert all(isinstance(value, float) for value in log["task_loss"])
    with pytest.raises(KeyError, match="task_loss"):
        log["no such metric"]


def test_honest_training_learns_the_task(make_client, digits):
    client = make_client(batch_size=32)
    server = sl.HonestServer(sl.nets.tiny.server())
    sl.train([client], server, 300)
    predicted = server.predict(client.smash(digits[1].x).z)
    assert (predicted == digits[1].y).float().mean() > 0.85


def test_evaluating_restores_each_modules_mode():
    net = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2)))
    net[1].eval()
    with evaluating(net):
        assert not net.training
        assert not net[0].training
        assert not torch.is_grad_enabled()
    assert net.training
    assert net[0].training
    assert not net[1].training


def test_random_state_is_lent_and_taken_back():
    state = RandomState("client", 0)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with state.lent():
        first = torch.rand(3)
        with state.lent():  # a method that calls another one of the same party
            second = torch.rand(3)
    with state.lent(keep=False):
        third = torch.rand(3)
    with state.lent():
        fourth = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    assert len({tuple(t.tolist()) for t in (first, second, third)}) == 3
    assert torch.equal(third, fourth)
    with RandomState("attacker", 0).lent():
        assert not torch.equal(torch.rand(3), first)


def test_sampler_visits_every_row_once_an_epoch():
    sampler = Sampler(10, 3, owner="client", seed=0)
    epoch = torch.cat([sampler.next() for _ in range(3)])
    assert len(epoch.unique()) == 9
    whole = Sampler(9, 3, owner="client", seed=0)  # no partial batch: nothing is dropped
    assert torch.cat([whole.next() for _ in range(3)]).sort().values.tolist() == list(range(9))
    saved = sampler.state_dict()
    following = [sampler.next() for _ in range(7)]
    other = Sampler(10, 3, owner="client", seed=99)
    other.load_state_dict(saved)
    assert all(torch.equal(a, other.next()) for a in following)
    with pytest.raises(ValueError, match="load it beside the data"):
        Sampler(11, 3, owner="client", seed=0).load_state_dict(saved)


def test_autocast_sees_fresh_weights_within_a_turn():
    """Autocast's cache would score with the critic of before its first step."""
    net = nn.Linear(4, 1)

    class TwoSteps(sl.Server):
        threat = sl.HonestServer.threat

        def reply(self, message):
            one = net(message.z.flatten(1)[:, :4])
            with torch.no_grad():
                net.weight.add_(1)
            two = net(message.z.flatten(1)[:, :4])
            self.metrics = {"change": (two - one).detach().float().abs().max()}
            return self.gradient(message, torch.zeros_like(message.z))

    private, _, _ = sl.tiny.split("digits", 0)
    client = sl.Client(sl.tiny.client_net(), private)
    log = sl.train([client], TwoSteps(), 1, autocast=torch.bfloat16)
    assert log["change"][0] > 1e-3
