"""A fuzz of every party, every attack and every defense: nothing wrong gets in, all else does."""

from collections import Counter
from functools import partial

import pytest
import torch
from fuzz import LIBRARY, Fault, Parties, Run, fault_of, fuzz
from snapshots import differences, snapshot
from torch import nn

import splitlab as sl
from splitlab.course.conformance.examples import BATCH, PROTOCOLS, classes_of, few, made

ATTACKS = classes_of(sl.attacks, sl.Server, sl.Client)
DEFENSES = classes_of(sl.defenses, sl.Defense, sl.LabelDefense, sl.Server)
LEAST, VALID = 20_000, 0.3  # messages, and the share of them that is accepted


def example(kind, protocol):
    """A class's example among honest parties."""
    data = few(sl.tiny.split("digits", 0))
    _, client, server = made(kind, data, protocol)
    return Parties([client], server, protocol == "u_shaped")


def honest(*, u_shaped=False, labels_at_server=False, copies=False, averaged=False):
    """Two honest clients, and an honest server or copies of it."""
    private, _ = few(sl.tiny.split("digits", 0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clients = [
            sl.Client(
                sl.tiny.client_net(seed=seed),
                private,
                optimizer=sl.tiny.client_optimizer,
                batch_size=BATCH,
                sends_index=labels_at_server,
                tail=nn.Linear(10, 10) if u_shaped else None,
                seed=seed,
                name=f"client {seed}",
            )
            for seed in range(2)
        ]
        labels = private.y if labels_at_server else None
        server = sl.HonestServer(sl.tiny.server_net(), labels=labels)
        if copies:
            server = sl.ServerCopies(server, {client.name: 16 for client in clients})
    return Parties(clients, server, u_shaped, sl.Aggregator() if averaged else None)


CASES = {
    f"{kind.__name__}-{protocol}": partial(example, kind, protocol)
    for kind in dict.fromkeys([*ATTACKS, *DEFENSES])
    for protocol in PROTOCOLS
    if protocol in kind.PROTOCOLS
}
CASES |= {
    "honest-vanilla": partial(honest),
    "honest-u_shaped": partial(honest, u_shaped=True),
    "honest-labels at the server": partial(honest, labels_at_server=True),
    "averaged-vanilla": partial(honest, averaged=True),
    "averaged-u_shaped": partial(honest, averaged=True, u_shaped=True),
    "copies-vanilla": partial(honest, averaged=True, copies=True),
    "copies-u_shaped": partial(honest, averaged=True, copies=True, u_shaped=True),
}
THROWN = {}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_refused_and_what_is_right_is_as_if_nothing_had_been(case):
    THROWN[case] = fuzz(CASES[case], case)


def test_there_are_enough_and_enough_of_them_are_right():
    """Else a party that refuses everything would pass."""
    if THROWN.keys() != CASES.keys():
        pytest.skip("not all of the cases were run and passed")
    thrown = sum(THROWN.values(), Counter())
    assert thrown.total() >= LEAST, thrown
    assert thrown["true"] + thrown["again"] >= VALID * thrown.total(), thrown
    # Each of these took part in the training; the others arrived once more, and changed nothing.
    assert thrown["true"] >= 0.5 * VALID * thrown.total(), thrown


class Watched(Run):
    """A run at which nothing is thrown: who refuses the true message must not have changed."""

    def send(self, receiver, method, message):
        before = snapshot(receiver)
        try:
            return super().send(receiver, method, message)
        except Fault:
            assert differences(before, snapshot(receiver)) == []
            raise


ELSEWHERE = [
    pytest.param(kind, protocol, id=f"{kind.__name__}-{protocol}")
    for kind in dict.fromkeys([*ATTACKS, *DEFENSES])
    for protocol in PROTOCOLS
    if protocol not in kind.PROTOCOLS
]


@pytest.mark.parametrize(("kind", "protocol"), ELSEWHERE)
def test_where_a_class_takes_no_part_nothing_changes_before_it_is_said(kind, protocol):
    """Some say it when they are made; the others when a message arrives."""
    with pytest.raises((Fault, ValueError)) as caught:
        Watched(example(kind, protocol), "elsewhere", fuzzed=False).take(2)
    assert "protocol" in str(caught.value)


class Careless(sl.HonestServer):
    """Answers with one of the functions below, which nothing checks for."""


def moves_first(server, message):
    with torch.no_grad():
        next(server.net.parameters()).add_(1)
    return sl.HonestServer.reply(server, message)


def draws_first(server, message):
    with server.randomness.lent():
        torch.rand(1)
    return sl.HonestServer.reply(server, message)


def counts_first(server, message):
    server.calls = getattr(server, "calls", 0) + 1
    return sl.HonestServer.reply(server, message)


def learns_nan(server, message):
    if isinstance(message, sl.SmashedData) and not message.z.isfinite().all():
        with torch.no_grad():
            next(server.net.parameters()).fill_(float("nan"))
        return server.gradient(message, message.z)
    return sl.HonestServer.reply(server, message)


def raises_raw(server, message):
    if not isinstance(message, sl.SmashedData):
        return message.z
    return sl.HonestServer.reply(server, message) if message.z.dim() == 4 else message.z @ message.z


def refuses_everything(server, message):
    return sl.HonestServer.reply(server, None)


def trains_twice(server, message):
    answer = sl.HonestServer.reply(server, message)
    if message.to == "":
        sl.HonestServer.reply(server, message)
    return answer


FAULTS = {
    moves_first: "refused, and it changed 0.net",
    draws_first: "refused, and it changed 0.randomness",
    counts_first: "refused, and it changed 0",
    learns_nan: "it was accepted",
    raises_raw: "raw ",
    refuses_everything: "the true message, to Careless",
    trains_twice: "than without the wrong messages",
}


def careless(fault):
    """Two honest clients, and a server with a fault put in after its class was made."""
    parties = honest()
    kind = type("Careless", (Careless,), {})
    kind.reply = fault
    parties.server.__class__ = kind
    return parties


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_party_with_a_fault_is_found(fault):
    with pytest.raises(Fault, match=FAULTS[fault]):
        fuzz(partial(careless, fault), "a fault", steps=4)


SENTENCES = {
    "raise ValueError('server: send z')": None,
    "raise ValueError('no')": "no sentence: ",
    "raise ValueError('server has\\n z: send it')": "no sentence: ",
    "raise ValueError('server: ' + 400 * 'z')": "no sentence: ",
    "raise KeyError('server: send z')": "raw KeyError",
    "int('z: 1')": "raw ValueError",
    "import torch; torch.zeros(2) @ torch.zeros(3)": "raw RuntimeError",
}


@pytest.mark.parametrize("line", SENTENCES)
def test_a_sentence_of_the_library_is_one_that_it_raises_itself(line):
    with pytest.raises(Exception) as caught:
        exec(compile(line, LIBRARY / "core" / "any.py", "exec"))
    found = fault_of(caught.value)
    assert found is None if SENTENCES[line] is None else found.startswith(SENTENCES[line])
    with pytest.raises(Exception) as caught:
        exec(compile(line, "elsewhere.py", "exec"))
    assert fault_of(caught.value).startswith("raw ")
