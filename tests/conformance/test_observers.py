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


class Meddles(sl.Observer):
    """Writes into every tensor of every message that it is told of."""

    def message(self, message):
        for tensor in message.tensors():
            tensor.zero_()


def test_what_an_observer_does_to_a_message_reaches_nobody(make_client, make_attack):
    wiretap = sl.Wiretap()
    plain = states(make_client, make_attack, [])
    meddled = states(make_client, make_attack, [Meddles(), wiretap])
    assert all(torch.equal(plain[name], meddled[name]) for name in plain)
    assert wiretap.total > 0


def test_an_observer_that_changes_a_network_is_named(make_client):
    class Helps(sl.Observer):
        def step(self, step, client, server):
            if step == 2:
                with torch.no_grad():
                    next(server.net.parameters()).mul_(0.5)

    client = make_client()
    with pytest.raises(sl.ThreatModelViolation, match=r"Helps\.step changed the network"):
        sl.train([client], sl.HonestServer(sl.tiny.server_net()), 5, observers=[Helps()])
    assert client.step == 3


class Ends(sl.Observer):
    """Notes what it is told, and raises where it is said to."""

    def __init__(self, told, where=""):
        self.told, self.where = told, where

    def note(self, what):
        self.told.append(what)
        if what == self.where:
            raise ZeroDivisionError(f"in {what}")

    def start(self, clients, server, steps):
        self.note("start")

    def end(self):
        self.note("end")


class Stops(sl.Defense):
    def incoming(self, client, turn, dz):
        raise sl.HijackingDetected("an alarm")


def test_an_end_that_raises_hides_no_alarm_and_skips_nobody(make_client):
    told = []
    watching = [Ends(told, "end"), Ends(told, "end"), Ends(told)]
    with pytest.raises(sl.HijackingDetected, match="an alarm") as caught:
        sl.train(
            [make_client(defenses=[Stops()])],
            sl.HonestServer(sl.tiny.server_net()),
            2,
            observers=watching,
        )
    assert told == ["start"] * 3 + ["end"] * 3
    note = "then Ends.end raised ZeroDivisionError: in end"
    assert caught.value.__notes__ == [note, note]


def test_an_end_that_raises_is_told_after_a_run_that_went_well(make_client):
    told = []
    with pytest.raises(ZeroDivisionError):
        sl.train(
            [make_client()],
            sl.HonestServer(sl.tiny.server_net()),
            2,
            observers=[Ends(told, "end"), Ends(told)],
        )
    assert told == ["start"] * 2 + ["end"] * 2


def test_only_those_that_were_started_are_ended(make_client):
    told = []
    with pytest.raises(ZeroDivisionError):
        sl.train(
            [make_client()],
            sl.HonestServer(sl.tiny.server_net()),
            2,
            observers=[Ends(told), Ends(told, "start"), Ends(told)],
        )
    assert told == ["start", "start", "end", "end"]


@pytest.mark.parametrize("terminal", [False, True])
def test_bars_are_drawn_on_a_terminal_alone(make_client, monkeypatch, terminal):
    drawn = io.StringIO()
    monkeypatch.setattr(drawn, "isatty", lambda: terminal)
    monkeypatch.setattr("sys.stderr", drawn)
    server = sl.HonestServer(sl.tiny.server_net())
    sl.train([make_client()], server, 3, observers=[sl.Progress("a bar")])
    assert ("a bar" in drawn.getvalue()) == terminal
