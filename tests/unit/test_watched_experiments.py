"""Chapters 53 and 54: runs that detectors watch, thresholds, and what a transcript gives up."""

import pytest
import torch

import splitlab as sl
from splitlab.course.experiments import alarms, race, watched_kinds
from splitlab.course.experiments.transcripts import Transcript, surrogate
from splitlab.course.experiments.watched import Watched, judged, records
from splitlab.course.experiments.watched_kinds import CALIBRATION, HARD, all_watched
from splitlab.defenses.gradient_scrutinizer import LAST
from splitlab.nets import tiny


def measured(steps=12, **options):
    return Watched("", "", 0, steps, **options).measure("cpu", ())


def test_kinds_and_seeds_behind_the_thresholds_are_used_for_nothing_else():
    made = [run for run in all_watched(sl.experiments.SPLIT_SEEDS)]
    calibration = {run.run.removesuffix(", SplitGuard") for run in made if run.seed < 100}
    others = {run.run.removesuffix(", SplitGuard") for run in made if run.seed >= 100}
    assert calibration == set(CALIBRATION) and not calibration & others
    honest = [run for run in made if run.run in HARD]
    assert len(honest) >= 40 and sum(run.steps for run in honest) >= 10_000 and len(HARD) >= 6


def test_runs_of_different_kinds_differ_in_their_configs():
    runs = [run for run in all_watched([100]) if run.seed == 100]
    configs = [str(run.config) for run in runs]
    twice = {run.run for run in runs if configs.count(str(run.config)) > 1}
    assert not twice


def test_a_passive_attack_is_watched_with_the_scores_of_the_honest_run():
    honest, passive = measured(), measured(server="passive")
    assert honest["records"] == passive["records"] and honest["records"]["NormAlarm"]["steps"]


def test_a_hijack_that_begins_later_than_the_run_is_honest_to_the_last_bit():
    honest = measured()
    late = measured(server="multitask", delay=20, aware=True)
    assert honest["records"] == late["records"]
    assert "matched" in late and "matched" not in honest
    begun = measured(server="multitask", delay=6)
    assert begun["records"]["GradientRank"] != honest["records"]["GradientRank"]


@pytest.mark.parametrize("change", ["two classes", "64 images", "40 % wrong labels", "SGD"])
def test_a_hard_honest_run_is_another_run_on_the_data_it_names(change):
    run = Watched("", "", 0, 12, change=change)
    split = run.split()
    (client,), _ = run.parties(split, "cpu")
    held = run.changed(split.private)
    if change == "two classes":
        assert len(held.y.unique()) == 2
    if change == "64 images":
        assert len(held) == 64
    if "wrong" in change:
        wrong = (held.y != split.private.y).float().mean()
        assert 0.35 < wrong < 0.45 and torch.equal(held.x, split.private.x)
    if change == "SGD":
        assert isinstance(client.optimizer, torch.optim.SGD)


def test_three_clinics_share_the_rows_and_have_detectors_of_their_own():
    run = Watched("", "", 0, 12, change="three clinics")
    clients, _ = run.parties(run.split(), "cpu")
    assert len(clients) == 3 and len({id(client.defenses[0]) for client in clients}) == 3
    assert sum(len(client.data) for client in clients) <= len(run.split().private)


def test_records_keep_what_was_more_suspicious_than_all_before():
    class Party:
        def __init__(self, *detectors):
            self.defenses = detectors

    above = sl.defenses.NormAlarm(1.0, stop=False)
    above.seen = [(0, 1.0), (1, 3.0), (2, 2.0), (3, 4.0)]
    below = sl.defenses.GradientScrutinizer(stop=False)
    below.seen = [(10, 0.9), (11, 0.95), (12, 0.5), (LAST + 1, 0.1)]
    kept = records([Party(above, below)])
    assert kept["NormAlarm"] == {"steps": [0, 1, 3], "scores": [1.0, 3.0, 4.0]}
    assert kept["GradientScrutinizer"]["steps"] == [10, 12, LAST + 1]
    assert judged(kept["GradientScrutinizer"], "GradientScrutinizer") == [(10, 0.9), (12, 0.5)]
    row = {"records": kept, "received": [0.1, 0.2, 0.3]}
    assert alarms.alarm_step(row, "NormAlarm", 2.5) == 1
    assert alarms.alarm_step(row, "NormAlarm", 4.0) is None
    assert alarms.alarm_step(row, "GradientScrutinizer", 0.4) is None
    assert alarms.alarm_step(row, "GradientScrutinizer", 0.6) == 12


