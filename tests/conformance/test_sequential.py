"""Sequential training: with the optimizer's state handed on, it is training the whole network."""

from functools import partial

import pytest
import torch
from test_u_shaped import InDtype, three_parts
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.core.randomness import Sampler
from splitlab.course.experiments import largest_difference

STEPS, BATCH = 10, 16
RATE = 1e-3
ADAM, PLAIN_SGD = partial(Adam, lr=RATE), partial(SGD, lr=RATE)
NAMES = [f"client {number}" for number in range(10)]


def parties(private, n, *, optimizer=ADAM, dtype=torch.float64, extra=(), u_shaped=False):
    """Return n clients with a part of the private data each, and an honest server.

    The clients start from different weights: all that they have in common is handed on.
    """
    clients = []
    for number in range(n):
        net, _, tail = three_parts(number, dtype)
        clients.append(
            sl.Client(
                nn.Sequential(net, *extra),
                private.select(torch.arange(number, len(private), n)),
                optimizer=optimizer,
                batch_size=BATCH,
                tail=tail if u_shaped else None,
                seed=number,
                name=NAMES[number],
            )
        )
    net = three_parts(0, dtype)[1] if u_shaped else sl.nets.tiny.server().to(dtype)
    return clients, sl.HonestServer(net, optimizer=optimizer)


def whole_training(private, n, turn=1, *, optimizer=ADAM, dtype=torch.float64, extra=()):
    """The first client's f and s, undivided, on the batches in the order of their turns."""
    net = nn.Sequential(
        nn.Sequential(three_parts(0, dtype)[0], *extra), sl.nets.tiny.server().to(dtype)
    ).train()
    stepper = optimizer(net.parameters())
    rows = [torch.arange(number, len(private), n) for number in range(n)]
    samplers = [
        Sampler(len(rows[number]), BATCH, owner=NAMES[number], seed=number) for number in range(n)
    ]
    for step in range(STEPS):
        number = step // turn % n
        batch = rows[number][samplers[number].next()]
        loss = nn.functional.cross_entropy(net(private.x[batch]), private.y[batch])
        stepper.zero_grad()
        loss.backward()
        stepper.step()
    return net.state_dict()


def sequential(private, n, protocol, **options):
    """The network of whose turn is next, and the server's, after sequential training."""
    clients, server = parties(private, n, **options)
    sl.train(clients, server, STEPS, protocol=protocol)
    last = clients[STEPS // protocol.turn % n]
    return nn.Sequential(last.net, server.net).state_dict()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0.0), (torch.float32, 1e-6)])
@pytest.mark.parametrize(
    ("n", "options"),
    [
        (1, {}),
        (2, {}),
        (3, {"through_server": True}),
        (2, {"turn": 5}),
        (10, {}),
    ],
)
def test_handed_on_with_optimizer_state_it_equals_whole_training(
    digits, n, options, dtype, tolerance
):
    """f has BatchNorm, whose running statistics are handed on with its weights."""
    expected = whole_training(digits[0], n, options.get("turn", 1), dtype=dtype)
    actual = sequential(digits[0], n, sl.Sequential(**options), dtype=dtype)
    assert largest_difference(expected, actual) <= tolerance


@pytest.mark.parametrize("n", [1, 3])
def test_u_shaped_sequential_equals_whole_training(digits, n):
    clients, server = parties(digits[0], n, u_shaped=True)
    sl.train(clients, server, STEPS, protocol=sl.Sequential(sl.u_shaped))
    last = clients[STEPS % n]
    actual = nn.Sequential(last.net, nn.Sequential(*server.net, *last.tail)).state_dict()
    assert largest_difference(whole_training(digits[0], n), actual) == 0


def test_without_optimizer_state_plain_sgd_loses_nothing(digits):
    """SGD without momentum has no state to lose."""
    protocol = sl.Sequential(optimizer_state=False)
    expected = whole_training(digits[0], 3, optimizer=PLAIN_SGD)
    assert (
        largest_difference(expected, sequential(digits[0], 3, protocol, optimizer=PLAIN_SGD)) == 0
    )


def test_without_optimizer_state_adam_goes_astray_by_up_to_a_step_each_step(digits):
    """The difference is of the order of Adam's steps, and no more than the steps can add up to.

    A step of Adam moves a weight by RATE * (1 - b1) / sqrt(1 - b2) at the very most (Kingma and
    Ba, section 2.1), and two runs part by at most two such steps a step.
    """
    expected = whole_training(digits[0], 3)
    state = sequential(digits[0], 3, sl.Sequential(optimizer_state=False))
    weights = {name: value for name, value in state.items() if "weight" in name}
    difference = largest_difference({name: expected[name] for name in weights}, weights)
    most = RATE * max(1.0, (1 - 0.9) / (1 - 0.999) ** 0.5)
    assert RATE / 10 < difference <= 2 * STEPS * most


def test_without_handing_on_clients_part_at_once(digits):
    """Clients of different first weights that hand nothing on stay different networks."""
    clients, server = parties(digits[0], 2)
    apart = largest_difference(clients[0].net.state_dict(), clients[1].net.state_dict())
    sl.train(clients, server, STEPS)
    assert largest_difference(clients[0].net.state_dict(), clients[1].net.state_dict()) > apart / 2
    clients, server = parties(digits[0], 2)
    sl.train(clients, server, STEPS, protocol=sl.Sequential())
    assert largest_difference(clients[0].net.state_dict(), clients[1].net.state_dict()) == 0


