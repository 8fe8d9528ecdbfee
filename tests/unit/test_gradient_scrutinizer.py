"""Gradients Scrutinizer: similarities by a double loop, the overlap, and the score by hand."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import splitlab as sl
from splitlab.core.client import Turn
from splitlab.defenses import GradientScrutinizer
from splitlab.defenses.gradient_scrutinizer import overlap, scrutiny, similarities

# Similarities


@pytest.mark.parametrize("seed", range(4))
def test_similarities_are_those_of_a_double_loop(seed):
    rng = np.random.default_rng(seed)
    dz, labels = rng.normal(size=(9, 2, 3, 3)), rng.integers(0, 3, size=9)
    dz[4] = 0.0  # a row of zeros has cosine 0 to all
    pairs = {True: [], False: []}
    for i, j in itertools.combinations(range(9), 2):
        a, b = dz[i].ravel(), dz[j].ravel()
        lengths = math.sqrt(a @ a) * math.sqrt(b @ b)
        cosine = a @ b / lengths if lengths else 0.0
        pairs[bool(labels[i] == labels[j])].append((1 + cosine) / 2)
    expected = [f(pairs[same]) for same in (True, False) for f in (np.mean, np.std)]
    found = similarities(torch.tensor(dz), torch.tensor(labels))
    assert found == pytest.approx(expected, abs=1e-12)


def test_similarities_that_can_be_worked_out():
    """Rows of one class are opposite or alike; a row's length does not matter."""
    dz = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0], [0.0, -3.0]])
    same, same_deviation, other, other_deviation = similarities(dz, torch.tensor([0, 0, 1, 1]))
    assert (same, same_deviation) == (0.5, 0.5)  # of 1 and 0
    assert (other, other_deviation) == (0.5, 0.0)


@pytest.mark.parametrize("labels", [[3, 3, 3], [0, 1, 2], [0]])
def test_without_both_kinds_of_pair_there_are_none(labels):
    assert similarities(torch.ones(len(labels), 4), torch.tensor(labels)) is None


# The overlap


@pytest.mark.parametrize(
    ("same", "other", "expected"),
    [
        ((0.5, 0.25), (0.5, 0.25), 1.0),
        ((0.5, 0.125), (1.0, 0.25), 0.0),  # apart
        ((0.25, 0.25), (0.75, 0.25), 0.0),  # touching
        ((0.5, 0.5), (0.5, 0.25), 0.5),  # one inside the other
        ((0.5, 0.25), (0.75, 0.25), 1 / 3),  # 0.25 to 0.75 and 0.5 to 1
        ((0.5, 0.0), (0.5, 0.0), 1.0),
        ((0.5, 0.0), (0.75, 0.0), 0.0),
        ((0.5, 0.0), (0.5, 0.25), 0.0),  # a point in a range
    ],
)
def test_the_overlap_of_two_ranges(same, other, expected):
    assert overlap(same, other) == pytest.approx(expected, abs=1e-15)
    assert overlap(other, same) == overlap(same, other)


number = st.floats(0, 1)


@settings(max_examples=100, deadline=None)
@given(one=st.tuples(number, number), other=st.tuples(number, number), n=st.just(4000))
def test_the_overlap_is_the_share_of_points(one, other, n):
    points = np.linspace(-1, 2, n)
    inside = [(mean - half <= points) & (points <= mean + half) for mean, half in (one, other)]
    union = int((inside[0] | inside[1]).sum())
    gap = max(one[0] - one[1], other[0] - other[1]) > min(sum(one), sum(other))
    if union > n // 10 and not gap:  # of ranges that are apart, the union has a hole
        assert overlap(one, other) == pytest.approx(
            int((inside[0] & inside[1]).sum()) / union, abs=0.02
        )
    assert overlap(one, other) == overlap(other, one)
    assert 0 <= overlap(one, other) <= 1


def test_the_published_overlap_of_honest_runs_takes_a_minimum_for_a_maximum():
    """It subtracts the smaller lower bound, so that ranges that hardly touch seem to share half."""
    same, other = (0.75, 0.125), (0.5, 0.125)  # 0.625 to 0.875, and 0.375 to 0.625

    def published(same, other):
        (a, da), (b, db) = same, other
        shared = min(a + da, b + db) - min(a - da, b - db)
        return shared / (max(a + da, b + db) - min(a - da, b - db))

    assert overlap(same, other) == 0.0
    assert published(same, other) == 0.5
    same = (0.5, 0.125)
    assert overlap(same, same) == published(same, same) == 1.0


# The score


def by_hand(history, window):
    """The published formula with l = 7, l_g = 0.6, l_ds = 5, l_v = 1, term by term."""
    latest = history[-window:]
    mu_s, sd_s, mu_d, sd_d = (sum(row[n] for row in latest) / len(latest) for n in range(4))
    gap = (mu_s - mu_d) / (mu_s + mu_d)
    time = np.arange(len(history))  # a parabola fits as well on any scale of time
    design = np.stack([np.ones_like(time), time, time**2], axis=1).astype(float)
    error = 0.0
    for column in (0, 2):
        curve = np.array([row[column] for row in history])
        rest = curve - design @ np.linalg.solve(design.T @ design, design.T @ curve)
        error += np.sqrt(np.mean(rest**2)) / 2
    low, high = sorted([(mu_s - sd_s, mu_s + sd_s), (mu_d - sd_d, mu_d + sd_d)])
    shared = max(0.0, min(low[1], high[1]) - high[0]) / (max(low[1], high[1]) - low[0])
    sign = -1 if gap < 0 else 1
    joined = sign * abs(gap) ** (1 - 0.6)
    joined *= -math.log(7 * error + math.exp(-2))
    joined *= -math.log(1 * shared + math.exp(-1))
    return 1 / (1 + math.exp(-5 * (joined - 0.7)))


