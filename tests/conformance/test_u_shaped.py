"""The U-shaped protocol: four messages, labels at home, and whole training's weights."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.course.experiments import largest_difference, train_whole

STEPS = 6


class InDtype(nn.Module):
    """f in the precision of its parameters; the data stay float32."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.to(next(self.net.parameters()).dtype))


def three_parts(seed=0, dtype=torch.float32):
    """(f, body, tail): the tiny networks, the server's cut once more."""
    server = sl.nets.tiny.server(seed=seed).to(dtype)
    return InDtype(sl.nets.tiny.client(seed=seed).to(dtype)), server[:3], server[3:]


def body():
    return three_parts()[1]


@pytest.fixture
def make_u_client(make_client):
    """Make a client with a tail."""

    def make(seed=0, dtype=torch.float32, **options):
        net, _, tail = three_parts(seed, dtype)
        return make_client(net, **{"tail": tail, "seed": seed} | options)

    return make


class Everything(sl.Observer):
    """Keeps all messages."""

    def __init__(self):
        self.messages = []

    def message(self, message):
        self.messages.append(message)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0.0), (torch.float32, 1e-6)])
@pytest.mark.parametrize("seed", [0, 1])
def test_u_shaped_equals_whole_training(digits, make_u_client, dtype, tolerance, seed):
    net, middle, tail = three_parts(seed, dtype)
    whole = nn.ModuleList([net, middle, tail])
    whole.forward = lambda x: tail(middle(net(x)))
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 16, "seed": seed}
    train_whole(whole, digits[0], STEPS, **options)

    client = make_u_client(seed, dtype)
    server = sl.HonestServer(three_parts(seed, dtype)[1], optimizer=sl.tiny.client_optimizer)
    sl.train([client], server, STEPS, protocol=sl.u_shaped)
    actual = nn.ModuleList([client.net, server.net, client.tail]).state_dict()
    assert largest_difference(whole.state_dict(), actual) <= tolerance
    assert server.under_way is None
    # The equality is no accident: one step more, and the weights differ.
    sl.train([client], server, 1, protocol=sl.u_shaped)
    actual = nn.ModuleList([client.net, server.net, client.tail]).state_dict()
    assert largest_difference(whole.state_dict(), actual) > 1e-5


def test_four_messages_cross_and_no_label_is_among_them(make_u_client):
    """Class numbers are integers, and no message holds any."""
    everything, wiretap = Everything(), sl.Wiretap()
    client = make_u_client()
    sl.train(
        [client], sl.HonestServer(body()), 3, protocol=sl.u_shaped, observers=[everything, wiretap]
    )
    kinds = [type(message).__name__ for message in everything.messages]
    assert kinds == ["SmashedData", "ServerOutput", "OutputGradient", "Gradient"] * 3
    senders = [message.sender for message in everything.messages]
    assert senders == ["client", "server"] * 6
    assert set(wiretap.counts.values()) == {3}
    assert wiretap.shapes["client", "SmashedData"] == [(16, 32, 4, 4)]  # z, and nothing beside it
    assert all(t.is_floating_point() for m in everything.messages for t in m.tensors())
    labels = [m.labels for m in everything.messages if isinstance(m, sl.SmashedData)]
    assert labels == [None] * 3


def test_the_tails_gradient_leaks_labels_all_the_same(make_u_client):
    """Nothing is sent, and da still depends on the labels: a curious server can work on that."""

    class Relabel(sl.Defense):
        def begin(self, client, turn):
            turn.labels = (turn.labels + 1) % 10

    one, other = Everything(), Everything()
    for everything, defenses in ((one, []), (other, [Relabel()])):
        client = make_u_client(defenses=defenses)
        server = sl.HonestServer(body())
        sl.train([client], server, 1, protocol=sl.u_shaped, observers=[everything])
    assert torch.equal(one.messages[0].z, other.messages[0].z)
    assert torch.equal(one.messages[1].a, other.messages[1].a)
    assert not torch.equal(one.messages[2].da, other.messages[2].da)


