"""A run goes on from a checkpoint of its own, and from no other: what makes two runs one."""

import types
from collections import deque
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam

import splitlab as sl
from splitlab.attacks.critic import Critic
from splitlab.core import checkpoint
from splitlab.core.identity import outline
from splitlab.course.conformance.examples import ROWS, few

LIMIT = sl.defenses.ClipGradient


class Around(sl.Defense):
    """A defense that holds another one."""

    def __init__(self, inner):
        self.inner = inner


def train(
    path, split, steps=2, *, client=None, attack=None, critic=None, net=0, kind=None, **options
):
    """The same lines with other arguments; returns (client, attack, log)."""
    private, public = few(split)
    settings = {"optimizer": partial(Adam, lr=1e-3), "batch_size": 8}
    settings |= {"defenses": [LIMIT(1.0), Around(LIMIT(2.0))]} | (client or {})
    one = sl.Client(sl.tiny.client_net(seed=net), private, **settings)
    learning = {"penalty": "sample", "penalty_weight": 10.0, "optimizer": partial(Adam, lr=1e-3)}
    critic = Critic(sl.nets.tiny.critic(), **learning | (critic or {}))
    other = sl.FSHA.at(
        sl.tiny,
        public,
        steps=9,
        critic=critic,
        **{"critic_steps": 1, "batch_size": 8} | (attack or {}),
    )
    if kind is sl.NoHijack:
        other = sl.NoHijack(sl.tiny.server_net(), other)
    options = {"observers": [sl.ReceivedError()], "protocol": sl.Sequential()} | options
    return one, other, sl.train([one], other, steps, checkpoint=path, every=1, **options)


@pytest.fixture(scope="module")
def saved(digits, tmp_path_factory):
    """The checkpoint of a run of two steps."""
    path = tmp_path_factory.mktemp("identity") / "run"
    train(path, digits)
    return path


def smoothed(logits, labels):
    return cross_entropy(logits, labels, label_smoothing=0.1)


