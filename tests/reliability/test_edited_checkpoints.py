"""Checkpoints that were changed and have a right checksum: refused, and nothing is loaded."""

import collections
import copy
import os
from functools import partial

import pytest
import torch
from mutations import at, edited, edits, nodes
from torch import nn
from torch.optim import SGD, Adam, lr_scheduler

import splitlab as sl
from splitlab.core.checkpoint import Checkpoint
from splitlab.core.files import load, save
from splitlab.course.conformance.examples import everything

STEPS = 2


class Counts(sl.Defense):
    """Keeps what a state is made of: plain values, a generator, an optimizer's schedule."""

    STATE = ("calls", "sums")

    def __init__(self):
        self.calls, self.sums = 0, None
        self.generator = torch.Generator().manual_seed(1)

    def prepare(self, client):
        self.schedule = lr_scheduler.StepLR(client.optimizer, 1)

    def smash(self, client, turn, z):
        return z + 0.01 * torch.randn(z.shape, generator=self.generator)

    def grads(self, client, turn):
        self.calls += 1
        self.sums = turn.z.detach().mean(0) + (0 if self.sums is None else self.sums)


def parties(digits):
    """Return (clients, server, observers), the same every time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(1, 2, 8, 8), nn.BatchNorm2d(2), nn.ReLU())
        server = sl.HonestServer(nn.Sequential(nn.Flatten(), nn.Linear(8, 10)), optimizer=Adam)
    optimizer = partial(SGD, lr=0.1, momentum=0.9)
    private = digits[0].subset(16, seed=0)
    client = sl.Client(net, private, batch_size=4, optimizer=optimizer, defenses=[Counts()])
    return [client], server, [sl.Wiretap()]


@pytest.fixture(scope="module")
def path(digits, tmp_path_factory):
    path = tmp_path_factory.mktemp("edited") / "run.ckpt"
    clients, server, observers = parties(digits)
    sl.train(clients, server, STEPS, observers=observers, checkpoint=path)
    return path


@pytest.fixture(scope="module")
def saved(path):
    return load(path)


def is_a_sentence(error):
    text = str(error)
    return "\n" not in text and len(text) < 400 and ": " in text


def some(edits, turn, each=2):
    """Return some of a part's edits, others for the next part."""
    return [list(edits)[(turn + n) % len(edits)] for n in range(min(each, len(edits)))]


def resuming(path, digits, steps):
    """Return what a run would load the checkpoint into, and the checkpoint."""
    clients, server, observers = parties(digits)
    keep = Checkpoint(path, clients, server, observers, sl.Log(), steps=steps, protocol=sl.vanilla)
    return keep, [clients, server, observers]


def test_every_part_that_is_changed_in_kind_is_refused_before_anything_is_loaded(
    path, saved, digits, monkeypatch
):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # hundreds of files
    keep, held = resuming(path, digits, STEPS)
    keep.read()  # the original fits
    before = everything(held)
    tried = collections.Counter()
    for turn, where in enumerate(nodes(saved)):
        # These two are texts by path, all alike: every twentieth of them will do.
        if where[0] in ("outline", "kinds") and len(where) > 1 and turn % 20:
            continue
        for name, value in some(list(edits(at(saved, where))), turn):
            save(edited(saved, where, value), path)
            with pytest.raises(sl.CheckpointError) as caught:
                keep.read()
            assert is_a_sentence(caught.value), (where, name, str(caught.value))
            assert str(path) in str(caught.value)
            tried[where[0]] += 1
    assert set(tried) == set(saved)
    assert tried.total() > 200
    assert everything(held) == before
    assert keep.log.steps == 0
    save(saved, path)


def test_a_part_that_does_not_fit_leaves_every_party_as_it_was(path, saved, digits):
    """As an older library leaves it: the file agrees with itself, and not with this library."""
    tried = collections.Counter()
    keep, held = resuming(path, digits, STEPS)
    before = everything(held)
    for turn, where in enumerate(nodes(saved["parties"])):
        if len(where) == 1:
            continue  # `read` has compared the names of the parties
        for name, value in some(list(edits(at(saved["parties"], where))), turn):
            keep._saved = saved | {"parties": edited(saved["parties"], where, value)}
            try:
                keep.resume()
            except sl.CheckpointError as error:
                assert is_a_sentence(error), (where, name, str(error))
                assert everything(held) == before, (where, name)
                assert keep.log.steps == 0
                tried["refused"] += 1
            else:
                # Nothing says what a class keeps in its third step, nor how many tensors an
                # optimizer has moved; and one number is as good as another.
                kept = {"calls", "sums", "answered", "_last_lr", "base_lrs", "state"} & {*where}
                is_number = isinstance(at(saved["parties"], where), int | float)
                assert kept or is_number, (where, name)
                tried["loaded"] += 1
                keep, held = resuming(path, digits, STEPS)
    assert tried["refused"] > 150 and tried["loaded"] < 30, tried