@pytest.mark.parametrize(
    ("step", "lost"), [(None, 0.3), (0, 0.0), (9, 0.0), (10, 0.1), (19, 0.1), (29, 0.2)]
)
def test_what_is_lost_is_what_the_last_look_before_the_alarm_shows(step, lost):
    assert alarms.lost_by({"received": [0.1, 0.2, 0.3]}, step) == lost


def test_auc_over_runs_knows_the_side():
    assert alarms.auc([1, 2], [3, 4], "above") == 1 and alarms.auc([1, 2], [3, 4], "below") == 0
    assert alarms.auc([1, 3], [3, 1], "above") == 0.5
    assert alarms.auc([float("-inf")], [0.0], "above") == 1


def test_thresholds_follow_from_the_calibration_alone():
    rows = list(sl.experiments.recorded("watched_tiny"))
    own = [row for row in rows if row["run"].startswith("calibration")]
    assert alarms.thresholds(rows) == alarms.thresholds(own)
    loose, strict = (alarms.thresholds(own, budget) for budget in (0.2, 0.05))
    for detector in alarms.DETECTORS:
        above = alarms.side(detector) == "above"
        assert (loose[detector] <= strict[detector]) == above or loose == strict


def test_a_surrogate_reads_the_codes_of_a_network_like_its_own():
    split = sl.tiny.split("digits", 0)
    net = tiny.client(seed=5).eval()
    with torch.no_grad():
        z = net(split.private.x[:128])
    again = [surrogate(z, split.public, seed=0, steps=3)(z[:4]) for _ in range(2)]
    assert torch.equal(*again) and again[0].shape == (4, 1, 16, 16)
    assert not torch.equal(again[0], surrogate(z, split.public, seed=1, steps=3)(z[:4]))


def test_a_transcript_holds_what_was_sent_and_its_twin_sends_the_same_images(monkeypatch):
    monkeypatch.setattr("splitlab.course.experiments.transcripts.surrogate", _untrained)
    rows = [
        Transcript("", "", 0, 200, server=server, stopped=10).measure("cpu", ())
        for server in ("fast", "passive")
    ]
    assert rows[0]["sent"] == rows[1]["sent"] == pytest.approx(320 / 643, abs=1e-3)
    assert 0 <= rows[0]["matched_now"] <= 0.1


def _untrained(z, public, *, seed):
    return surrogate(z, public, seed=seed, steps=1)


def test_the_pages_tables_and_points_have_every_detector_and_every_evasion():
    assert race.overview("c").rows and len(race.overview("c").rows) == len(race.NAMES)
    assert len(race.false_alarms("c").rows) == len(HARD)
    assert [row[0] for row in race.evasions("c").rows] == list(race.EVASIONS.values())
    points = race.race_points()
    assert {point.group for point in points} == {*race.NAMES.values(), "honest, no alarm"}
    lines = race.frontier_points()
    assert all(0 <= y <= 1 for point in lines for y in (point.x, *point.y))
    frames = race.lambda_frames()
    assert list(frames) == [f"{weight:g}" for weight in watched_kinds.LAMBDAS]
    assert "images matched (apart)" in race.spoken(frames["0.1"])


def test_the_thresholds_that_claims_name_are_no_laxer_than_the_calibrated_ones():
    """A claim's rule holds numbers; those of "stays unseen" lie on the safe side."""
    limits = race.calibrated()
    assert 0.069 <= limits["NormAlarm"] < 0.07 and 1.45 < 1.46 <= limits["SplitOut"] + 5e-3
    assert limits["SplitGuard"] <= 0.982 and limits["GradientRank"] <= 0.907
    assert 0.58 <= limits["GradientScrutinizer"] < 0.59