def test_the_log_has_the_clients_loss(make_u_client):
    log = sl.train([make_u_client()], sl.HonestServer(body()), 40, protocol=sl.u_shaped)
    assert list(log) == ["task_loss", "task_accuracy"]
    assert sum(log["task_loss"][-5:]) < 0.7 * sum(log["task_loss"][:5])


def test_the_tail_is_not_stepped_when_a_defense_skips_the_update(make_u_client):
    class Skip(sl.Defense):
        def begin(self, client, turn):
            turn.fake, turn.update = True, False

    client = make_u_client(defenses=[Skip()])
    before = copy.deepcopy(client.tail.state_dict())
    sl.train([client], sl.HonestServer(body()), 2, protocol=sl.u_shaped)
    assert largest_difference(before, client.tail.state_dict()) == 0


def test_defenses_take_part_in_the_u_shaped_turn(make_u_client):
    """All hooks run, in order, and what they change is what f's gradients come from."""
    calls = []

    class All(sl.Defense):
        def prepare(self, client):
            calls.append("prepare")

        def begin(self, client, turn):
            calls.append("begin")

        def smash(self, client, turn, z):
            calls.append("smash")
            return z * 2

        def incoming(self, client, turn, dz):
            calls.append("incoming")
            self.expected = torch.autograd.grad(
                (turn.z * dz * 3).sum() + turn.z.square().sum(),
                client.net.parameters(),
                retain_graph=True,
            )
            return dz * 3

        def local_loss(self, client, turn):
            calls.append("local_loss")
            return turn.z.square().sum()

        def grads(self, client, turn):
            calls.append("grads")
            for parameter, gradient in zip(client.net.parameters(), self.expected, strict=True):
                torch.testing.assert_close(parameter.grad, gradient)
            assert all(parameter.grad is not None for parameter in client.tail.parameters())

    client = make_u_client(defenses=[All()], optimizer=lambda p: SGD(p, lr=1e-3))
    sl.train([client], sl.HonestServer(body()), 2, protocol=sl.u_shaped)
    turn = ["begin", "smash", "incoming", "local_loss", "grads"]
    assert calls == ["prepare", *turn, *turn]


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_fsha_hijacks_the_u_shaped_protocol_as_it_does_vanilla(
    make_client, make_u_client, make_attack, design
):
    """f moves as under the vanilla hijack, bit for bit, whatever the tail learns meanwhile."""
    vanilla, u_shaped = make_client(three_parts()[0]), make_u_client()
    sl.train([vanilla], make_attack(design), 4)
    attack = make_attack(design, body=body())
    log = sl.train([u_shaped], attack, 4, protocol=sl.u_shaped)
    assert largest_difference(vanilla.net.state_dict(), u_shaped.net.state_dict()) == 0
    assert {"client_loss", "task_loss"} <= set(log)
    assert largest_difference(body().state_dict(), attack.body.state_dict()) == 0
    assert largest_difference(three_parts()[2].state_dict(), u_shaped.tail.state_dict()) > 0
    assert attack.under_way is None


def test_fsha_answers_with_the_gradient_of_the_clients_loss(make_u_client, make_attack):
    attack, client = make_attack("paper", body=body()), make_u_client()
    message = client.forward().delivered()
    z = message.z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(attack.critic.pull(z, z.detach()), z)
    output = attack.forward(message).delivered()
    assert torch.equal(output.a, body()(message.z))
    answer = attack.backward(client.finish(output).delivered())
    assert torch.equal(answer.dz, expected)


def test_a_passive_server_answers_honestly_and_sees_both_messages(make_u_client):
    class Nosy(sl.PassiveServer):
        threat = sl.HonestServer.threat
        seen = ()

        def observe(self, message):
            torch.randn(5)
            self.seen += ("z",)
            message.z.zero_()

        def observe_output_gradient(self, message):
            self.seen += ("da",)
            message.da.zero_()

    def run(server):
        client = make_u_client()
        sl.train([client], server, 3, protocol=sl.u_shaped)
        return {**client.net.state_dict(), "body": server.net[1].weight.detach()}

    nosy = Nosy(body())
    assert largest_difference(run(sl.HonestServer(body())), run(nosy)) == 0
    assert nosy.seen == ("z", "da") * 3


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_passive_servers_answers_cannot_be_overridden(method):
    with pytest.raises(TypeError, match=f"overrides {method}, but a passive server"):
        type("Active", (sl.PassiveServer,), {method: lambda self, message: None})