@pytest.mark.parametrize("name", ["weights", "optimizer's tensor", "sampler's order", "generator"])
def test_the_sentence_names_the_file_the_part_and_both_kinds(name, path, saved, digits):
    where, value, says = {
        "weights": (
            ("parties", "server", "net", "weights", "1.bias"),
            torch.zeros(3),
            r"net'\]\['weights'\]\['1\.bias'\] is float32 tensor of shape \(3,\) and was float32",
        ),
        "optimizer's tensor": (
            ("parties", "server", "optimizer", "state", 0, "exp_avg"),
            torch.zeros(10, 8).double(),
            r"\['exp_avg'\] is float64 tensor of shape \(10, 8\) and was float32 tensor",
        ),
        "sampler's order": (
            ("parties", "clients[0]", "sampler", "permutation"),
            torch.arange(5),
            r"\['permutation'\] is int64 tensor of shape \(5,\) and was int64 tensor of shape \(16",
        ),
        "generator": (
            ("parties", "clients[0]", "randomness", "cpu"),
            None,
            r"\['randomness'\]\['cpu'\] is None and was uint8 tensor of shape",
        ),
    }[name]
    save(edited(saved, where, value), path)
    clients, server, observers = parties(digits)
    with pytest.raises(sl.CheckpointError, match=f"^{path} cannot be read .*{says}"):
        sl.train(clients, server, STEPS + 1, observers=observers, checkpoint=path)
    save(saved, path)


def test_the_last_party_that_fails_undoes_those_before_it(path, saved, digits):
    """An observer's own `load_state_dict` fails after both parties have been loaded."""

    class Fails(sl.Wiretap):
        def load_state_dict(self, state):
            self.counts = {}
            raise KeyError("counts")

    clients, server, _ = parties(digits)
    keep = Checkpoint(path, clients, server, [Fails()], sl.Log(), steps=9, protocol=sl.vanilla)
    keep._saved = saved
    before = everything([clients, server])
    sentence = (
        r"run\.ckpt cannot be resumed \(observers\[0\] refuses its state \(KeyError: 'counts'"
    )
    with pytest.raises(sl.CheckpointError, match=sentence):
        keep.resume()
    assert everything([clients, server]) == before


def test_a_run_that_diverged_is_resumed_as_it_was(path, saved, digits):
    """NaN is a number like others here: what it does to the next step is said there."""
    net = saved["parties"]["server"]["net"]["weights"]
    net = net | {"1.bias": torch.full_like(net["1.bias"], torch.nan)}
    save(edited(saved, ("parties", "server", "net", "weights"), net), path)
    clients, server, observers = parties(digits)
    sl.train(clients, server, STEPS, observers=observers, checkpoint=path)
    assert server.net[1].bias.isnan().all()
    save(saved, path)


SCHEDULES = {
    "steps": lambda o: lr_scheduler.StepLR(o, 2),
    "milestones": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=9),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "in a row": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.StepLR(o, 1)], [2]
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
}
OPTIMIZERS = {
    "Adam": partial(Adam, lr=0.1),
    "AMSGrad": partial(Adam, lr=0.1, amsgrad=True),
    "SGD": partial(SGD, lr=0.1),
    "momentum": partial(SGD, lr=0.1, momentum=0.9),
    "RMSprop": partial(torch.optim.RMSprop, centered=True, momentum=0.1),
    "Adagrad": torch.optim.Adagrad,
    "NAdam": torch.optim.NAdam,
    "Rprop": torch.optim.Rprop,
    "LBFGS": torch.optim.LBFGS,
}


class Trains(sl.Server):
    """Trains a network and a frozen layer's neighbor with any optimizer and schedule."""

    threat = sl.HonestServer.threat

    def __init__(self, optimizer, schedule):
        super().__init__()
        self.net = nn.Linear(2, 2)
        self.net.bias.requires_grad_(False)
        self.optimizer = optimizer(self.net.parameters())
        self.schedule = schedule(self.optimizer)

    def reply(self, message):
        def loss():
            self.optimizer.zero_grad()
            loss = self.net(message.z).square().mean()
            loss.backward()
            return loss

        value = self.optimizer.step(loss)
        plateau = isinstance(self.schedule, lr_scheduler.ReduceLROnPlateau)
        self.schedule.step(*[float(value.detach())] * plateau)
        return self.gradient(message, message.z)


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [*[("momentum", schedule) for schedule in SCHEDULES], *[(o, "steps") for o in OPTIMIZERS]],
)
def test_what_fits_is_never_refused(optimizer, schedule, tmp_path):
    """Any optimizer of torch and any schedule, after three steps, from a file."""

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Trains(OPTIMIZERS[optimizer], SCHEDULES[schedule])

    message = sl.SmashedData(z=torch.ones(3, 2), sender="client", step=0)
    one, other = make(), make()
    for _ in range(3):
        one.reply(message)
    save(one.state_dict(), tmp_path / "state")
    other.load_state_dict(load(tmp_path / "state"))
    for party in (one, other):
        party.reply(message)
    assert torch.equal(one.net.weight, other.net.weight)
    assert one.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]


def test_the_state_of_another_optimizer_is_refused_whole(tmp_path):
    def make(optimizer):
        return Trains(OPTIMIZERS[optimizer], SCHEDULES["steps"])

    message = sl.SmashedData(z=torch.ones(3, 2), sender="client", step=0)
    one, other = make("Adam"), make("momentum")
    one.reply(message)
    before = everything(other)
    with pytest.raises(ValueError, match=r"state of Trains\.optimizer\['param_groups'\]\[0\] .*'"):
        other.load_state_dict(one.state_dict())
    assert everything(other) == before
    state = make("Adam").state_dict() | {"net": one.state_dict()["net"]}
    state["optimizer"] = copy.deepcopy(one.optimizer.state_dict())
    del state["optimizer"]["state"][0]["step"]
    before = everything(one)
    with pytest.raises(ValueError, match=r"\['state'\]\[0\] lacks 'step': load the state"):
        one.load_state_dict(state)
    assert everything(one) == before
