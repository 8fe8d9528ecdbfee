"""Closed-form costs are what the wire counts, byte for byte."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.core import costs

few = settings(max_examples=25, deadline=None)


class InDtype(nn.Module):
    def __init__(self, net, dtype):
        super().__init__()
        self.net, self.dtype = net.to(dtype), dtype

    def forward(self, x):
        return self.net(x.to(self.dtype))


@st.composite
def runs(draw):
    """A run's sizes: what its parties are made of."""
    return {
        "batch": draw(st.integers(1, 5)),
        "side": draw(st.integers(2, 4)),
        "channels": draw(st.integers(1, 3)),
        "a": draw(st.integers(1, 6)),
        "dtype": draw(st.sampled_from([torch.float32, torch.float64])),
        "n": draw(st.integers(1, 3)),
        "steps": draw(st.integers(1, 7)),
        "turn": draw(st.integers(1, 3)),
        "optimizer": draw(st.sampled_from([Adam, SGD])),
    }


def parties(run, *, tail=False, **client_options):
    """(clients, server, numbers of z): f has BatchNorm, whose count is a whole number."""
    side, channels, dtype = run["side"], run["channels"], run["dtype"]
    z, out = channels * side * side, run["a"] if tail else 2
    data = sl.ImageData(
        torch.zeros(6, 1, side, side), torch.tensor([0, 1] * 3), ("zero", "one"), name="blank"
    )
    clients = [
        sl.Client(
            InDtype(nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels)), dtype),
            data,
            optimizer=run["optimizer"],
            batch_size=run["batch"],
            name=f"client {number}",
            tail=nn.Linear(out, 2).to(dtype) if tail else None,
            **client_options,
        )
        for number in range(run["n"])
    ]
    net = nn.Sequential(nn.Flatten(), nn.Linear(z, out)).to(dtype)
    return clients, sl.HonestServer(net, labels=data.y), z


def counted(clients, server, run, protocol):
    wiretap = sl.Wiretap()
    sl.train(clients, server, run["steps"], protocol=protocol, observers=[wiretap])
    return wiretap.total


def number(run):
    return run["dtype"].itemsize


@few
@given(run=runs(), labels=st.sampled_from(["sent", "index", "both"]))
def test_vanilla(run, labels):
    options = {
        "sent": {},
        "index": {"sends_index": True},
        "both": {"sends_labels": True, "sends_index": True},
    }
    clients, server, z = parties(run, **options[labels])
    expected = costs.vanilla(
        run["batch"],
        z,
        steps=run["steps"],
        number=number(run),
        labels=2 if labels == "both" else 1,
    )
    assert counted(clients, server, run, sl.vanilla) == expected


@few
@given(run=runs())
def test_vanilla_under_a_server_that_needs_no_labels(run):
    clients, _, z = parties(run, sends_labels=False)

    class Zeros(sl.Server):
        threat = sl.HonestServer.threat

        def reply(self, message):
            return self.gradient(message, message.z * 0)

    expected = costs.vanilla(run["batch"], z, steps=run["steps"], number=number(run), labels=0)
    assert counted(clients, Zeros(), run, sl.vanilla) == expected


@few
@given(run=runs())
def test_u_shaped(run):
    clients, server, z = parties(run, tail=True)
    expected = costs.u_shaped(run["batch"], z, run["a"], steps=run["steps"], number=number(run))
    assert counted(clients, server, run, sl.u_shaped) == expected


@few
@given(run=runs(), optimizer_state=st.booleans(), through_server=st.booleans(), tail=st.booleans())
def test_sequential(run, optimizer_state, through_server, tail):
    clients, server, z = parties(run, tail=tail)
    sizes = {"steps": run["steps"], "number": number(run)}
    nets = [clients[0].net, *([clients[0].tail] if tail else [])]
    state = costs.state_bytes(*nets)
    if optimizer_state and run["optimizer"] is Adam:
        state += costs.adam_bytes(p for net in nets for p in net.parameters())
    step = sl.u_shaped if tail else sl.vanilla
    protocol = sl.Sequential(
        step, turn=run["turn"], optimizer_state=optimizer_state, through_server=through_server
    )
    weights = costs.sequential(
        state,
        clients=run["n"],
        steps=run["steps"],
        turn=run["turn"],
        through_server=through_server,
    )
    messages = (
        costs.u_shaped(run["batch"], z, run["a"], **sizes)
        if tail
        else costs.vanilla(run["batch"], z, **sizes)
    )
    assert counted(clients, server, run, protocol) == messages + weights


@few
@given(run=runs(), copies=st.booleans())
def test_splitfed(run, copies):
    clients, server, z = parties(run)
    if copies:  # the server's averaging is its own affair: it costs no messages
        server = sl.ServerCopies(server, {client.name: 6 for client in clients})
    weights = costs.splitfed(
        costs.state_bytes(clients[0].net), clients=run["n"], steps=run["steps"], turn=run["turn"]
    )
    messages = costs.vanilla(run["batch"], z, steps=run["steps"], number=number(run))
    assert counted(clients, server, run, sl.SplitFed(turn=run["turn"])) == messages + weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_of_a_state_by_hand(dtype):
    """Linear(3, 2): 8 numbers in two tensors. BatchNorm1d(2): 4 learned, 4 running, one count."""
    nets = nn.Linear(3, 2).to(dtype), nn.BatchNorm1d(2).to(dtype)
    assert costs.state_bytes(*nets) == (8 + 8) * dtype.itemsize + 8
    assert costs.adam_bytes(nets[0].parameters()) == 2 * 8 * dtype.itemsize + 2 * 4
