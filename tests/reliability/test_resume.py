"""A run that is killed at any moment and goes on ends bit for bit where it would have ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rotation
import torch
from training import EVERY, run

import splitlab as sl
from splitlab.core.files import load

TRAINING = Path(__file__).with_name("training.py")
STEPS = 8
KINDS = ["fast", "paper", "no hijack", "defended"]
TURN = rotation.share(KINDS, 2)  # the conformance list kills every attack and defense each time
rotation.chosen["runs killed in processes of their own"] = TURN


def differences(one, two, where="state"):
    """Return where two nested states are not the same to the last bit and type."""
    if type(one) is not type(two):
        return [f"{where}: {type(one)} and {type(two)}"]
    if isinstance(one, torch.Tensor):
        same = one.dtype == two.dtype and one.shape == two.shape
        same = same and torch.equal(one.contiguous().view(-1), two.contiguous().view(-1))
        return [] if same else [where]
    if isinstance(one, dict):
        if list(one) != list(two):
            return [f"{where}: keys {list(one)} and {list(two)}"]
        return [d for key in one for d in differences(one[key], two[key], f"{where}[{key!r}]")]
    if isinstance(one, list | tuple):
        if len(one) != len(two):
            return [f"{where}: {len(one)} and {len(two)} items"]
        pairs = enumerate(zip(one, two, strict=True))
        return [d for n, (a, b) in pairs for d in differences(a, b, f"{where}[{n}]")]
    return [] if one == two else [f"{where}: {one} and {two}"]


def plain(value):
    """The same state with dictionaries as plain ones, as they are read back."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


