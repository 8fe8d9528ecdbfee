"""SplitFed: an aggregator averages the clients; the server is one (v2) or a copy for each (v1)."""

import dataclasses
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_u_shaped import three_parts
from torch import nn
from torch.optim import SGD

import splitlab as sl
from splitlab.core.randomness import Sampler
from splitlab.core.rounds import average
from splitlab.course.experiments import largest_difference

BATCH, RATE = 16, 0.05
NAMES = [f"client {number}" for number in range(10)]


def smooth_net(norm):
    """A small f of one kind for every client, with BatchNorm or without, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.Tanh()]
        return nn.Sequential(*layers).double()


def smooth_server():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 10)).double()


class InFloat64(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.double())


def shares(private, n):
    """The private images in n parts of one size."""
    size = len(private) // n
    return [private.select(torch.arange(k * size, (k + 1) * size)) for k in range(n)]


def make_clients(private, n, make_net, optimizer=sl.tiny.client_optimizer, **options):
    return [
        sl.Client(
            make_net(),
            part,
            optimizer=optimizer,
            batch_size=BATCH,
            seed=number,
            name=NAMES[number],
            **options,
        )
        for number, part in enumerate(shares(private, n))
    ]


def with_copies(server, clients):
    return sl.ServerCopies(server, {client.name: len(client.data) for client in clients})


def honest():
    return sl.HonestServer(sl.tiny.server_net(), optimizer=sl.tiny.client_optimizer)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("turn", [1, 2])
def test_one_client_equals_vanilla_exactly(digits, version, turn):
    def states(splitfed):
        (client,) = clients = make_clients(digits[0], 1, sl.tiny.client_net)
        server = with_copies(honest(), clients) if splitfed and version == 1 else honest()
        sl.train(clients, server, 5, protocol=sl.SplitFed(turn=turn) if splitfed else sl.vanilla)
        net = server.copies[client.name].net if splitfed and version == 1 else server.net
        return nn.Sequential(client.net, net).state_dict()

    assert largest_difference(states(False), states(True)) == 0


def union_training(private, n, steps, norm):
    """Whole training on the union of the clients' batches."""
    net = nn.Sequential(smooth_net(norm), smooth_server()).train()
    stepper = SGD(net.parameters(), lr=RATE)
    parts = shares(private, n)
    samplers = [Sampler(len(part), BATCH, owner=NAMES[k], seed=k) for k, part in enumerate(parts)]
    for _ in range(steps):
        rows = [sampler.next() for sampler in samplers]
        x = torch.cat([part.x[r] for part, r in zip(parts, rows, strict=True)])
        y = torch.cat([part.y[r] for part, r in zip(parts, rows, strict=True)])
        loss = nn.functional.cross_entropy(net(x.double()), y)
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    return net.state_dict()


def splitfed_v1(private, n, steps, norm):
    optimizer = partial(SGD, lr=RATE)
    clients = make_clients(private, n, lambda: InFloat64(smooth_net(norm)), optimizer)
    server = with_copies(sl.HonestServer(smooth_server(), optimizer=optimizer), clients)
    sl.train(clients, server, steps * n, protocol=sl.SplitFed())
    net = next(iter(server.copies.values())).net
    return nn.Sequential(clients[0].net.net, net).state_dict()


@pytest.mark.parametrize("n", [2, 3])
def test_v1_with_sgd_is_whole_training_on_the_union_of_the_batches(digits, n):
    """A mean of SGD steps is the step on the mean gradient: equal but for rounding.

    BatchNorm breaks it: each client normalises by its own batch. The same comparison with it gives
    a difference of the order of the steps themselves.
    """
    rounding = 1000 * torch.finfo(torch.float64).eps
    steps = 4
    plain = largest_difference(
        union_training(digits[0], n, steps, False), splitfed_v1(digits[0], n, steps, False)
    )
    assert plain <= rounding
    whole, split = (f(digits[0], n, steps, True) for f in (union_training, splitfed_v1))
    weights = [name for name in whole if name.endswith("weight")]
    broken = largest_difference({k: whole[k] for k in weights}, {k: split[k] for k in weights})
    assert broken > 1e6 * rounding


