"""What all detectors share: thresholds from honest runs, alarms, and that they only look."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from states import plain
from torch import nn

import splitlab as sl
from splitlab.defenses import (
    FeatureTest,
    GradientRank,
    GradientScrutinizer,
    LossAlarm,
    NormAlarm,
    SplitGuard,
    SplitOut,
    alarm_threshold,
    most_suspicious,
)
from splitlab.defenses.detector import Detector

CLASSES = (
    *(NormAlarm, GradientScrutinizer, SplitOut),
    *(FeatureTest, GradientRank, LossAlarm, SplitGuard),
)


class Above(Detector):
    """See the scores that it is given."""


class Below(Above):
    ALARMS = "below"


class MarksFake(sl.Defense):
    def begin(self, client, turn):
        turn.fake = True


class SendsOdd(sl.Server):
    """Honest, but from this step on its gradient is no number, or infinite."""

    def __init__(self, first, value):
        super().__init__()
        self.first, self.task = first, sl.HonestServer(sl.tiny.server_net())
        self.value = value

    def reply(self, message):
        dz = self.task.reply(message).dz
        odd = torch.full_like(dz, self.value)
        return self.gradient(message, odd if message.step >= self.first else dz)


def at(step):
    return SimpleNamespace(step=step)


def passive(stop=False):
    """Every detector of the vanilla protocol that makes no false batches, ready after one step."""
    return [
        NormAlarm(0.01, stop=stop),
        GradientScrutinizer(1.0, first=3, stop=stop),
        SplitOut(sl.tiny.server_net(seed=3), 0.1, steps=3, window=1, stop=stop),
        FeatureTest(-2.0, batches=1, every=1, after=0, window=1, stop=stop),
        GradientRank(1.5, stop=stop),
    ]


def halves():
    """A body that ends in ten numbers, and a tail."""
    torch.manual_seed(0)
    return sl.tiny.server_net(), nn.Linear(10, 10)


def with_dropout():
    """Its numbers show whether a detector draws from the client's random state."""
    return nn.Sequential(sl.tiny.client_net(), nn.Dropout(0.2))


# The base class


@pytest.mark.parametrize(
    ("kind", "alarming", "fine"),
    [(Above, [2.1, math.inf, math.nan], [2.0, -math.inf]), (Below, [1.9, math.nan], [2.0, 9.0])],
)
def test_a_score_on_the_wrong_side_alarms_and_nan_always(kind, alarming, fine):
    counts = kind(2.0, stop=False)
    for step, score in enumerate([*alarming, *fine]):
        counts.see(at(step), score, "")
    assert counts.alarms == list(range(len(alarming)))
    assert [step for step, _ in counts.seen] == list(range(len(alarming) + len(fine)))
    assert [score for _, score in counts.seen[len(alarming) :]] == fine


def test_the_message_has_step_evidence_and_threshold():
    stops = Below(0.123456)
    stops.see(at(6), 0.5, "nothing was seen")
    with pytest.raises(sl.HijackingDetected) as caught:
        stops.see(at(7), 0.1, "it was seen")
    assert str(caught.value) == "step 7: it was seen; Below alarms below 0.123"
    assert (stops.seen, stops.alarms) == ([(6, 0.5), (7, 0.1)], [7])


def test_scores_and_alarms_are_in_the_state():
    counts, again = Above(1.0, stop=False), Above(1.0, stop=False)
    for step in range(3):
        counts.see(at(step), float(step), "")
    again.load_state_dict(counts.state_dict())
    assert again.seen == counts.seen == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert again.alarms == counts.alarms == [2]
    again.see(at(3), 5.0, "")
    assert counts.alarms == [2] and len(counts.seen) == 3


def test_every_detector_says_what_it_needs():
    exported = [getattr(sl.defenses, name) for name in sl.defenses.__all__]
    detectors = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Detector)}
    assert detectors == set(CLASSES)
    for kind in detectors:
        assert kind.NEEDS and all(isinstance(need, str) and need for need in kind.NEEDS)
        assert kind.ALARMS in ("above", "below")


# Thresholds from honest runs


def test_the_most_suspicious_score_of_a_run():
    run = [(0, 3.0), (1, -1.0), (5, 2.0)]
    assert (most_suspicious(run), most_suspicious(run, "below")) == (3.0, -1.0)
    broken = [*run, (6, math.nan), (7, 0.0)]
    assert (most_suspicious(broken), most_suspicious(broken, "below")) == (math.inf, -math.inf)
    assert not Above(-1e300).suspicious(most_suspicious([]))
    assert not Below(1e300).suspicious(most_suspicious([], "below"))
    assert (most_suspicious([]), most_suspicious([], "below")) == (-math.inf, math.inf)


