"""What a transport calls: `handle` answers any message, and a repeated one with the same answer."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.core.files import load, save


class Lossy:
    """A protocol over a wire that loses every answer once: each message is sent twice."""

    def __init__(self, resume=lambda server: server):
        self.resume = resume

    def ask(self, message, server):
        sent = message.delivered(to=server.name)
        first = server.handle(sent)
        self.server = self.resume(server)
        again = self.server.handle(sent)
        assert type(first) is type(again) and first.to == again.to == message.sender
        assert all(map(torch.equal, first.tensors(), again.tensors()))
        assert not {t.data_ptr() for t in first.tensors()} & {
            t.data_ptr() for t in again.tensors()
        }, "two answers must not share memory"
        return again

    def step(self, client, server):
        answer = self.ask(client.forward(), server)
        if client.tail is not None:
            answer = self.ask(client.finish(answer), self.server)
        client.backward(answer)
        return self.server


def parties(digits, tail):
    ends = nn.Linear(10, 10) if tail else None
    options = {"optimizer": sl.tiny.client_optimizer, "batch_size": 8}
    client = sl.Client(sl.tiny.client_net(), digits[0], tail=ends, **options)
    return client, sl.HonestServer(sl.tiny.server_net(), optimizer=sl.tiny.client_optimizer)


@pytest.mark.parametrize("tail", [False, True], ids=["vanilla", "u_shaped"])
def test_a_message_that_arrives_twice_is_applied_once(digits, tail, tmp_path):
    def resumed(server):
        """The server anew, from its state in a file, but for what an answer under way needs."""
        if server.under_way is not None:
            return server
        save(server.state_dict(), tmp_path / "server")
        _, fresh = parties(digits, tail)
        fresh.load_state_dict(load(tmp_path / "server"))
        return fresh

    def run(step, steps=4):
        torch.manual_seed(0)  # for the tail's first weights
        client, server = parties(digits, tail)
        for _ in range(steps):
            server = step(client, server)
        return client.net.state_dict() | {f"s.{k}": v for k, v in server.net.state_dict().items()}

    def plain(client, server):
        (sl.u_shaped if tail else sl.vanilla)(client, server, sl.Wire())
        return server

    expected = run(plain)
    for found in (run(Lossy().step), run(Lossy(resumed).step)):
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_weights_are_relayed_and_what_has_no_answer_is_refused(digits):
    client, server = parties(digits, tail=False)
    relayed = server.handle(client.weights())
    assert isinstance(relayed, sl.Weights) and relayed.sender == "server"
    with pytest.raises(TypeError, match="server has no answer to Gradient: send SmashedData"):
        server.handle(sl.Gradient(dz=torch.zeros(1), sender="client", step=0))


def test_a_step_that_is_over_is_refused_and_changes_nothing(digits):
    client, server = parties(digits, tail=False)
    first = client.forward()
    client.backward(server.handle(first))
    client.backward(server.handle(client.forward()))
    before = {name: value.clone() for name, value in server.net.state_dict().items()}
    with pytest.raises(ValueError, match=r"has answered step 1 of client .* not step 0"):
        server.handle(first)
    assert all(torch.equal(value, before[n]) for n, value in server.net.state_dict().items())


def test_after_a_resume_a_late_copy_of_a_step_that_is_over_is_refused(digits):
    """Its output was lost; to run it anew would move BatchNorm's statistics once more."""
    client, server = parties(digits, tail=True)
    smashed = client.forward()
    client.backward(server.handle(client.finish(server.handle(smashed))))
    _, resumed = parties(digits, tail=True)
    resumed.load_state_dict(server.state_dict())
    assert server.handle(smashed).step == 0
    with pytest.raises(ValueError, match=r"has answered step 0 .* not step 0"):
        resumed.handle(smashed)
    assert resumed.handle(client.forward()).step == 1
