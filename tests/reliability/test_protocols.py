"""A run that stops and goes on ends bit for bit where it would have ended, in every protocol."""

import pytest
from test_resume import differences, plain

import splitlab as sl

STEPS, STOP = 7, 3  # the stop is in the middle of a round


def u_shaped(private, public):
    """Hijacked, with a tail at the client."""
    net = sl.tiny.server_net()
    options = sl.tiny.client() | {"batch_size": 16}
    client = sl.Client(sl.tiny.client_net(), private, tail=net[3:], **options)
    attack = sl.FSHA(**sl.tiny.fsha(public, design="paper", steps=STEPS), body=net[:3])
    return [client], attack, sl.u_shaped


RUNS = [u_shaped]


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