@settings(max_examples=200, deadline=None)
@given(
    scores=st.lists(st.integers(-20, 20), min_size=2, max_size=40),
    budget=st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5]),
    alarms=st.sampled_from(["above", "below"]),
)
def test_among_exchangeable_runs_at_most_the_budget_alarm(scores, budget, alarms):
    """Each run in turn is the new one: exactly the average over all orders, ties included."""
    kind = Above if alarms == "above" else Below
    runs = [float(score) for score in scores]
    honest = len(runs) - 1
    if honest + 1 < round(1 / budget):
        with pytest.raises(ValueError, match="honest runs cannot show"):
            alarm_threshold(runs[1:], budget, alarms)
        return
    alarming = 0
    for number, new in enumerate(runs):
        others = runs[:number] + runs[number + 1 :]
        alarming += kind(alarm_threshold(others, budget, alarms)).suspicious(new)
    assert alarming <= budget * len(runs) + 1e-9


@pytest.mark.parametrize("alarms", ["above", "below"])
@pytest.mark.parametrize(("runs", "budget"), [(19, 0.05), (50, 0.1), (39, 0.05), (7, 0.3)])
def test_simulated_new_runs_alarm_about_as_often_as_they_may(runs, budget, alarms):
    """Of continuous scores a share k / (n + 1) alarms: no less, so that the budget is used."""
    kind, times = (Above if alarms == "above" else Below), 2000
    generator = torch.Generator().manual_seed(runs)
    drawn = torch.randn(times, runs + 1, generator=generator).double().exp().tolist()
    alarming = sum(
        kind(alarm_threshold(honest, budget, alarms)).suspicious(new) for new, *honest in drawn
    )
    expected = int(budget * (runs + 1) + 1e-9) / (runs + 1)
    margin = 4 * (expected / times) ** 0.5
    assert expected <= budget
    assert abs(alarming / times - expected) < margin


def test_the_threshold_is_one_of_the_scores():
    scores = [float(score) for score in range(1, 20)]  # 19 runs
    assert alarm_threshold(scores, 0.05) == 19
    assert alarm_threshold(scores, 0.1) == 18
    assert alarm_threshold(scores[::-1], 0.1, "below") == 2
    assert alarm_threshold([*scores, 20.0], 0.05) == 20  # 21 runs with the new one: still k = 1


@pytest.mark.parametrize(
    ("runs", "budget", "text"),
    [
        (18, 0.05, "18 honest runs cannot show that at most 5% of runs alarm: use at least 19"),
        (0, 0.1, "0 honest runs cannot show that at most 10% of runs alarm: use at least 9"),
        (50, 0.001, "50 honest runs .* at most 0.1% of runs alarm: use at least 999"),
        (50, 0.0, "budget is 0.0: choose a number"),
        (50, 1, "budget is 1: choose a number"),
    ],
)
def test_too_few_runs_are_refused_with_their_number(runs, budget, text):
    with pytest.raises(ValueError, match=text):
        alarm_threshold([1.0] * runs, budget)


@settings(max_examples=50, deadline=None)
@given(budget=st.floats(0.001, 0.999))
def test_the_number_that_is_asked_for_is_enough_and_one_less_is_not(budget):
    enough = math.ceil(1 / budget - 1e-9) - 1
    if enough:  # for a budget above a half, no run at all would do, and it has no score
        assert alarm_threshold([1.0] * enough, budget) == 1.0
        with pytest.raises(ValueError, match=f"use at least {enough}$"):
            alarm_threshold([1.0] * (enough - 1), budget)


# They only look


def test_training_is_bit_for_bit_as_without_them(make_client):
    watched, alone = (
        make_client(with_dropout(), defenses=defenses) for defenses in (passive(), ())
    )
    servers = [sl.HonestServer(sl.tiny.server_net()) for _ in range(2)]
    logs = [sl.train([c], s, 6) for c, s in zip((watched, alone), servers, strict=True)]
    for detector in watched.defenses:
        assert len(detector.seen) >= 3 and len(detector.alarms) == len(detector.seen), detector
    states = [client.state_dict() for client in (watched, alone)]
    states[0].pop("defenses")
    states[1].pop("defenses", None)
    assert plain(states[0]) == plain(states[1])
    assert plain(servers[0].state_dict()) == plain(servers[1].state_dict())
    assert logs[0]["task_loss"] == logs[1]["task_loss"]


