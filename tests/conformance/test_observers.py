"""Looking changes nothing: a run with observers is bit for bit the run without."""

import io

import pytest
import torch

import splitlab as sl

pytestmark = pytest.mark.usefixtures("short_referee")


def states(make_client, make_attack, observers, design="fast"):
    client, attack = make_client(), make_attack(design)
    sl.train([client], attack, 6, observers=observers)
    return {
        **client.net.state_dict(),
        **{f"critic.{name}": value for name, value in attack.critic.net.state_dict().items()},
        **{f"decoder.{name}": value for name, value in attack.decoder.state_dict().items()},
        "next rows": client.sampler.next(),
        "random": client.randomness.state_dict()["cpu"],
        "server random": attack.randomness.state_dict()["cpu"],
    }


def test_training_with_observers_is_bit_equal(make_client, make_attack):
    for design in ("fast", "paper"):
        observers = [
            sl.Progress(file=io.StringIO()),
            sl.Wiretap(),
            sl.Snapshots(every=1),
            sl.ReceivedError(),
        ]
        plain = states(make_client, make_attack, [], design)
        watched = states(make_client, make_attack, observers, design)
        assert plain.keys() == watched.keys()
        assert all(torch.equal(plain[name], watched[name]) for name in plain)


def test_evaluation_in_the_middle_changes_nothing(make_client, make_attack, digits):
    def train_twice(look):
        client, attack = make_client(), make_attack()
        sl.train([client], attack, 3)
        if look:
            sl.evaluate(client, attack, digits[2])
        sl.train([client], attack, 3)
        return client.net.state_dict()

    plain, looked = train_twice(False), train_twice(True)
    assert all(torch.equal(plain[name], looked[name]) for name in plain)


def test_a_run_does_not_move_the_global_random_stream(make_client, make_attack, digits):
    before = torch.get_rng_state()
    client, attack = make_client(), make_attack("paper")
    sl.train([client], attack, 2, observers=[sl.Snapshots(every=1)])
    sl.evaluate(client, attack, digits[2])
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_does_not_depend_on_the_global_random_stream(make_client, make_attack):
    torch.manual_seed(1)
    one = states(make_client, make_attack, [])
    torch.manual_seed(2)
    two = states(make_client, make_attack, [])
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_wiretap_counts_the_bytes_of_the_closed_form(make_client):
    client, server, wiretap = make_client(), sl.HonestServer(sl.nets.tiny.server()), sl.Wiretap()
    steps, batch, z = 5, 16, 32 * 4 * 4
    sl.train([client], server, steps, observers=[wiretap])
    float32, int64 = 4, 8
    assert wiretap.nbytes == {
        ("client", "SmashedData"): steps * batch * (z * float32 + int64),
        ("server", "Gradient"): steps * batch * z * float32,
    }
    assert wiretap.total == sum(wiretap.nbytes.values())


def test_the_wiretaps_table_names_shapes_and_counts_where_they_are_many(digits):
    clients = [
        sl.Client(sl.tiny.client_net(), digits[0], batch_size=16, name=f"client {number}")
        for number in (1, 2)
    ]
    wiretap, protocol = sl.Wiretap(), sl.Sequential(optimizer_state=False)
    server = sl.HonestServer(sl.tiny.server_net())
    sl.train(clients, server, 1, protocol=protocol, observers=[wiretap])
    shown = {kind: shapes for _, kind, shapes, _, _ in wiretap.rows()}
    assert shown["SmashedData"] == "(16, 32, 4, 4) + (16,)"
    assert shown["Weights"] == f"{len(clients[0].net.state_dict())} tensors"
