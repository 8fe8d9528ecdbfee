"""State that nobody wrote down: what is collected of an outsider's class, and what is refused."""

import enum
import functools
import random
import types
from collections import deque, namedtuple
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR

import splitlab as sl
from splitlab.course.conformance.examples import (
    EVERY,
    Kill,
    Killed,
    assert_same,
    few,
    killed_run,
    made,
    run,
)


@pytest.fixture
def data(digits):
    return few(digits)


class Helper:
    """A plain object, of a class that knows nothing of states."""

    def __init__(self, net):
        self.optimizer = Adam(net.parameters(), lr=1e-2)


@dataclass(slots=True)
class Slotted:
    """An object that keeps its parts in slots."""

    net: nn.Module = field(default_factory=lambda: nn.Linear(4, 4))
    count: int = 0


class Learner(nn.Module):
    """A network that owns what trains it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.optimizer = SGD(self.layer.parameters(), lr=0.1, momentum=0.9)
        first, then = LinearLR(self.optimizer), StepLR(self.optimizer, 1, gamma=0.5)
        self.schedule = SequentialLR(self.optimizer, [first, then], milestones=[2])
        self.temperature = 1.0

    def learn(self, x):
        descend(self.optimizer, self.layer(x).square().sum())
        self.schedule.step()


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


class Outsider(sl.Server):
    """Sends gradients that depend on all that it holds, at any depth. It has no state method."""

    threat = sl.HonestServer.threat
    STATE = ("turns", "learned")

    def __init__(self):
        super().__init__()
        self.nets = [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))]
        self.nets[0].requires_grad_(False)
        self.toolbox = {"late": {"net 1": Helper(self.nets[1])}, "rate": 0.5}
        self.own, self.slotted = Learner(), Slotted()
        self.space = types.SimpleNamespace(adam=Adam(self.slotted.net.parameters()))
        self.dice = torch.Generator().manual_seed(3)
        self.turns = {"all": 0, "odd": [0]}
        self.learned = torch.zeros(4, requires_grad=True)  # its optimizer has this very tensor
        self.adam = Adam([self.learned], lr=0.1)
        self.parameters = [*self.nets[1].parameters()]  # saved with their network

    def reply(self, message):
        x = message.z.flatten(1)[:, :4] + torch.rand(4, generator=self.dice)
        descend(self.toolbox["late"]["net 1"].optimizer, self.codes(x).square().sum())
        descend(self.space.adam, self.codes(x).square().sum())
        descend(self.adam, self.codes(x).square().sum())
        self.own.learn(x)
        self.turns["all"] += 1
        self.turns["odd"][0] += self.turns["all"] % 2
        dz = self.turns["odd"][0] * self.codes(x).mean() * message.z
        return self.gradient(message, dz.detach())

    def codes(self, x):
        return self.slotted.net(self.own.layer(self.nets[1](self.nets[0](x + self.learned))))


class Zeros(sl.Server):
    """Sends zeros; what it keeps beside is the subject of a test."""

    threat = sl.HonestServer.threat

    def __init__(self, kept=None):
        super().__init__()
        self.kept = kept

    def change(self):
        """Called in every step."""

    def reply(self, message):
        self.change()
        return self.gradient(message, 0 * message.z)


def changing(change, **names):
    """A subclass that changes like this, and names what it names."""
    return type("Changing", (Zeros,), {"change": change} | names)


def beside(make, data):
    """Make (client, server), the same every time; `make` makes the server."""

    def parties():
        client = made(sl.FSHA, data)[1]
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return client, make()

    return parties


def test_an_outsiders_class_resumes_to_the_last_bit(data, tmp_path):
    whole = beside(Outsider, data)()
    run(*whole)
    killed, _ = killed_run(beside(Outsider, data), tmp_path / "run")
    assert whole[1].turns == {"all": 4, "odd": [2]}
    assert killed[1].learned is killed[1].adam.param_groups[0]["params"][0]
    assert_same(whole, killed)


def closure(net):
    return lambda x: net(x)


def double(net, x):
    return 2 * net(x)


HIDDEN = {
    "a closure": lambda: closure(nn.Linear(2, 2)),
    "a partial": lambda: functools.partial(double, nn.Linear(2, 2)),
    "a set": lambda: {nn.Linear(2, 2)},
    "a deque": lambda: deque([nn.Linear(2, 2)]),
    "a default": lambda: lambda x, net=nn.Linear(2, 2): net(x),  # noqa: B008
    "a method's owner": lambda: sl.attacks.critic.Critic(nn.Linear(2, 1)).score,
    "a counter's method": lambda: sl.Wiretap().message,
    "a network's closure": lambda: Holds(closure(nn.Linear(2, 2))),
    "an optimizer in a closure": lambda: closure(Adam(nn.Linear(2, 2).parameters())),
    "a generator in a closure": lambda: closure(torch.Generator()),
    "a random state in a closure": lambda: closure(sl.core.randomness.RandomState("me", 0)),
    "a tensor of its optimizer alone": lambda: Adam([torch.zeros(2, requires_grad=True)]),
    "numpy's random numbers": lambda: np.random.default_rng(0),
    "Python's random numbers": lambda: random.Random(0),
}


class Holds(nn.Linear):
    def __init__(self, held):
        super().__init__(2, 2)
        self.held = held


@pytest.mark.parametrize("way", HIDDEN)
def test_what_no_state_would_hold_is_refused_by_name(way, data, tmp_path):
    parties = beside(lambda: Zeros(HIDDEN[way]()), data)()
    with pytest.raises(sl.CheckpointError, match=r"server\['kept'\].* has a state that no check"):
        run(*parties, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Phase(enum.Enum):
    EARLY, LATE = 1, 2


Pair = namedtuple("Pair", "count net")


def counting(of=lambda server: server.kept):
    def change(server):
        of(server).count += 1

    return change


def into(value):
    def change(server):
        server.kept = value

    return change


CHANGES = {
    "a counter": (lambda: 0, lambda server: setattr(server, "kept", server.kept + 1), "kept"),
    "a numpy number": (lambda: np.int64(0), into(np.int64(1)), "kept"),
    "a phase": (lambda: Phase.EARLY, into(Phase.LATE), "kept"),
    "a number that becomes NaN": (lambda: 0.0, into(float("nan")), "kept"),
    "a NaN that becomes 0": (lambda: torch.tensor(torch.nan), into(torch.tensor(0.0)), "kept"),
    "a tensor": (lambda: torch.zeros(2), lambda server: server.kept.add_(1), "kept"),
    "an array": (lambda: np.zeros(2), lambda server: server.kept.__iadd__(1), "kept"),
    "a deque": (lambda: deque([0]), lambda server: server.kept.append(1), "kept"),
    "a set": (lambda: {0}, lambda server: server.kept.add(server.kept.copy().pop() + 1), "kept"),
    "a pair": (lambda: Pair(0, 0), into(Pair(1, 0)), "kept"),
    "beside a network": (lambda: [0, nn.Linear(2, 2)], lambda s: s.kept.__setitem__(0, 1), "kept"),
    "in an object": (lambda: types.SimpleNamespace(count=0), counting(), "count"),
    "in an object in lists": (
        lambda: [[types.SimpleNamespace(count=0)]],
        counting(lambda server: server.kept[0][0]),
        "count",
    ),
    "in slots": (Slotted, counting(), "count"),
    "in a network": (
        lambda: nn.Sequential(Learner()),
        lambda server: setattr(server.kept[0], "temperature", 0.5),
        "temperature",
    ),
    "a parameter of its own": (
        lambda: nn.Parameter(torch.zeros(2)),
        lambda server: server.kept.data.add_(1),
        "kept",
    ),
    "a network that was not there": (lambda: None, into(nn.Linear(2, 2)), "kept"),
    "a list that is made in the run": (lambda: None, into([0]), "kept"),
    "an attribute that was not there": (lambda: None, lambda s: setattr(s, "new", 1), "new"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_and_is_named_nowhere_is_refused_by_name(what, data, tmp_path):
    make, change, attribute = CHANGES[what]
    client, server = beside(lambda: changing(change)(make()), data)()
    named = rf"^server\..*{attribute}.* changes during the run.*: add '{attribute}' to STATE.*PASS"
    with pytest.raises(sl.CheckpointError, match=named):
        run(client, server, checkpoint=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("what", ["STATE", "PASSING"])
def test_once_it_is_named_the_run_goes_on(what, data, tmp_path):
    kind = changing(CHANGES["a counter"][1], **{what: ("kept",)})
    make = beside(lambda: kind(0), data)
    (_, server), _ = killed_run(make, tmp_path / "run")
    assert server.kept == (4 if what == "STATE" else 2)


QUIET = {
    "NaN": lambda: [float("nan"), torch.tensor([torch.nan, torch.inf]), np.array([np.nan])],
    "a pair with a network": lambda: Pair(0, nn.Linear(2, 2)),
    "settings": lambda: types.SimpleNamespace(rate=0.5, phase=Phase.LATE, names={"a", "b"}),
    "a deque": lambda: deque([1, 2], maxlen=2),
    "a learner with schedules in a schedule": Learner,
    "a layer without parameters": lambda: closure(nn.ReLU()),
    "an LSTM": lambda: nn.LSTM(2, 2),
    "foreign objects": lambda: [torch.distributions.Normal(0.0, 1.0), range(3), Phase],
}


@pytest.mark.parametrize("what", QUIET)
def test_what_does_not_change_is_not_refused(what, data, tmp_path):
    killed_run(beside(lambda: Zeros(QUIET[what]()), data), tmp_path / "run")


@pytest.mark.parametrize(
    "kind", [sl.BlackBoxInversion, sl.QueryFreeInversion], ids=lambda kind: kind.__name__
)
def test_a_part_that_is_made_late_is_made_again(kind, data, tmp_path):
    """Made in the run or after it: a fresh attack shows the same pictures by the state alone."""

    class Prepare(sl.Observer):
        def message(self, message):
            if message.step == 1 and isinstance(message, sl.SmashedData):
                sl.grant(*prepared)

    prepared = []

    def train(*observers, **options):
        attack, client, server = made(kind, data)
        prepared[:] = attack, client
        run(client, server, observers=[Prepare(), *observers], **options)
        return attack, client

    whole, client = train()
    options = {"checkpoint": tmp_path / "run", "every": EVERY}
    with pytest.raises(Killed):
        train(Kill(), **options)
    killed, _ = train(**options)
    late, _, _ = made(kind, data)
    assert late.decoder is None
    late.load_state_dict(whole.state_dict())
    message = client.smash(data[0].x)
    for attack in (killed, late):
        assert_same(whole.decoder.state_dict(), attack.decoder.state_dict())
        assert torch.equal(whole.reconstruct(message), attack.reconstruct(message))
    late.load_state_dict(made(kind, data)[0].state_dict())
    assert late.decoder is None


def test_a_network_for_one_step_alone_needs_no_state(data, tmp_path):
    kind = changing(lambda server: setattr(server, "kept", nn.Linear(2, 2)), PASSING=("kept",))
    killed_run(beside(kind, data), tmp_path / "run")


def test_who_names_a_late_part_says_how_to_make_it(data):
    kind = type("Late", (Zeros,), {"LATER": ("kept",)})
    with pytest.raises(NotImplementedError, match="names 'kept' in LATER and does not say how"):
        kind().load_state_dict(kind(nn.Linear(2, 2)).state_dict())


def test_the_state_of_another_object_is_refused(data):
    one, other = Zeros(nn.Linear(2, 2)), Zeros()
    with pytest.raises(ValueError, match=r"the state of Zeros has an unknown part 'kept': load"):
        other.load_state_dict(one.state_dict())