def test_after_a_round_all_clients_are_one_and_between_rounds_they_are_not(digits):
    clients = make_clients(digits[0], 3, sl.tiny.client_net)
    server = with_copies(honest(), clients)
    protocol = sl.SplitFed(turn=2)

    def spread():
        states = [client.net.state_dict() for client in clients]
        copies = [s.net.state_dict() for s in server.copies.values()]
        return [max(largest_difference(m[0], o) for o in m[1:]) for m in (states, copies)]

    sl.train(clients, server, 5, protocol=protocol)
    assert all(difference > 1e-4 for difference in spread())
    clients = make_clients(digits[0], 3, sl.tiny.client_net)
    server = with_copies(honest(), clients)
    sl.train(clients, server, 12, protocol=protocol)
    assert spread() == [0, 0]
    assert protocol.aggregator.received == []
    assert server.predict(clients[0].smash(digits[1].x[:5]).z).shape == (5,)


def test_the_versions_differ_in_the_server_alone(digits):
    """v2's one server steps with every client; v1's copies step once a round each, in parallel."""

    def first_gradients(version):
        clients = make_clients(digits[0], 2, sl.tiny.client_net)
        server = with_copies(honest(), clients) if version == 1 else honest()
        answers = [server.reply(client.forward().delivered()) for client in clients]
        return answers, server

    one, copies = first_gradients(1)
    two, _ = first_gradients(2)
    assert torch.equal(one[0].dz, two[0].dz)
    assert not torch.equal(one[1].dz, two[1].dz)
    states = [copy.net.state_dict() for copy in copies.copies.values()]
    copies.end_round()
    after = next(iter(copies.copies.values())).net.state_dict()
    for name, value in after.items():
        torch.testing.assert_close(value, (states[0][name] + states[1][name]) / 2)


@settings(max_examples=30, deadline=None)
@given(
    samples=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    numbers=st.lists(st.floats(-100, 100), min_size=1, max_size=4),
    counts=st.integers(0, 1000),
)
def test_the_average_is_the_mean_over_all_samples(samples, numbers, counts):
    """The slow truth: every client's weights once for each of its images."""
    states = [
        {"w": torch.tensor(numbers, dtype=torch.float64) + k, "n": torch.tensor(counts)}
        for k in range(len(samples))
    ]
    averaged = average(states, samples)
    rows = [s["w"] for s, count in zip(states, samples, strict=True) for _ in range(count)]
    torch.testing.assert_close(averaged["w"], torch.stack(rows).mean(0))
    assert averaged["n"].dtype == torch.int64
    assert averaged["n"] == counts
    if len(samples) == 1:
        assert torch.equal(averaged["w"], states[0]["w"])


class Turns(sl.Observer):
    """Notes who takes each step."""

    def __init__(self):
        self.names = []

    def step(self, step, client, server):
        self.names.append(client.name)


def trained(digits, version, **options):
    """(who took each step, client 0's state, the server's) after two rounds of three clients."""
    clients, turns = make_clients(digits[0], 3, sl.tiny.client_net), Turns()
    server = with_copies(honest(), clients) if version == 1 else honest()
    protocol = sl.SplitFed(turn=2, **options)
    sl.train(clients, server, 12, protocol=protocol, observers=[turns])
    net = server.copies[NAMES[0]].net if version == 1 else server.net
    return turns.names, nn.Sequential(clients[0].net, net).state_dict()


def test_each_round_has_an_order_of_its_own_in_which_each_client_has_one_turn():
    clients = [object() for _ in range(5)]
    protocol = sl.SplitFed(turn=3, seed=7)
    rounds = []
    for number in range(20):
        first = number * 15
        taken = [protocol.whose_turn(first + step, clients) for step in range(15)]
        assert taken[::3] == taken[1::3] == taken[2::3]
        assert {id(client) for client in taken} == {id(client) for client in clients}
        rounds.append([clients.index(client) for client in taken[::3]])
    assert len({tuple(order) for order in rounds}) > 10
    assert {order[-1] for order in rounds} == set(range(5)), "everybody has the last word once"
    again = sl.SplitFed(turn=3, seed=7)
    assert clients.index(again.whose_turn(19 * 15, clients)) == rounds[19][0], "no memory needed"
    other = sl.SplitFed(turn=3, seed=8)
    orders = [[other.whose_turn(n * 15 + s, clients) for s in (0, 3, 6, 9, 12)] for n in range(20)]
    assert rounds != [[clients.index(client) for client in order] for order in orders]


def test_the_order_matters_to_v2_and_not_to_v1(digits):
    """In v1 each client has a server of its own; in v2 the later ones meet what the first moved."""
    listed = [NAMES[number] for number in (0, 0, 1, 1, 2, 2)] * 2
    for version, matters in ((1, False), (2, True)):
        random, in_turn = (trained(digits, version, seed=seed) for seed in (0, None))
        assert in_turn[0] == listed
        assert random[0] != listed
        assert (largest_difference(random[1], in_turn[1]) > 0) == matters