def test_u_shaped_training_is_bit_for_bit_as_without_them(make_client):
    found = []
    for watches in (True, False):
        body, tail = halves()
        # SplitOut's server_net is followed by the tail.
        defenses = [*passive(), LossAlarm(0.0, after=0, window=1, stop=False)] if watches else []
        client = make_client(with_dropout(), tail=tail, defenses=defenses)
        log = sl.train([client], sl.HonestServer(body), 4, protocol=sl.u_shaped)
        for detector in defenses:
            assert detector.alarms, detector
        if watches:
            assert defenses[-1].seen == list(enumerate(log["task_loss"]))
        states = client.state_dict()
        states.pop("defenses", None)
        found.append((plain(states), log["task_loss"]))
    assert found[0] == found[1]


@pytest.mark.parametrize("u_shaped", [False, True])
def test_a_batch_that_another_defense_made_up_is_not_judged(make_client, u_shaped):
    body, tail = halves()
    detectors = [*passive(), LossAlarm(0.0, after=0, window=1, stop=False)][: 5 + u_shaped]
    client = make_client(defenses=[MarksFake(), *detectors], tail=tail if u_shaped else None)
    before = plain(client.state_dict()["defenses"])
    protocol = sl.u_shaped if u_shaped else sl.vanilla
    sl.train([client], sl.HonestServer(body), 5, protocol=protocol)
    assert plain(client.state_dict()["defenses"]) == before


def test_beside_splitguard_the_others_judge_its_true_batches_alone(make_client):
    fakes = []

    class Notes(sl.Defense):
        def begin(self, client, turn):
            if turn.fake:
                fakes.append(client.step)

    others = passive()
    guard = SplitGuard(false_share=0.5, after=0, stop=False)
    client = make_client(defenses=[guard, Notes(), *others])
    sl.train([client], sl.HonestServer(sl.tiny.server_net()), 16)
    true = set(range(16)) - set(fakes)
    assert len(fakes) == guard.counts[0] and 3 < len(fakes) < 13
    for detector in others:
        judged = {step for step, _ in detector.seen}
        assert judged <= true
    assert [step for step, _ in others[0].seen] == sorted(true)


# A gradient that is no number


@pytest.mark.parametrize(
    "make",
    [
        lambda: NormAlarm(1e6),
        lambda: GradientScrutinizer(0.0, first=3),
        lambda: SplitOut(sl.tiny.server_net(seed=3), 1e6, steps=3, window=1),
        lambda: SplitOut(sl.tiny.server_net(seed=3), 1e6, steps=3, window=3),
        lambda: FeatureTest(1e6, batches=1, every=1, after=0, window=1),
        lambda: GradientRank(0.0),
        lambda: SplitGuard(0.0, false_share=0.5, after=0),
        lambda: SplitGuard(0.0, false_share=0.5, after=0, window=3),
    ],
)
def test_a_gradient_of_nan_or_infinity_reaches_no_detector(make_client, make):
    for factor, bad in {math.nan: "NaN", math.inf: "infinity"}.items():
        client = make_client(defenses=[make()])
        with pytest.raises(
            ValueError, match=rf"client is sent dz with {bad} .* at step 5 by server"
        ):
            sl.train([client], SendsOdd(5, factor), 20)
        assert client.step == 5 and not client.defenses[0].alarms
        assert all(math.isfinite(score) for _, score in client.defenses[0].seen)


def test_a_loss_of_nan_is_refused_before_it_is_read(make_client):
    body, tail = halves()
    nn.init.constant_(tail.weight, math.nan)
    client = make_client(tail=tail, defenses=[LossAlarm(1e6, after=0, window=2)])
    with pytest.raises(ValueError, match="the loss of client is nan at step 0, so no step"):
        sl.train([client], sl.HonestServer(body), 3, protocol=sl.u_shaped)


# The loss


class Reports(sl.Defense):
    """Overwrites the loss that the tail computed, before the alarm reads it."""

    def __init__(self, losses):
        self.losses = losses

    def incoming(self, client, turn, dz):
        client.metrics["task_loss"] = torch.tensor(self.losses[client.step])
        return dz


def test_the_mean_of_the_last_losses_is_compared_once_there_are_enough(make_client):
    body, tail = halves()
    alarm = LossAlarm(2.0, after=3, window=2, stop=False)
    reports = Reports([9.0, 9.0, 2.0, 1.0, 2.0, 3.0, 2.0])
    client = make_client(tail=tail, defenses=[reports, alarm])
    sl.train([client], sl.HonestServer(body), 7, protocol=sl.u_shaped)
    assert alarm.seen == [(3, 1.5), (4, 1.5), (5, 2.5), (6, 2.5)]
    assert alarm.alarms == [5, 6]


# Refusals