@pytest.mark.parametrize("kind", TURN)
def test_killed_again_and_again_and_resumed_ends_bit_identical(kind, tmp_path):
    checkpoint, out = tmp_path / "run.ckpt", tmp_path / "end"
    paths = os.pathsep.join([str(TRAINING.parents[2]), os.environ.get("PYTHONPATH", "")])
    shown = subprocess.run(
        [sys.executable, TRAINING, kind, checkpoint, out, str(STEPS)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    kill = -signal.SIGKILL
    became = [[kill, None], [kill, EVERY], [kill, EVERY], [kill, EVERY], [kill, 2 * EVERY]]
    assert json.loads(shown.stdout) == [*became, [0, STEPS]], shown.stderr
    uninterrupted, _ = run(kind, None, STEPS)
    assert differences(plain(uninterrupted), load(out)) == []


def test_the_comparison_notices_what_is_lost(tmp_path, monkeypatch):
    """Were the sampler's state not carried, the comparison above would say so."""
    checkpoint = tmp_path / "run.ckpt"
    run("paper", checkpoint, EVERY)
    monkeypatch.setattr(sl.attacks.fsha.Sampler, "load_state_dict", lambda self, state: None)
    resumed, _ = run("paper", checkpoint, STEPS)
    uninterrupted, _ = run("paper", None, STEPS)
    found = differences(plain(uninterrupted), plain(resumed))
    assert any("permutation" in where or "position" in where for where in found)
    assert any("'net'" in where for where in found)


def test_training_with_checkpoints_is_training_without(tmp_path):
    with_checkpoints, _ = run("defended", tmp_path / "deep" / "run.ckpt", STEPS)
    without, _ = run("defended", None, STEPS)
    assert differences(with_checkpoints, without) == []


def test_a_finished_run_is_put_back_and_trained_no_further(tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    first, log = run("paper", checkpoint, STEPS)
    again, same = run("paper", checkpoint, STEPS)
    assert differences(plain(first), plain(again)) == []
    assert same.steps == STEPS
    assert same.seconds >= log.seconds
    assert [same[name] for name in same] == [log[name] for name in log]


def test_more_steps_continue_a_finished_run(tmp_path):
    checkpoint = tmp_path / "run.ckpt"
    _, short = run("paper", checkpoint, STEPS)
    longer, log = run("paper", checkpoint, STEPS + 2)
    uninterrupted, _ = run("paper", None, STEPS + 2)
    assert differences(plain(longer), plain(uninterrupted)) == []
    assert log.seconds > short.seconds
    with pytest.raises(sl.CheckpointError, match=r"is at step 10, past the 8 asked for"):
        run("paper", checkpoint, STEPS)
    assert load(checkpoint)["step"] == STEPS + 2  # nothing is lost


class Meanwhile(sl.Observer):
    """Does something else in the first step of a run."""

    def __init__(self, does):
        self.does = does

    def step(self, step, client, server):
        if step == 0:
            self.does()


def test_of_two_runs_with_one_checkpoint_the_last_to_write_stands(
    make_client, make_attack, tmp_path
):
    path = tmp_path / "run.ckpt"

    def train(observers=(), **client):
        sl.train([make_client(**client)], make_attack(), 4, observers=observers, checkpoint=path)
        return load(path)["parties"]

    alone = train()
    path.unlink()
    observers = [Meanwhile(lambda: train(seed=1))]
    assert differences(train(observers), alone) == []
    with pytest.raises(sl.CheckpointError, match="belongs to another run"):
        train(seed=1)
    assert [file.name for file in tmp_path.iterdir()] == ["run.ckpt"]


@pytest.fixture
def begun(make_client, make_attack, tmp_path):
    """The checkpoint of a run of two steps with one client, FSHA and snapshots."""
    path = tmp_path / "run.ckpt"
    sl.train([make_client()], make_attack(), 2, observers=[sl.Snapshots()], checkpoint=path)
    return path


def run_with(change, make_client, make_attack, digits):
    """Return (clients, server, observers, options) of a run that differs in one thing."""
    client, public, snapshots = {}, digits[1], sl.Snapshots()
    number, server, options = 1, None, {}
    match change:
        case "network":
            client["net"] = sl.nets.tiny.client(cut=1)
        case "rate":
            client["optimizer"] = lambda parameters: torch.optim.Adam(parameters, lr=0.5)
        case "batch size":
            client["batch_size"] = 8
        case "seed":
            client["seed"] = 1
        case "defense":
            client["defenses"] = [sl.Defense()]
        case "clients":
            number = 2
        case "public data":
            public = digits[1].subset(90)
        case "server":
            server = sl.NoHijack(sl.tiny.server_net(), make_attack())
        case "snapshots":
            snapshots = sl.Snapshots(every=3)
        case "precision":
            options["autocast"] = torch.bfloat16
    clients = [make_client(name=name, **client) for name in ("client", "second")[:number]]
    observers = [] if change == "observers" else [snapshots]
    server = server or sl.FSHA.at(sl.tiny, public, batch_size=16)
    return clients, server, observers, options


@pytest.mark.parametrize(
    ("change", "sentence"),
    {
        "network": r"clients\[0\]\.net has: 13 layers, \w+ there, 6 layers, \w+ here",
        "rate": r"lr: 0\.001 there, 0\.5 here",
        "batch size": r"clients\[0\]\.sampler\.batch_size: 16 there, 8 here",
        "seed": r"clients\[0\]\.randomness\.seed: 0 there, 1 here",
        "defense": r"clients\[0\]\.defenses\[0\] is: nothing there, Defense here",
        "clients": "clients: 1 there, 2 here",
        "public data": r"server\.public: digits, \d+ rows, \w+ there, digits, 90 rows",
        "server": "server is: FSHA there, NoHijack here",
        "observers": "observers: Snapshots there, none here",
        "snapshots": r"observers\[0\]\.every: 10 there, 3 here",
        "precision": r"autocast: None there, torch\.bfloat16 here",
    }.items(),
)
def test_a_checkpoint_of_another_run_is_refused(
    begun, make_client, make_attack, digits, change, sentence
):
    clients, server, observers, options = run_with(change, make_client, make_attack, digits)
    before = begun.read_bytes()
    weights = {name: value.clone() for name, value in clients[0].net.state_dict().items()}
    with pytest.raises(ValueError, match=sentence) as error:
        sl.train(clients, server, 4, observers=observers, checkpoint=begun, **options)
    assert "\n" not in str(error.value)
    assert begun.read_bytes() == before
    after = clients[0].net.state_dict()
    assert all(torch.equal(weights[name], after[name]) for name in weights)


def test_an_observer_that_keeps_nothing_may_come_and_go(begun, make_client, make_attack):
    observers = [sl.Observer(), sl.Snapshots()]
    log = sl.train([make_client()], make_attack(), 3, observers=observers, checkpoint=begun)
    assert log.steps == 3


def test_the_progress_bar_of_a_resumed_run_begins_where_the_run_does(
    begun, make_client, make_attack, tmp_path
):
    with (tmp_path / "bar").open("w+") as file:
        observers = [sl.Snapshots(), sl.Progress(file=file)]
        sl.train([make_client()], make_attack(), 3, observers=observers, checkpoint=begun)
        file.seek(0)
        assert "3/3" in file.read()


def test_parties_of_a_resumed_run_share_nothing(begun, make_client, make_attack):
    client, attack = make_client(), make_attack()
    sl.train([client], attack, 2, observers=[sl.Snapshots()], checkpoint=begun)
    sl.audit([client], attack)


def half(client, server, send):
    """A protocol that leaves the client waiting."""
    send(server.reply(send(client.forward(), server)), client)


def test_a_protocol_that_leaves_a_turn_open_cannot_be_checkpointed(
    make_client, make_attack, tmp_path
):
    with pytest.raises(RuntimeError, match="client still waits for a gradient"):
        sl.train([make_client()], make_attack(), 1, protocol=half, checkpoint=tmp_path / "run.ckpt")
    assert not list(tmp_path.iterdir())


def test_every_is_at_least_one(make_client, make_attack, tmp_path):
    with pytest.raises(ValueError, match="every is 0"):
        sl.train([make_client()], make_attack(), 1, checkpoint=tmp_path / "c", every=0)


def test_a_log_with_steps_of_different_metrics_comes_back():
    log = sl.Log()
    log.append({"a": torch.tensor(0.1), "b": torch.tensor(float("nan"))})
    log.append({"a": torch.tensor(2)})
    other = sl.Log()
    other.load_state_dict(log.state_dict())
    other.append({"a": torch.tensor(3.0)})
    assert other["a"] == [float(torch.tensor(0.1)), 2.0, 3.0]
    assert other.steps == 3
    assert other.names() == ["a", "b"]
    assert other.state_dict()["metrics"]["b"][1:] == [None, None]
