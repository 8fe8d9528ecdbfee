"""The client's defenses by norm: what they let through, when they alarm, what they overlook."""

import pytest
import torch
from torch import nn

import splitlab as sl
from splitlab.defenses import (
    ClipGradient,
    NormAlarm,
    SetNorm,
    alarm_threshold,
    most_suspicious,
)


@pytest.fixture(scope="module")
def private():
    return sl.tiny.split("digits", 0).private.subset(64, seed=0)


class Sends(sl.Server):
    """Sends gradients of all ones at these factors."""

    def __init__(self, factors):
        super().__init__(seed=0, device="cpu", name="server")
        self.factors = factors

    def reply(self, message):
        return self.gradient(message, torch.ones_like(message.z) * self.factors[message.step])


def client(private, *defenses, rate=1e-3):
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    torch.nn.init.constant_(net[1].weight, 0.01)
    arguments = sl.tiny.client(seed=0, rate=rate) | {"batch_size": 16}
    return sl.Client(net, private, defenses=defenses, **arguments)


def incoming(defense, dz):
    return defense.incoming(None, None, dz)


def test_clipping_shortens_what_is_longer_and_nothing_else():
    short, long = torch.tensor([[0.3, 0.4]]), torch.tensor([[3.0, 4.0]])
    assert incoming(ClipGradient(1.0), short) is short
    assert torch.allclose(incoming(ClipGradient(1.0), long), torch.tensor([[0.6, 0.8]]))
    assert torch.equal(long, torch.tensor([[3.0, 4.0]])), "the message is left as it was"


def test_one_norm_for_all_but_nothing():
    for factor in (1e-6, 1.0, 1e6):
        dz = factor * torch.tensor([[3.0, 4.0]])
        assert torch.allclose(incoming(SetNorm(2.0), dz), torch.tensor([[1.2, 1.6]]))
    assert torch.equal(incoming(SetNorm(), torch.zeros(1, 2)), torch.zeros(1, 2))


def test_one_norm_takes_a_schedule_away_and_clipping_takes_only_what_is_above_it(private):
    steps = 40
    quiet = [1e-4 * 1.1**step for step in range(steps)]
    ends = {}
    for name, factors, defenses in (
        ("constant", [1.0] * steps, ()),
        ("growing", quiet, ()),
        ("clipped", quiet, (ClipGradient(1.0),)),
        ("one norm", quiet, (SetNorm(),)),
    ):
        party = client(private, *defenses)
        sl.train([party], Sends(factors), steps)
        ends[name] = party.net[1].weight.detach()
    assert torch.allclose(ends["one norm"], ends["constant"], atol=1e-6)
    assert torch.equal(ends["clipped"], ends["growing"]), "it stays below the limit"
    assert (ends["growing"] - ends["constant"]).abs().max() > 5e-3


def test_the_alarm_names_the_step_and_stops_or_counts(private):
    factors = [0.01, 0.01, 5.0, 0.01, 5.0]
    counts = NormAlarm(1.0, stop=False)
    sl.train([client(private, counts)], Sends(factors), len(factors))
    assert counts.alarms == [2, 4]
    stops = client(private, NormAlarm(1.0))
    sentence = "step 2: the gradient has norm 40"
    with pytest.raises(
        sl.HijackingDetected, match=f"^{sentence}; NormAlarm alarms outside of 0 to 1$"
    ):
        sl.train([stops], Sends(factors), len(factors))
    assert stops.step == 2
    low = NormAlarm(100.0, lowest=1.0, stop=False)
    sl.train([client(private, low)], Sends(factors), len(factors))
    assert low.alarms == [0, 1, 3]
    again = NormAlarm(1.0)
    again.load_state_dict(counts.state_dict())
    assert again.alarms == counts.alarms and again.alarms is not counts.alarms


class Calls(sl.Observer):
    """Keeps what it was told, in order."""

    def __init__(self):
        self.kept = []

    def start(self, clients, server, steps):
        self.kept.append("start")

    def message(self, message):
        self.kept.append(type(message).__name__)

    def step(self, step, client, server):
        self.kept.append(step)

    def end(self):
        self.kept.append("end")


def test_observers_see_the_alarms_messages_and_an_end(private):
    calls = Calls()
    with pytest.raises(sl.HijackingDetected, match=r"^step 1: "):
        sl.train([client(private, NormAlarm(1.0))], Sends([0.01, 5.0]), 2, observers=[calls])
    messages = ["SmashedData", "Gradient"]
    assert calls.kept == ["start", *messages, 0, *messages, "end"], "step 1 was not completed"


def test_a_gradient_that_is_no_number_alarms():
    alarm = NormAlarm(1.0)
    party, turn = type("Party", (), {"step": 3})(), sl.Turn(x=torch.zeros(1, 1))
    with pytest.raises(sl.HijackingDetected, match=r"^step 3: the gradient has norm nan"):
        alarm.incoming(party, turn, torch.tensor([[float("nan")]]))


def test_a_limit_comes_from_honest_runs():
    runs = [[(0, 0.1), (1, 0.3)], [(0, 0.2)]]
    highest = [most_suspicious(norms) for norms in runs]
    assert highest == [0.3, 0.2]
    assert NormAlarm(alarm_threshold(highest, 0.34)).threshold == 0.3
    with pytest.raises(ValueError, match="0 honest runs cannot show"):
        alarm_threshold([], 0.34)
    with pytest.raises(ValueError, match=r"2 honest runs cannot show .*: use at least 3"):
        alarm_threshold(highest, 0.25)


@pytest.mark.parametrize("make", [ClipGradient, SetNorm, NormAlarm])
@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_is_above_0(make, norm):
    with pytest.raises(
        ValueError, match=r"^(max_norm|norm|highest) is .*: choose a finite number above 0"
    ):
        make(norm)


def test_an_alarms_limits_are_a_range():
    with pytest.raises(ValueError, match="lowest is 2 and highest 1: choose lowest < highest"):
        NormAlarm(1.0, lowest=2.0)


def test_they_say_what_they_are():
    assert repr(ClipGradient(0.5)) == "ClipGradient(0.5)"
    assert repr(SetNorm()) == "SetNorm(1)"
    assert repr(NormAlarm(0.5)) == "NormAlarm(0.5, lowest=0)"