@pytest.mark.parametrize("threshold", ["high", None, True, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", [*CLASSES, Above])
def test_a_threshold_is_a_finite_number(kind, threshold):
    first = (sl.tiny.server_net(),) if kind is SplitOut else ()
    sentence = r"^((threshold|highest) is .*: choose a finite number( above 0)?)$"
    with pytest.raises(ValueError, match=sentence):
        kind(*first, threshold)


def guard(**options):
    return SplitGuard(**options)


def out(**options):
    return SplitOut(sl.tiny.server_net(), **options)


def loss(**options):
    return LossAlarm(1.0, **options)


@pytest.mark.parametrize(
    ("make", "name", "values", "least"),
    [
        (guard, "after", [-1, 2.0, True, "a", None], 0),
        (guard, "window", [0, 1.5], 1),
        (GradientScrutinizer, "first", [2, 3.0, None], 3),
        (GradientScrutinizer, "last", [-1, 10.5], 0),
        (GradientScrutinizer, "window", [0, "ten"], 1),
        (out, "steps", [1, 2.0], 2),
        (out, "window", [0, True], 1),
        (FeatureTest, "components", [0, 1.0], 1),
        (FeatureTest, "batches", [0, None], 1),
        (FeatureTest, "every", [0, 1.0], 1),
        (FeatureTest, "after", [-1, True], 0),
        (FeatureTest, "window", [0, "a"], 1),
        (loss, "after", [-1, 1.0], 0),
        (loss, "window", [0, None], 1),
    ],
)
def test_bad_counts_are_refused(make, name, values, least):
    for value in values:
        text = f"^{name} is {value!r}: choose a whole number of at least {least}$"
        with pytest.raises(ValueError, match=text):
            make(**{name: value})


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan, True, None, "a"])
def test_bad_shares_are_refused(value):
    with pytest.raises(ValueError, match=r"^false_share is .*: choose a number between 0 and 1"):
        SplitGuard(false_share=value)
    with pytest.raises(ValueError, match=r"^tolerance is .*: choose a number between 0 and 1"):
        GradientRank(tolerance=value)
    if value != 1 or value is True:
        with pytest.raises(ValueError, match=r"^share is .*: choose a share above 0 and at most"):
            SplitOut(sl.tiny.server_net(), share=value)


def test_a_scrutinizer_that_would_judge_nothing_is_refused():
    with pytest.raises(ValueError, match="last is 9, before first, 10: no step would be judged"):
        GradientScrutinizer(last=9)


@pytest.mark.parametrize("lowest", [-1.0, 2.0, math.nan, "a", None, True])
def test_the_norms_limits_are_a_range(lowest):
    with pytest.raises(
        ValueError, match=r"^lowest is .*: choose (lowest < highest|a finite number of at least 0)$"
    ):
        NormAlarm(2.0, lowest=lowest)


REFUSED = [
    (lambda: SplitGuard(), {"sends_index": True}, "leave out sends_index=True"),
    (lambda: SplitGuard(), {"sends_labels": False}, "this client's labels stay with the server"),
    (lambda: LossAlarm(1.0), {}, "give the client a tail and use protocol=u_shaped"),
    (
        lambda: SplitOut(sl.tiny.server_net(cut=1), steps=2),
        {},
        "give it the rest of the network from the client's cut",
    ),
    (lambda: SplitOut(nn.Identity(), steps=2), {}, r"\(16, 32, 4, 4\) of 16 images: give it a"),
    (
        lambda: SplitOut(sl.tiny.server_net(classes=2), steps=2),
        {},
        "makes 2 logits of an image.*give it a server_net with a logit for each class",
    ),
    (
        lambda: SplitOut(sl.tiny.server_net(), steps=2),
        {"tail": nn.Linear(7, 10)},
        "give it the rest of the network",
    ),
]


@pytest.mark.parametrize(("make", "options", "text"), REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence_and_nothing_has_changed(
    make_client, make, options, text
):
    net = sl.tiny.client_net()
    parts = [net, *[part for part in options.values() if isinstance(part, nn.Module)]]
    before, stream = [plain(part.state_dict()) for part in parts], torch.get_rng_state()
    with pytest.raises(ValueError, match=text) as caught:
        make_client(net, defenses=[make()], **options)
    assert "\n" not in str(caught.value) and ": " in str(caught.value)
    assert [plain(part.state_dict()) for part in parts] == before
    assert all(weight.grad is None for part in parts for weight in part.parameters())
    assert torch.equal(torch.get_rng_state(), stream)


def test_splitguard_needs_two_classes(digits):
    ones = digits[0].select(torch.nonzero(digits[0].y == 1)[:, 0])
    one_class = sl.data.ImageData(ones.x, torch.zeros_like(ones.y), ("one",), "ones")
    with pytest.raises(ValueError, match="the client's data have one class: choose another"):
        sl.Client(sl.tiny.client_net(), one_class, batch_size=8, defenses=[SplitGuard()])