def test_the_random_order_is_the_default(digits):
    assert trained(digits, 2)[0] == trained(digits, 2, seed=0)[0]


def test_who_sends_what(digits):
    clients, wiretap = make_clients(digits[0], 3, sl.tiny.client_net), sl.Wiretap()
    sl.train(clients, honest(), 7, protocol=sl.SplitFed(), observers=[wiretap])
    for name in NAMES[:3]:
        assert wiretap.counts[name, "Weights"] == 2
    assert wiretap.counts["aggregator", "Weights"] == 6


def test_u_shaped_splitfed(digits):
    clients = [
        sl.Client(
            three_parts()[0],
            part,
            tail=three_parts()[2],
            optimizer=sl.tiny.client_optimizer,
            batch_size=BATCH,
            seed=number,
            name=NAMES[number],
        )
        for number, part in enumerate(shares(digits[0], 2))
    ]
    server = with_copies(sl.HonestServer(three_parts()[1]), clients)
    log = sl.train(clients, server, 4, protocol=sl.SplitFed(protocol=sl.u_shaped))
    assert "task_loss" in log
    tails = [client.tail.state_dict() for client in clients]
    assert largest_difference(*tails) == 0
    assert largest_difference(three_parts()[2].state_dict(), tails[0]) > 0


def test_the_audit_looks_at_the_aggregator(digits):
    clients = make_clients(digits[0], 2, sl.tiny.client_net)
    protocol = sl.SplitFed()
    protocol.aggregator.loot = clients[1].data.x[:1]
    with pytest.raises(sl.ThreatModelViolation, match="loot"):
        sl.train(clients, honest(), 2, protocol=protocol)
    server = honest()
    protocol = sl.SplitFed()
    protocol.aggregator.loot = server.net
    with pytest.raises(sl.ThreatModelViolation, match="loot"):
        sl.train(clients, server, 2, protocol=protocol)


def test_what_cannot_be_averaged_says_so(digits):
    aggregator = sl.Aggregator()
    with pytest.raises(ValueError, match="nothing to average"):
        aggregator.aggregate()
    header = {"sender": "client 0", "step": 1}
    with pytest.raises(ValueError, match="send Weights with samples="):
        aggregator.collect(sl.Weights(state={"a": torch.zeros(1)}, **header))
    for name in "ab":
        weights = sl.Weights(state={name: torch.zeros(1)}, samples=3, sender=name, step=1)
        if name == "a":
            aggregator.collect(weights)
    with pytest.raises(ValueError, match="another network to aggregator"):
        aggregator.collect(weights)
    clients = make_clients(digits[0], 2, sl.tiny.client_net)
    with pytest.raises(ValueError, match="no copy of the server for client 1, only for client 0"):
        sl.train(clients, with_copies(honest(), clients[:1]), 2, protocol=sl.SplitFed())


def test_a_round_that_ended_in_an_error_leaves_nothing_behind(digits):
    clients, protocol = make_clients(digits[0], 2, sl.tiny.client_net), sl.SplitFed(seed=None)
    healthy = clients[1].weights

    def broken(**options):
        weights = healthy(**options)
        return dataclasses.replace(weights, state={n: t / 0 for n, t in weights.state.items()})

    clients[1].weights = broken
    with pytest.raises(ValueError, match=r"aggregator is sent .* by client 1, and changes nothing"):
        sl.train(clients, honest(), 2, protocol=protocol)
    clients[1].weights = healthy
    sl.train(clients, honest(), 2, protocol=protocol)
    assert protocol.aggregator.received == []


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_fsha_with_ten_clients(digits, make_attack, design):
    """The hijack of v2, and of v1 too, is one attack: a malicious server keeps no copies."""
    clients = make_clients(digits[0], 10, sl.tiny.client_net)
    attack = make_attack(design, critic_first=False, gradient_scale=lambda step: 1.0)
    checked = []

    class Check(sl.Observer):
        def message(self, message):
            if isinstance(message, sl.SmashedData):
                z = message.z.clone().requires_grad_()
                (self.expected,) = torch.autograd.grad(attack.critic.pull(z, z.detach()), z)
            elif isinstance(message, sl.Gradient):
                checked.append(torch.equal(message.dz, self.expected))

    sl.train(clients, attack, 10, protocol=sl.SplitFed(), observers=[Check()])
    assert checked == [True] * 10
    states = [client.net.state_dict() for client in clients]
    assert max(largest_difference(states[0], state) for state in states[1:]) == 0
    received = clients[2].forward().delivered()
    assert attack.reconstruct(received).shape == (BATCH, 1, 16, 16)
