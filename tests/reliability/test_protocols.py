"""A run that stops and goes on ends bit for bit where it would have ended, in every protocol."""

import pytest
from test_resume import differences, plain

import splitlab as sl

STEPS, STOP = 7, 3  # the stop is in the middle of a round


def u_shaped(private, public):
    """Hijacked, with a tail at the client."""
    net = sl.tiny.server_net()
    client = sl.Client(sl.tiny.client_net(), private, tail=net[3:], **sl.tiny.client())
    attack = sl.FSHA.at(sl.tiny, public, design="paper", steps=STEPS, body=net[:3])
    return [client], attack, sl.u_shaped


def sequential(private, public):
    """Three clients with turns of two steps, through the server."""
    clients = [
        sl.Client(
            sl.tiny.client_net(seed=number),
            private.select(range(number, len(private), 3)),
            **sl.tiny.client(seed=number),
            name=f"client {number}",
        )
        for number in range(3)
    ]
    server = sl.HonestServer(sl.tiny.server_net())
    return clients, server, sl.Sequential(turn=2, through_server=True)


def splitfed_v1(private, public):
    """Two clients with turns of two steps, and a copy of the server for each."""
    clients, server, _ = sequential(private, public)
    clients = clients[:2]
    samples = {client.name: len(client.data) for client in clients}
    return clients, sl.ServerCopies(server, samples), sl.SplitFed(turn=2)


def splitfed_v2(private, public):
    """Three clients and one server, in a random order in each round."""
    clients, server, _ = sequential(private, public)
    return clients, server, sl.SplitFed(seed=3)


def labels_at_server(private, public):
    """Row numbers cross, and the server looks the labels up."""
    client = sl.Client(sl.tiny.client_net(), private, sends_index=True, **sl.tiny.client())
    return [client], sl.HonestServer(sl.tiny.server_net(), labels=private.y), sl.vanilla


RUNS = [u_shaped, sequential, splitfed_v1, splitfed_v2, labels_at_server]


def run(make, digits, steps, checkpoint=None):
    clients, server, protocol = make(*digits[:2])
    wiretap = sl.Wiretap()
    log = sl.train(
        clients,
        server,
        steps,
        protocol=protocol,
        observers=[wiretap],
        checkpoint=checkpoint,
    )
    return plain(
        {
            "clients": [client.state_dict() for client in clients],
            "server": server.state_dict(),
            "wiretap": wiretap.state_dict(),
            "log": log.state_dict() | {"seconds": None},
        }
    )


@pytest.mark.parametrize("make", RUNS)
def test_resumed_is_uninterrupted(make, digits, tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    uninterrupted = run(make, digits, STEPS)
    stopped = run(make, digits, STOP, checkpoint)
    assert differences(stopped, uninterrupted) != []
    assert differences(run(make, digits, STEPS, checkpoint), uninterrupted) == []


def test_another_way_of_handing_on_is_another_run(digits, tmp_path):
    def other(private, public):
        clients, server, _ = sequential(private, public)
        return clients, server, sl.Sequential(turn=2, optimizer_state=False)

    checkpoint = tmp_path / "run.ckpt"
    run(sequential, digits, STOP, checkpoint)
    with pytest.raises(
        sl.CheckpointError, match=r"protocol\.optimizer_state: True there, False here"
    ):
        run(other, digits, STEPS, checkpoint)


def test_another_order_of_turns_is_another_run(digits, tmp_path):
    def other(private, public):
        clients, server, _ = splitfed_v2(private, public)
        return clients, server, sl.SplitFed(seed=None)

    checkpoint = tmp_path / "run.ckpt"
    run(splitfed_v2, digits, STOP, checkpoint)
    with pytest.raises(sl.CheckpointError, match=r"protocol\.seed: 3 there, None here"):
        run(other, digits, STEPS, checkpoint)


def copies_with_labels(private, public):
    """As `labels_at_server`, with a copy of the server for the client."""
    clients, server, _ = labels_at_server(private, public)
    return clients, sl.ServerCopies(server, {"client": len(private)}), sl.SplitFed()


@pytest.mark.parametrize("make", [labels_at_server, copies_with_labels])
def test_other_labels_at_the_server_are_another_run(make, digits, tmp_path):
    """One label among hundreds is enough, and the checkpoint is left as it was."""

    def other(private, public):
        clients, server, protocol = make(private, public)
        held = server.copies["client"] if isinstance(server, sl.ServerCopies) else server
        held.labels[5] = (held.labels[5] + 1) % 10
        return clients, server, protocol

    checkpoint = tmp_path / "run.ckpt"
    run(make, digits, STOP, checkpoint)
    before = checkpoint.read_bytes()
    sentence = r"server\S*\.labels: int64 \(\d+,\), \w+ there, int64 \(\d+,\), \w+ here"
    with pytest.raises(sl.CheckpointError, match=sentence):
        run(other, digits, STEPS, checkpoint)
    assert checkpoint.read_bytes() == before
    run(make, digits, STEPS, checkpoint)
