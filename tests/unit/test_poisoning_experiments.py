"""The rows of `poisoning_tiny`: who attacks, what is looked at when, and what is compared."""

import json
from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments.poisoning import MEMBERS, TURN, effect, rollbacks

ROUNDS = 2


def short_run(kind, **changes):
    run = experiments.find("poisoning_tiny", kind, 7)
    steps = 6 if isinstance(run, experiments.ServerBackdoorRun) else ROUNDS
    return replace(run, steps=steps, **changes)


@pytest.fixture(scope="module")
def short():
    """A row of some kinds after two rounds, at a seed that is not recorded."""
    changes = {"patch, then alone": {"alone": 2}, "SafeSplit, patch": {"window": 3}}
    kinds = ("no attacker", "flip, 2 of 5", "SafeSplit, no attacker", *changes)
    return {kind: short_run(kind, **changes.get(kind, {})).row() for kind in kinds}


def test_a_row_has_what_a_claim_needs(short):
    for row in short.values():
        json.dumps(row)
        assert row["cpu_seconds"] > 0 and row["rounds"] == ROUNDS
        assert 0 <= row["rows"]["attack"]["success"] <= 1
        assert len(row["by_turn"]) == MEMBERS
    assert short["no attacker"]["unattacked"].keys() == {"flip", "patch", "blend"}
    assert short["patch, then alone"]["afterwards"].keys() == {"0", "1", "2"}


def test_the_last_look_is_the_reports(short):
    for kind in ("flip, 2 of 5", "patch, then alone"):
        row = short[kind]
        last = list(row["by_turn"].values())[-1]
        assert last["success"] == row["rows"]["attack"]["success"]
        assert last["accuracy"] == row["rows"]["attack"]["accuracy"]
    assert short["patch, then alone"]["afterwards"]["0"]["success"] == last["success"]


def test_attackers_are_last_unless_told_otherwise():
    run = short_run("flip, 2 of 5")
    assert run.places == {3, 4} and short_run("patch, first").places == {0}
    members = run.members(run.split(), "cpu")
    assert [isinstance(one, sl.LabelFlipping) for one in members] == [False] * 3 + [True] * 2
    assert short_run("no attacker").places == set()


def test_the_clinics_share_the_private_images_and_begin_alike():
    for kind in ("patch", "non-IID, patch"):
        run = short_run(kind)
        split = run.split()
        members = run.members(split, "cpu")
        hashes = [one.data.row_hashes() for one in members]
        assert set.union(*hashes) == split.private.row_hashes()
        assert sum(len(one.data) for one in members) == len(split.private)
        sizes = [len(one.data) for one in members]
        assert max(sizes) - min(sizes) <= MEMBERS
        first = members[0].weights().state
        for one in members[1:]:
            assert all(torch.equal(v, first[k]) for k, v in one.weights().state.items())


def test_non_iid_clinics_hold_other_classes():
    run = short_run("non-IID, patch")
    members = run.members(run.split(), "cpu")
    shares = torch.stack([one.data.y.bincount(minlength=10) / len(one.data) for one in members])
    assert (shares.topk(2).values.sum(1) > 0.5).all()
    assert len(set(shares.argmax(1).tolist())) == MEMBERS


def test_the_share_of_turns_rolled_back_counts_those_that_could_be(short):
    server = sl.SafeSplit(sl.tiny.nets.strided_server(), window=3)
    names = ["a", "b", "mallory", "a", "b", "mallory"]
    server.verdicts = list(zip(names, [False, False, True, False, True, True], strict=True))
    server.turns = [{"low_frequencies": torch.tensor([3.0, 4.0]) * k} for k in (1, 3, 6)]
    found = rollbacks(server, ["mallory"])
    assert found["rolled_back"] == {"mallory": 1.0, "a": 0.0, "b": 1.0}
    assert found["honest"] == 0.5 and found["attackers"] == 1.0
    assert found["movement"] == 3  # 30, and the median of 5 and 15
    assert "attackers" not in rollbacks(server, [])
    assert short["SafeSplit, patch"].keys() >= {"honest", "attackers", "relay"}
    assert "attackers" not in short["SafeSplit, no attacker"]


def test_the_rollback_needs_the_weights_to_pass_through_the_server():
    assert short_run("SafeSplit, patch").protocol().through_server
    assert not short_run("patch").protocol().through_server
    assert short_run("patch").protocol().turn == TURN


@pytest.mark.parametrize(
    "kind", ["server, cut 2", "server, cut 2, critic", "server, cut 2, f known"]
)
def test_a_servers_row_says_how_it_does_on_what_it_rehearsed_with(kind):
    row = short_run(kind).row()
    json.dumps(row)
    assert 0 <= row["on_surrogate"] <= 1 and row["goal"] == "poisoning"
    if kind.endswith("f known"):  # the rehearsals' batches have moved BatchNorm's statistics alone
        assert abs(row["on_surrogate"] - row["rows"]["attack"]["success"]) < 0.2


def test_the_effect_is_the_reports_and_changes_nothing():
    run = short_run("patch")
    split = run.split()
    members, server = run.members(split, "cpu"), run.server("cpu")
    before = {name: value.clone() for name, value in members[0].weights().state.items()}
    report = sl.evaluate(members, members[-1], split.referee, server=server)
    found = effect(members[0], server, members[-1], split.referee)
    assert found == report["attack"]
    assert all(torch.equal(v, before[k]) for k, v in members[0].weights().state.items())