def test_a_meddler_is_refused_in_the_u_shaped_protocol(make_u_client):
    class Meddler(sl.PassiveServer):
        def observe_output_gradient(self, message):
            self.net.eval()

    with pytest.raises(sl.ThreatModelViolation, match="frozen_net"):
        sl.train([make_u_client()], Meddler(body()), 1, protocol=sl.u_shaped)


def test_training_audits_the_u_shaped_protocol(make_u_client):
    client = make_u_client()

    class Thief(sl.HonestServer):
        def backward(self, message):
            self.loot = client.tail
            return super().backward(message)

    with pytest.raises(sl.ThreatModelViolation, match="loot"):
        sl.train([client], Thief(body()), 3, protocol=sl.u_shaped)
    assert client.step == 1


class VanillaOnly(sl.Server):
    threat = sl.HonestServer.threat

    def reply(self, message):
        raise AssertionError("not asked for")


def test_what_cannot_be_u_shaped_says_so(make_client, make_u_client, make_attack):
    def train(client, server):
        sl.train([client], server, 1, protocol=sl.u_shaped)

    with pytest.raises(NotImplementedError, match=r"VanillaOnly has no forward .*protocol=vanilla"):
        train(make_u_client(), VanillaOnly())
    with pytest.raises(RuntimeError, match="did not ask for an output gradient of step 0"):
        VanillaOnly().backward(sl.OutputGradient(da=torch.zeros(1), sender="client", step=0))
    with pytest.raises(ValueError, match=r"FSHA has no network to show .*give it body="):
        train(make_u_client(), make_attack())
    with pytest.raises(ValueError, match=r"client has no tail .*tail=, or use protocol=vanilla"):
        train(make_client(), sl.HonestServer(body()))
    with pytest.raises(ValueError, match="keeps its labels"):
        make_u_client(sends_labels=True)


def test_messages_out_of_turn_are_refused(make_u_client):
    client, server = make_u_client(), sl.HonestServer(body())
    header = {"sender": "client", "step": 0}
    da = sl.OutputGradient(da=torch.zeros(16, 32, 4, 4), **header)
    with pytest.raises(RuntimeError, match="did not ask for an output gradient of step 0"):
        server.backward(da)
    with pytest.raises(RuntimeError, match="did not ask for an output of step 0"):
        client.finish(sl.ServerOutput(a=torch.zeros(16, 32, 4, 4), **header))
    server.forward(client.forward().delivered())
    with pytest.raises(ValueError, match="one row for each row of the output"):
        server.backward(sl.OutputGradient(da=torch.zeros(3), **header))
    with pytest.raises(ValueError, match="one number for each number of the output"):
        server.backward(sl.OutputGradient(da=torch.zeros(16, 3), **header))
    with pytest.raises(RuntimeError, match="of step 5"):
        server.backward(sl.OutputGradient(da=da.da, sender="client", step=5))
    with pytest.raises(ValueError, match="one row for each row of z"):
        client.finish(sl.ServerOutput(a=torch.zeros(2, 32, 4, 4), **header))


def test_weights_of_a_client_with_a_tail_carry_the_tail(make_u_client):
    one, two = make_u_client(), make_u_client(seed=4, name="second")
    sl.train([one], sl.HonestServer(body()), 2, protocol=sl.u_shaped)
    two.load(sl.Wire()(one.weights(), two))
    assert largest_difference(one.tail.state_dict(), two.tail.state_dict()) == 0
    assert largest_difference(one.net.state_dict(), two.net.state_dict()) == 0


def test_autocast_leaves_full_precision_on_the_wire(make_u_client):
    everything = Everything()
    sl.train(
        [make_u_client()],
        sl.HonestServer(body()),
        2,
        protocol=sl.u_shaped,
        observers=[everything],
        autocast=torch.bfloat16,
    )
    assert {t.dtype for m in everything.messages for t in m.tensors()} == {torch.float32}