def test_dropout_breaks_the_equality(digits):
    """Each client draws its own masks: the gradients differ from the first step on.

    Without Dropout the same comparison is exact, so the whole difference is Dropout's.
    """
    extra = [nn.Dropout(0.5)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = whole_training(digits[0], 2, extra=extra)
    difference = largest_difference(
        expected, sequential(digits[0], 2, sl.Sequential(), extra=extra)
    )
    exact = largest_difference(
        whole_training(digits[0], 2), sequential(digits[0], 2, sl.Sequential())
    )
    assert exact == 0
    assert difference > RATE / 10


def test_batch_norm_breaks_the_equality_only_if_its_statistics_stay_behind(digits):
    """Parameters alone are not f: the running statistics then are each client's own."""

    class ParametersAlone(sl.Client):
        def load(self, message):
            mine = {n: v.clone() for n, v in self.net.named_buffers()}
            super().load(message)
            for name, buffer in self.net.named_buffers():
                buffer.copy_(mine[name])

    expected = whole_training(digits[0], 2)
    clients, server = parties(digits[0], 2)
    for client in clients:
        client.__class__ = ParametersAlone
    sl.train(clients, server, STEPS, protocol=sl.Sequential())
    state = nn.Sequential(clients[STEPS % 2].net, server.net).state_dict()
    different = {name for name in expected if not torch.equal(expected[name], state[name])}
    assert different
    assert all(name.split(".")[-1].startswith(("running", "num_batches")) for name in different)
    # Each client saw every second batch: half the count, and another mean of the same images.
    (count,) = {int(state[name]) for name in different if "num_batches" in name}
    assert count == STEPS // 2


@pytest.mark.parametrize("optimizer_state", [True, False])
@pytest.mark.parametrize("through_server", [True, False])
def test_who_sends_what(digits, optimizer_state, through_server):
    wiretap, seen = sl.Wiretap(), []

    class Relays(sl.HonestServer):
        def relay(self, message):
            seen.append(message)
            return super().relay(message)

    clients, honest = parties(digits[0], 2, dtype=torch.float32)
    protocol = sl.Sequential(turn=2, optimizer_state=optimizer_state, through_server=through_server)
    sl.train(clients, Relays(honest.net), 6, protocol=protocol, observers=[wiretap])
    assert [client.step for client in clients] == [4, 2]
    assert wiretap.counts["client 0", "Weights"] == 2
    assert wiretap.counts["client 1", "Weights"] == 1
    assert wiretap.counts.get(("server", "Weights"), 0) == 3 * through_server
    assert len(seen) == 3 * through_server
    assert all((message.optimizer is None) == (not optimizer_state) for message in seen)


def test_one_client_sends_no_weights(digits):
    wiretap = sl.Wiretap()
    sl.train(*parties(digits[0], 1), 2, protocol=sl.Sequential(), observers=[wiretap])
    assert {kind for _, kind in wiretap.counts} == {"SmashedData", "Gradient"}


def test_clients_share_no_memory_after_the_weights_were_handed_on(digits):
    clients, server = parties(digits[0], 2, dtype=torch.float32)
    sl.train(clients, server, 3, protocol=sl.Sequential(through_server=True))
    sl.audit([clients[0]], clients[1])


def test_a_message_that_was_kept_stays_what_it_was(digits):
    """An optimizer keeps the very tensors that it loads, and its steps then write into them."""
    kept = []

    class Keep(sl.Observer):
        def message(self, message):
            if isinstance(message, sl.Weights):
                kept.append((message, [tensor.clone() for tensor in message.tensors()]))

    clients, server = parties(digits[0], 2, dtype=torch.float32)
    sl.train(clients, server, 4, protocol=sl.Sequential(), observers=[Keep()])
    assert len(kept) == 4
    for message, then in kept:
        for now, before in zip(message.tensors(), then, strict=True):
            assert torch.equal(now, before)


def test_a_turn_has_a_step():
    with pytest.raises(ValueError, match="turn is 0: choose a whole number of at least 1"):
        sl.Sequential(turn=0)


@pytest.mark.parametrize("design", ["fast", "paper"])
def test_fsha_with_ten_clients(digits, make_attack, design):
    """The hijack needs nothing but z and dz: it steers f through whoever's turn it is."""
    clients, _ = parties(digits[0], 10, dtype=torch.float32)
    attack = make_attack(design)
    checked = []

    class Check(sl.Observer):
        """Compares each gradient with autograd's, where the critic's step comes after it."""

        def message(self, message):
            if isinstance(message, sl.SmashedData) and not attack.critic_first:
                z = message.z.clone().requires_grad_()
                (self.expected,) = torch.autograd.grad(attack.critic.pull(z, z.detach()), z)
            elif isinstance(message, sl.Gradient) and not attack.critic_first:
                expected = self.expected * attack.gradient_scale(message.step)
                assert message.dz.shape == (BATCH, 32, 4, 4)
                checked.append(torch.equal(message.dz, expected))

    sl.train(clients, attack, 12, protocol=sl.Sequential(), observers=[Check()])
    assert checked == ([] if attack.critic_first else [True] * 12)
    assert largest_difference(clients[1].net.state_dict(), clients[2].net.state_dict()) == 0
    received = clients[2].forward().delivered()
    assert attack.reconstruct(received).shape == (BATCH, 1, 16, 16)


def test_tests_of_exactness_use_a_network_in_float64(digits):
    clients, server = parties(digits[0], 2)
    assert isinstance(clients[0].net[0], InDtype)
    assert {p.dtype for c in clients for p in c.net.parameters()} == {torch.float64}
    assert {p.dtype for p in server.net.parameters()} == {torch.float64}
