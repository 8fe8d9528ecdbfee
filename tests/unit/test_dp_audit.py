"""The bound on epsilon, the server that waits for one image, and a small audit."""

import json
import math

import pytest
import torch
from scipy import stats

import splitlab as sl
from splitlab.course.experiments.dp_audit import (
    AUDITS,
    FEATURES,
    MORE_AUDITS,
    PUSH,
    CanaryServer,
    DPAudit,
    threshold,
)
from splitlab.referee.intervals import epsilon_lower_bound, proportion

ALL = AUDITS | MORE_AUDITS


def test_the_bound_is_the_logarithm_of_a_ratio_of_two_ends():
    bound = epsilon_lower_bound(177, 0, 200, 1e-5)
    low, high = proportion(177, 200)[0], proportion(0, 200)[1]
    assert bound == math.log((low - 1e-5) / high)
    assert 3.8 < bound < 3.83
    assert high == pytest.approx(1 - 0.025 ** (1 / 200))


def test_both_directions_count():
    """Never missing the image says as much as never raising a false alarm."""
    assert epsilon_lower_bound(200, 23, 200, 0) == pytest.approx(
        epsilon_lower_bound(177, 0, 200, 0)
    )


@pytest.mark.parametrize(("hits", "false_alarms"), [(0, 0), (200, 200), (100, 100), (60, 140)])
def test_guesses_that_know_nothing_bound_nothing(hits, false_alarms):
    assert epsilon_lower_bound(hits, false_alarms, 200, 1e-5) == 0


def test_a_delta_that_allows_everything_leaves_no_bound():
    assert epsilon_lower_bound(200, 0, 200, 1.0) == 0
    assert epsilon_lower_bound(200, 0, 200, 0.5) < epsilon_lower_bound(200, 0, 200, 0)


def test_it_exceeds_the_truth_no_more_often_than_it_says():
    """Randomized response at epsilon 1 is the mechanism that leaks all it may."""
    rate, trials = math.e / (1 + math.e), 40
    counts = range(trials + 1)
    inside = stats.binom.pmf(counts, trials, rate)
    outside = stats.binom.pmf(counts, trials, 1 - rate)
    exceeds = sum(
        inside[hits] * outside[alarms]
        for hits in counts
        for alarms in counts
        if inside[hits] * outside[alarms] > 1e-6
        and epsilon_lower_bound(hits, alarms, trials, 0) > 1
    )
    assert exceeds < 0.05


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((201, 0, 200, 1e-5), "201 of 200"),
        ((0, -1, 200, 1e-5), "successes is -1: choose a whole number"),
        ((0, 0, 0, 1e-5), "n is 0: choose a whole number of at least 1"),
        ((0, 0, 200, -1.0), r"delta is -1\.0: choose a probability, such as 1e-5, from 0 to 1"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        epsilon_lower_bound(*arguments)


def test_a_threshold_separates_what_can_be_separated_in_the_widest_gap():
    assert threshold([10.0, 12.0, 13.0], [0.0, 1.0, 2.0], delta=1e-5) == 6.0
    # Two of the runs with the image look like those without.
    assert threshold([0.5, 1.5, *[20.0] * 38], [0.0, 1.0, 2.0, *[1.0] * 37], delta=1e-5) == 11.0
    assert threshold([1.0, 3.0], [0.0, 2.0], delta=1e-5) in (0.5, 2.5)  # nothing is bounded


def answers(pushes):
    """Which rows push, batch after batch: without the target, with it in row 1, and without."""
    target = torch.ones(FEATURES)
    other = -torch.ones(3, FEATURES)
    with_it = other.clone()
    with_it[1] = 1.001 * target
    server = CanaryServer(target, pushes)
    batches = [other, with_it, other]
    replies = [
        server.reply(sl.SmashedData(z=z, sender="client", step=step)).dz
        for step, z in enumerate(batches)
    ]
    assert all(not dz[:, 1:].any() and set(dz[:, 0].tolist()) <= {0, -PUSH} for dz in replies)
    assert server.seen == 1
    return [dz[:, 0].ne(0).tolist() for dz in replies]


def test_the_server_latches_or_does_not():
    none, both = [False] * 3, [True] * 3
    assert answers("ever after") == [none, both, both]
    assert answers("same batch") == [none, both, none]
    assert answers("target alone") == [none, [False, True, False], none]


@pytest.mark.parametrize("run", ALL)
def test_a_small_audit_gives_a_row_that_repeats(run):
    pytest.importorskip("opacus")
    audit = DPAudit("dp_audit_tiny", run, 0, 8, trials=2, pilots=2, batch_size=80, **ALL[run])
    rows = [audit.row() for _ in range(2)]
    assert json.loads(json.dumps(rows[0])) == rows[0]
    expected = {"steps", "epsilon", "lower_bound", "refuted", "hits", "false_alarms", "trials"}
    expected |= {"threshold", "recognized", "mistaken", "cpu_seconds", "run", "seed", "config"}
    assert rows[0].keys() == expected
    assert rows[0]["trials"] == 2 and 0 <= rows[0]["hits"] <= 2 and rows[0]["mistaken"] == 0
    for row in rows:
        del row["cpu_seconds"]
    assert rows[0] == rows[1]


def test_a_latching_server_refutes_epsilon_and_one_that_answers_row_by_row_does_not():
    """With a batch of a quarter of the images, the server sees the image in almost every run."""
    pytest.importorskip("opacus")
    rows = [
        DPAudit(
            "",
            run,
            3,
            12,
            noise=8.0,
            trials=12,
            pilots=6,
            batch_size=160,
            **ALL[run],
        ).row()
        for run in ("latching", "not latching")
    ]
    assert [row["refuted"] for row in rows] == [True, False]
    assert rows[0]["lower_bound"] > 1 > rows[0]["epsilon"]
