"""A run that stops and goes on ends bit for bit where it would have ended, in every protocol."""

import pytest
from test_resume import differences, plain

import splitlab as sl

STEPS, STOP = 7, 3  # the stop is in the middle of a round


def u_shaped(private, public):
    """Hijacked, with a tail at the client."""
    net = sl.tiny.server_net()
    client = sl.Client(sl.tiny.client_net(), private, tail=net[3:], **sl.tiny.client())
    attack = sl.FSHA(**sl.tiny.fsha(public, design="paper", steps=STEPS), body=net[:3])
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


def labels_at_server(private, public):
    """Row numbers cross, and the server looks the labels up."""
    client = sl.Client(sl.tiny.client_net(), private, sends_index=True, **sl.tiny.client())
    return [client], sl.HonestServer(sl.tiny.server_net(), labels=private.y), sl.vanilla


RUNS = [u_shaped, sequential, splitfed_v1, labels_at_server]


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
    with pytest.raises(sl.CheckpointError, match=r"protocol: .*optimizer_state=True"):
        run(other, digits, STEPS, checkpoint)