@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("steps", [3, 4, 12])
def test_the_score_is_that_of_the_formula(steps, window):
    rng = np.random.default_rng(10 * steps + window)
    for higher in (0.0, 0.3):  # alike, and same-class pairs more alike
        history = rng.uniform(
            [0.4 + higher, 0.05, 0.4, 0.05], [0.6 + higher, 0.3, 0.6, 0.3], (steps, 4)
        )
        history = [tuple(row) for row in history.tolist()]
        assert scrutiny(history, window) == pytest.approx(by_hand(history, window), abs=1e-9)


def constant(same, other, deviation=0.0, steps=5):
    return [(same, deviation, other, deviation)] * steps


def test_scores_that_can_be_worked_out():
    """No error of the fit, and ranges apart or equal: the sum is 2 sign(G) |G|^0.4, or zero."""
    for same, other in ((0.9, 0.3), (0.3, 0.9)):
        gap = (same - other) / 1.2
        signs = 2 * math.copysign(0.5**0.4, gap)
        expected = 1 / (1 + math.exp(-5 * (signs - 0.7)))
        assert scrutiny(constant(same, other)) == pytest.approx(expected, abs=1e-9)
    no_gap = 1 / (1 + math.exp(3.5))
    assert scrutiny(constant(0.5, 0.5, 0.1)) == pytest.approx(no_gap, abs=1e-9)
    assert scrutiny(constant(0.0, 0.0)) == pytest.approx(no_gap, abs=1e-9)


def test_each_sign_of_a_hijack_lowers_the_score():
    clear = scrutiny(constant(0.8, 0.5, 0.05))
    assert clear > 0.5
    assert scrutiny(constant(0.6, 0.5, 0.05)) < clear  # a smaller gap
    assert scrutiny(constant(0.5, 0.8, 0.05)) < 0.01 < clear  # the wrong way round
    assert scrutiny(constant(0.8, 0.5, 0.4)) < clear  # ranges that overlap
    jumps = [(0.8 + 0.1 * (-1) ** n, 0.05, 0.5, 0.05) for n in range(10)]
    assert scrutiny(jumps) < clear  # curves that no parabola fits


def test_a_parabola_is_no_error():
    """Means that move along a parabola score as their last value does; a third power does not."""

    def path(power):
        return [(0.9 - 0.02 * (n - 2) ** power / 8, 0.05, 0.5, 0.05) for n in range(5)]

    assert scrutiny(path(2), 1) == pytest.approx(scrutiny([path(2)[-1]] * 5, 1), abs=1e-9)
    assert scrutiny(path(3), 1) < scrutiny([path(3)[-1]] * 5, 1) - 1e-4


def test_a_history_with_a_number_that_is_none_has_no_score():
    history = constant(0.8, 0.5)
    for place in range(5):
        broken = [*history]
        broken[place] = (math.nan, 0.0, 0.5, 0.0)
        assert math.isnan(scrutiny(broken))


# Which steps are judged


def look(detector, steps, labels=(0, 0, 1, 1), fake=(), seed=0):
    generator = torch.Generator().manual_seed(seed)
    turn = Turn(x=torch.zeros(len(labels), 1), labels=torch.tensor(labels))
    for step in steps:
        dz = torch.randn(len(labels), 3, generator=generator)
        turn.fake = step in fake
        assert detector.incoming(SimpleNamespace(step=step), turn, dz) is dz


def judged(detector):
    return [step for step, _ in detector.seen]


def test_it_is_armed_from_first_to_last():
    detector = GradientScrutinizer(first=5, last=9, stop=False)
    look(detector, range(20))
    assert judged(detector) == [5, 6, 7, 8, 9]
    assert len(detector.history) == 10  # from the first step on, for the curves


def test_a_score_is_that_of_the_history_so_far():
    detector = GradientScrutinizer(first=4, window=2, stop=False)
    look(detector, range(10))
    expected = [scrutiny(detector.history[: step + 1], 2) for step in range(4, 10)]
    assert [score for _, score in detector.seen] == expected


@pytest.mark.parametrize("labels", [(1, 1, 1), (0, 1, 2)])
def test_it_abstains_on_a_batch_of_one_class_or_without_a_pair(labels):
    detector = GradientScrutinizer(first=3, stop=False)
    look(detector, range(10), labels=labels)
    assert detector.history == detector.seen == []
    look(detector, range(10, 14))
    assert judged(detector) == [12, 13]  # three batches are needed for a parabola


def test_without_labels_it_abstains():
    detector = GradientScrutinizer(first=3, stop=False)
    for step in range(5):
        detector.incoming(SimpleNamespace(step=step), Turn(x=torch.zeros(4, 1)), torch.ones(4, 3))
    assert detector.history == []


def test_the_sentence_has_both_means():
    detector = GradientScrutinizer(1.0, first=3)
    with pytest.raises(sl.HijackingDetected) as caught:
        look(detector, range(9))
    same, _, other, _ = np.mean(detector.history, axis=0)
    text = f"gradients of one class have mean similarity {same:.2f} and of two classes {other:.2f}"
    assert str(caught.value).startswith(f"step 3: {text}, which gives a score of ")


def test_it_takes_rows_of_an_honest_gradient_for_more_alike_than_those_of_a_hijack(
    make_client, make_attack
):
    scores = []
    for server in (sl.HonestServer(sl.tiny.server_net()), make_attack(steps=15)):
        client = make_client(defenses=[GradientScrutinizer(first=10, stop=False)])
        sl.train([client], server, 15)
        scores.append([score for _, score in client.defenses[0].seen])
    assert min(scores[0]) > 0.5 > max(scores[1])
