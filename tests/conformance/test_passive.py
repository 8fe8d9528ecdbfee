"""A passive attacker changes nothing: its gradients are the honest server's, bit for bit."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.course.conformance.examples import Replies


class Nosy(sl.PassiveServer):
    """Draws random numbers, runs Dropout, trains on what it sees, and writes into the message."""

    threat = sl.HonestServer.threat

    def observe(self, message):
        nn.functional.dropout(message.z, 0.5)
        torch.randn(100)
        self.frozen_net().train()(message.z)
        message.z.zero_()


def server_net():
    """A server with Dropout and BatchNorm, which a careless attacker would disturb."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(32, 16, 3),
            nn.BatchNorm2d(16),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def run(make_client, server):
    replies = Replies()
    client = make_client()
    sl.train([client], server, 8, observers=[replies])
    return replies.dz, {**client.net.state_dict(), **server.net.state_dict()}


def test_gradients_and_weights_are_bit_equal(make_client):
    honest_dz, honest_state = run(make_client, sl.HonestServer(server_net()))
    nosy_dz, nosy_state = run(make_client, Nosy(server_net()))
    assert all(torch.equal(a, b) for a, b in zip(honest_dz, nosy_dz, strict=True))
    assert all(torch.equal(honest_state[name], nosy_state[name]) for name in honest_state)


def test_no_hijack_trains_its_decoder(make_client, make_attack):
    server = sl.NoHijack(server_net(), make_attack("paper"))
    before = server.autoencode(server.public.x[:64])
    run(make_client, server)
    after = server.autoencode(server.public.x[:64])
    error = [sl.metrics.mse(images, server.public.x[:64]) for images in (before, after)]
    assert error[1] < error[0]


def test_reply_cannot_be_overridden():
    with pytest.raises(TypeError, match="override observe"):

        class Active(sl.PassiveServer):
            def reply(self, message):
                raise NotImplementedError


@pytest.mark.parametrize("meddle", ["weights", "mode", "buffers"])
def test_touching_the_honest_network_is_refused(make_client, meddle):
    class Meddler(sl.PassiveServer):
        def observe(self, message):
            if meddle == "weights":
                with torch.no_grad():
                    self.net[0].weight.add_(1)
            elif meddle == "mode":
                self.net.eval()
            else:
                self.net[1].running_mean.zero_()

    with pytest.raises(sl.ThreatModelViolation, match="frozen_net"):
        sl.train([make_client()], Meddler(server_net()), 1)


class Curious(sl.PassiveClient):
    """A client that draws random numbers and writes into the gradient once it has used it."""

    def observe(self, message, index):
        assert len(message.dz) == len(index)
        torch.randn(100)
        message.dz.zero_()


def test_a_passive_client_trains_as_an_honest_one(digits):
    states, gradients = [], []
    for kind in (sl.Client, Curious):
        replies = Replies()
        options = sl.tiny.client() | {"batch_size": 16}
        client = kind(sl.tiny.client_net(), digits[0], **options)
        server = sl.HonestServer(server_net())
        sl.train([client], server, 8, observers=[replies])
        states.append(client.net.state_dict() | server.net.state_dict())
        gradients.append(replies.dz)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("method", ["forward", "finish", "backward"])
def test_a_passive_client_cannot_act(method):
    with pytest.raises(TypeError, match="override observe"):
        type("Active", (sl.PassiveClient,), {method: lambda self, message: None})


def test_a_passive_client_may_not_touch_its_network(digits):
    class Meddler(sl.PassiveClient):
        def observe(self, message, index):
            self.net.eval()

    client = Meddler(sl.tiny.client_net(), digits[0], batch_size=16)
    with pytest.raises(sl.ThreatModelViolation, match="observe changed the network of a party"):
        sl.train([client], sl.HonestServer(server_net()), 1)


def test_a_passive_client_resumes_with_its_own_randomness(digits):
    class Draws(sl.PassiveClient):
        def observe(self, message, index):
            self.drawn = torch.randn(3)

    clients = [Draws(sl.tiny.client_net(), digits[0], batch_size=16) for _ in range(2)]
    sl.train(clients[:1], sl.HonestServer(server_net()), 2)
    clients[1].load_state_dict(clients[0].state_dict())
    for client in clients:
        sl.train([client], sl.HonestServer(server_net()), 1)
    assert torch.equal(clients[0].drawn, clients[1].drawn)


def test_its_card_says_that_it_looks_on():
    cards = sl.PassiveServer.threat, sl.HonestServer.threat
    assert "passive" in cards[0].who and "passive" not in cards[1].who
    assert cards[0].goal != cards[1].goal
    assert (cards[0].sees, cards[0].knows) == (cards[1].sees, cards[1].knows)
    assert not cards[0].grants
