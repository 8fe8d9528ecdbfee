"""No memory reachable from one party is reachable from the other."""

from functools import partial

import pytest
import torch
from torch import nn

import splitlab as sl


def violation(client, server, *fragments):
    with pytest.raises(sl.ThreatModelViolation) as error:
        sl.audit([client], server)
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.fixture
def server():
    return sl.HonestServer(sl.nets.tiny.server())


def test_honest_parties_pass(make_client, server, make_attack):
    sl.audit([make_client()], server)
    sl.audit([make_client()], make_attack())
    sl.audit([make_client()], make_attack("paper"))


def test_parties_still_share_nothing_after_training(make_client, make_attack):
    client, attack = make_client(), make_attack("paper")
    sl.train([client], attack, 2)
    sl.audit([client], attack)


def leaks():
    """Ways in which private memory ends up at a server: name -> what to store there."""

    class Slotted:
        __slots__ = ("hidden",)

        def __init__(self, hidden):
            self.hidden = hidden

    def closure(x):
        return lambda: x.sum()

    def default(x):
        def function(kept=x):
            return kept

        return function

    def generator(x):
        yield x

    def started(x):
        running = generator(x)
        next(running)
        return running

    return {
        "attribute": lambda c: c.data.x,
        "view": lambda c: c.data.x[3:4].flatten(1).detach(),
        "list in a dictionary": lambda c: {"a": [1, (c.data.x,)]},
        "closure": lambda c: closure(c.data.x),
        "default argument": lambda c: default(c.data.x),
        "partial": lambda c: partial(torch.add, c.data.x),
        "bound method": lambda c: c.forward,
        "slots": lambda c: Slotted(c.data.x),
        "numpy array": lambda c: c.data.x.numpy()[0],
        "running generator": lambda c: started(c.data.x),
        "computation graph": lambda c: (c.net(c.data.x[:2]) * 1.0).sum(),
        "graph behind a clone": lambda c: nn.Flatten()(c.data.x.detach().requires_grad_()).clone(),
        "module": lambda c: nn.Sequential(c.net),
        "optimizer": lambda c: c.optimizer,
        "the client": lambda c: c,
    }


@pytest.mark.parametrize("way", leaks())
def test_each_way_of_leaking_is_found(make_client, server, way):
    client = make_client()
    server.notes = leaks()[way](client)
    violation(client, server, "server", "clients[0]", "share memory")


def test_training_audits_at_the_start(make_client, server):
    client = make_client()
    server.notes = client.data.x[0]
    with pytest.raises(sl.ThreatModelViolation, match="notes"):
        sl.train([client], server, 3)
    assert client.step == 0


def test_training_audits_after_the_first_step(make_client):
    client = make_client()

    class Thief(sl.HonestServer):
        def reply(self, message):
            self.loot = client.data.x[0]
            return super().reply(message)

    with pytest.raises(sl.ThreatModelViolation):
        sl.train([client], Thief(sl.nets.tiny.server()), 3)
    assert client.step == 1


def test_a_message_that_was_not_sent_properly_is_found(make_client, server):
    """detach() alone is not a wire: the view shows the sender's memory."""
    client = make_client()
    with_view = client.data.x[:4]
    server.last = nn.Flatten()(with_view).detach()
    violation(client, server, "last")
    delivered = sl.SmashedData(z=nn.Flatten()(with_view), sender="client", step=0).delivered()
    server.last = delivered.z
    sl.audit([client], server)