OTHERS = {  # what is changed: (arguments, what the message names)
    "penalty weight": ({"critic": {"penalty_weight": 5.0}}, r"critic\.penalty_weight: 10\.0 there"),
    "penalty": ({"critic": {"penalty": "channel"}}, r"critic\.penalty: 'sample' there"),
    "critic's loss": (
        {"critic": {"loss": "bce"}},
        r"critic\.loss_name: 'wgan-gp' there, 'bce' here",
    ),
    "critic's rate": ({"critic": {"rate": lambda step: 0.5}}, r"critic\.schedule\.lr_lambdas\[0\]"),
    "critic's optimizer": (
        {"critic": {"optimizer": partial(SGD, lr=1e-3)}},
        r"critic\.optimizer is",
    ),
    "betas": (
        {"critic": {"optimizer": partial(Adam, lr=1e-3, betas=(0.5, 0.9))}},
        r"critic\.optimizer\[0\]\.betas\[0\]: 0\.9 there, 0\.5 here",
    ),
    "critic steps": ({"attack": {"critic_steps": 2}}, r"server\.critic_steps: 1 there, 2 here"),
    "critic first": ({"attack": {"critic_first": False}}, r"server\.critic_first: True there"),
    "gradient scale": ({"attack": {"gradient_scale": lambda step: 2.0}}, r"server\.gradient_scale"),
    "attack's seed": ({"attack": {"seed": 1}}, r"server\.randomness\.seed: 0 there, 1 here"),
    "public batch": ({"attack": {"batch_size": 4}}, r"server\.sampler\.batch_size: 8 there"),
    "sends labels": ({"client": {"sends_labels": False}}, r"\[0\]\.sends_labels: True there"),
    "clip limit": ({"client": {"defenses": [LIMIT(3.0), Around(LIMIT(2.0))]}}, r"\[0\]\.max_norm"),
    "nested defense": (
        {"client": {"defenses": [LIMIT(1.0), Around(LIMIT(3.0))]}},
        r"clients\[0\]\.defenses\[1\]\.inner\.max_norm: 2\.0 there, 3\.0 here",
    ),
    "no defense": ({"client": {"defenses": []}}, r"clients\[0\]\.defenses"),
    "first weights": ({"net": 1}, r"clients\[0\]\.net begins with"),
    "client's rate": (
        {"client": {"optimizer": partial(Adam, lr=2e-3)}},
        r"clients\[0\]\.optimizer\[0\]\.lr: 0\.001 there, 0\.002 here",
    ),
    "client's loss": (
        {"client": {"loss": smoothed}},
        r"clients\[0\]\.loss: a function of the loss",
    ),
    "client's seed": ({"client": {"seed": 1}}, r"clients\[0\]\.randomness\.seed: 0 there, 1 here"),
    "tail": ({"client": {"tail": nn.Linear(2, 2)}}, r"clients\[0\]\.tail"),
    "server": ({"kind": sl.NoHijack}, r"server is: FSHA there, NoHijack here"),
    "protocol": ({"protocol": sl.vanilla}, r"protocol"),
    "turn": ({"protocol": sl.Sequential(turn=2)}, r"protocol\.turn: 1 there, 2 here"),
    "order": ({"protocol": sl.Rounds()}, r"protocol is: Sequential there, Rounds here"),
    "observer": (
        {"observers": [sl.Snapshots()]},
        r"observers: ReceivedError there, Snapshots here",
    ),
    "precision": ({"autocast": torch.bfloat16}, r"autocast: None there, torch\.bfloat16 here"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_that_differs_is_refused_and_told_where(what, saved, digits):
    arguments, named = OTHERS[what]
    before = saved.read_bytes()
    with pytest.raises(sl.CheckpointError, match=rf"belongs to another run \(.*{named}.*\)"):
        train(saved, digits, **arguments)
    assert saved.read_bytes() == before


def test_an_observers_argument_is_part_of_the_run(digits, tmp_path):
    train(tmp_path / "run", digits, observers=[sl.Snapshots(every=1, images=2)])
    with pytest.raises(sl.CheckpointError, match=r"observers\[0\]\.every: 1 there, 2 here"):
        train(tmp_path / "run", digits, observers=[sl.Snapshots(every=2, images=2)])


def test_another_client_is_another_run(saved, digits):
    client, attack, _ = train(None, digits)
    another, _, _ = train(None, digits, client={"name": "another"})
    with pytest.raises(sl.CheckpointError, match="clients: 1 there, 2 here"):
        sl.train([client, another], attack, 2, checkpoint=saved)


def test_data_of_another_seed_are_another_run(saved):
    with pytest.raises(sl.CheckpointError, match=r"clients\[0\]\.data: digits, 16 rows"):
        train(saved, sl.tiny.split("digits", 1))


def test_raised_numerics_are_another_run(saved, digits, monkeypatch):
    monkeypatch.setattr(checkpoint, "NUMERICS", sl.NUMERICS + 1)
    with pytest.raises(sl.CheckpointError, match=rf"numerics: {sl.NUMERICS} there"):
        train(saved, digits)


def again(loss):
    """The same loss, written otherwise."""
    return lambda logits, labels: 1 * loss(logits, labels)


SAME = {
    "the same lines": {},
    "another name": {"client": {"name": "Alice"}},
    "an equal schedule": {"critic": {"rate": lambda step: 1 - 0 * step}},
    "an equal loss": {"client": {"loss": again(cross_entropy)}},
    "a default that is written out": {"client": {"sends_labels": True, "seed": 0}},
    "an observer that keeps nothing": {"observers": [sl.ReceivedError(), sl.Observer()]},
}


@pytest.mark.parametrize("what", SAME)
def test_a_run_that_is_the_same_goes_on(what, saved, digits):
    assert train(saved, digits, **SAME[what])[2].steps == 2


def test_more_steps_go_on_and_fewer_are_refused(digits, tmp_path):
    whole = train(tmp_path / "whole", digits, 4)
    train(tmp_path / "run", digits, 2)
    longer = train(tmp_path / "run", digits, 4)
    assert longer[2].steps == 4
    assert longer[2]["dz_norm"] == whole[2]["dz_norm"]
    with pytest.raises(sl.CheckpointError, match="is at step 4, past the 3 asked for"):
        train(tmp_path / "run", digits, 3)


def test_a_schedule_may_differ_after_the_saved_run_alone(digits, tmp_path):
    train(tmp_path / "run", digits, 2, critic={"rate": lambda step: 1.0})
    train(tmp_path / "run", digits, 3, critic={"rate": lambda step: 1.0 if step < 2 else 0.5})
    with pytest.raises(sl.CheckpointError, match="lr_lambdas"):
        train(tmp_path / "run", digits, 4, critic={"rate": lambda step: 1.0})


def test_trained_parties_are_another_run(saved, digits):
    client, attack, _ = train(saved, digits)
    options = {"protocol": sl.Sequential(), "observers": [sl.ReceivedError()]}
    with pytest.raises(sl.CheckpointError, match=r"clients\[0\]\.net begins with: weights"):
        sl.train([client], attack, 2, checkpoint=saved, every=1, **options)


def picky(scale):
    """A loss that takes nothing but what it is made for, and has no name of its own."""

    def loss(logits, labels):
        assert len(logits) == ROWS // 2 and logits.shape[1] == 10 and logits.abs().max() < scale
        raise ValueError

    return loss


def test_a_loss_that_cannot_be_compared_is_refused(digits, tmp_path):
    sentence = r"clients\[0\]\.loss is a function without a name.* define it with def, outside"
    with pytest.raises(sl.CheckpointError, match=sentence):
        train(tmp_path / "run", digits, client={"loss": picky(1)})
    assert not (tmp_path / "run").exists()


class Net(nn.Module):
    """A network with a setting, a function, and what trains it."""

    def __init__(self, *, slope=0.5, activation=torch.relu, rate=0.1, frozen=False):
        super().__init__()
        self.layer, self.slope, self.activation = nn.Linear(2, 2), slope, activation
        nn.init.ones_(self.layer.weight)
        nn.init.zeros_(self.layer.bias).requires_grad_(not frozen)
        self.optimizer = SGD(self.layer.parameters(), lr=rate)


@dataclass(slots=True)
class Settings:
    """Settings in slots."""

    rate: float


@dataclass
class Named:
    """An object whose name is a setting."""

    name: str


def both():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    for layer in (first, second):
        nn.init.ones_(layer.weight), nn.init.ones_(layer.bias)
    return first, second


def one_of(number):
    nets = both()
    return [*nets, SGD(nets[number].parameters(), lr=0.1)]


def part_of(count):
    nets = both()
    return [*nets, SGD([p for net in nets[:count] for p in net.parameters()], lr=0.1)]


def needs_network(net, weight=0.5):
    return sum((lambda p: weight * p.sum())(p) for p in net.parameters())


def with_default(weight):
    """`needs_network` with another default."""
    code, name = needs_network.__code__, needs_network.__name__
    made = types.FunctionType(code, globals(), name, (weight,))
    made.__qualname__, made.__module__ = name, needs_network.__module__
    return made


DIFFERENT = {  # pairs of values that are not the same
    "numbers": (1, 1.0),
    "a number in a tuple": ((1, 2), (1, 3)),
    "a number in a dictionary": ({"a": {"b": 1}}, {"a": {"b": 2}}),
    "keys": ({"a": 1}, {"b": 1}),
    "tensors": (torch.zeros(2), torch.tensor([0.0, 1e-30])),
    "lengths": ([None, None], [None]),
    "deques": (deque([1]), deque([2])),
    "ranges": (range(3), range(4)),
    "namespaces": (types.SimpleNamespace(rate=1), types.SimpleNamespace(rate=2)),
    "slots": (Settings(1.0), Settings(2.0)),
    "names that are settings": (Named("early"), Named("late")),
    "distributions": (torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.0, 2.0)),
    "makers of optimizers": (partial(Adam, lr=1e-3), partial(Adam, lr=1e-4)),
    "kinds of optimizers": (partial(Adam, lr=1e-3), partial(SGD, lr=1e-3)),
    "makers of networks": (
        partial(sl.nets.tiny.client, cut=1),
        partial(sl.nets.tiny.client, cut=2),
    ),
    "a network's setting": (Net(), Net(slope=0.2)),
    "a network's function": (Net(), Net(activation=torch.tanh)),
    "a network's optimizer": (Net(), Net(rate=0.2)),
    "a frozen layer": (Net(), Net(frozen=True)),
    "what an optimizer steps on": (one_of(0), one_of(1)),
    "how much an optimizer steps on": (part_of(1), part_of(2)),
    "losses as networks": (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "a function's defaults": (needs_network, with_default(0.6)),
    "methods of unlike owners": (Critic(nn.Linear(2, 1)).score, Critic(nn.Linear(3, 1)).score),
    "generators": (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
    "classes": (Named, Settings),
}


def lines(value, steps=3):
    return outline({"it": types.SimpleNamespace(kept=value)}, steps)


@pytest.mark.parametrize("what", DIFFERENT)
def test_values_that_differ_are_described_otherwise(what):
    one, other = DIFFERENT[what]
    assert lines(one) == lines(one)
    assert lines(one) != lines(other)


def compiled_anew(moved):
    """`needs_network` as another process has it, and as it is after it was moved in its file."""
    source = (
        "def f(net, weight=0.5):\n"
        "    return sum((lambda p: weight * p.sum())(p) for p in net.parameters())\n"
    )
    space = {"__name__": "elsewhere"}
    exec(compile("\n" * moved + source, f"file {moved}", "exec"), space)
    return space["f"]


def test_a_function_is_the_same_in_another_process_and_place():
    assert lines(compiled_anew(0)) == lines(compiled_anew(7))
    assert all(" at 0x" not in text for text in lines([compiled_anew(0), nn.LSTM(2, 2)]).values())


def test_describing_moves_no_random_stream():
    before = torch.get_rng_state()
    lines(lambda step: float(torch.rand(())))
    assert torch.equal(before, torch.get_rng_state())
