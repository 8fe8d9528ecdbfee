"""The rows of `client_gan_tiny`: who takes part, what the server notes, and what is compared."""

import json
from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments.client_gan import LOOKS, distance

ROUNDS = 6
KINDS = [
    *("target 0", "no attacker", "no poison class, target 1", "no scaling"),
    *("SGD server", "model inversion"),
]

pytestmark = pytest.mark.usefixtures("short_referee")


def short_run(kind, **changes):
    return replace(experiments.find("client_gan_tiny", kind, 7), steps=ROUNDS, **changes)


@pytest.fixture(scope="module")
def short(short_referee):
    """A row of some kinds after a few rounds, at a seed that is not recorded."""
    rows = {kind: short_run(kind).row() for kind in KINDS}
    return rows | {"SGD server, no scaling": short_run("SGD server", scale=1.0).row()}


def test_a_row_has_what_a_claim_needs(short):
    for kind, row in short.items():
        assert row["rounds"] == ROUNDS
        assert 0 <= row["accuracy"] <= 1 and row["cpu_seconds"] > 0
        assert ("rows" in row) == (kind != "no attacker")
        json.dumps(row)
    row = short["target 0"]
    assert {"distance", "share", "nearest_is_target", "diversity"} < row["rows"]["attack"].keys()
    assert {"other_classes", "global_mean", "class_mean", "real_images"} < row["rows"].keys()
    assert len(row["by_round"]) >= LOOKS and str(ROUNDS) in row["by_round"]
    for of in ("generated", "real"):
        assert row["nearest"][of]["clients"] > 0 < row["nearest"][of]["strangers"]


def test_the_server_sees_turns_of_three_kinds(short):
    assert list(short["target 0"]["server"]) == ["generator", "honest", "poison"]
    assert list(short["no attacker"]["server"]) == ["honest"]
    assert list(short["no poison class, target 1"]["server"]) == ["generator", "honest"]
    for row in short.values():
        for seen in row["server"].values():
            assert 0 < seen["smallest"] <= seen["gradient"] <= seen["largest"]
            assert seen["step"] > 0


def test_the_scaling_shortens_gradients_and_only_the_steps_of_sgd(short):
    def seen(kind, what):
        return short[kind]["server"]["generator"][what]

    for scaled, plain in (("target 0", "no scaling"), ("SGD server", "SGD server, no scaling")):
        assert seen(scaled, "largest") < 1e-4 * seen(plain, "smallest")
    assert seen("SGD server", "step") < 1e-3 * seen("SGD server, no scaling", "step")
    assert seen("target 0", "step") > 0.1 * seen("no scaling", "step")


def test_a_turns_kind_is_that_of_the_turn_that_has_ended():
    run = short_run("target 0")
    split = run.split()
    attack, client = run.attacker(split, "cpu"), run.clients(split, "cpu")[0]
    view = experiments.ServersView()
    everyone = [attack, client]
    protocol = sl.Sequential(sl.u_shaped)
    sl.train(everyone, run.server("cpu"), 6, protocol=protocol, observers=[view])
    assert {kind: len(norms) for kind, norms in view.gradients.items()} == {
        **{"generator": 2, "honest": 3, "poison": 1},
    }


@pytest.mark.parametrize(("honest", "at_one"), [(3, False), (3, True), (1, False), (10, False)])
def test_the_honest_clients_share_the_private_rows(honest, at_one):
    run = short_run("target 0", honest=honest, at_one=at_one, target=4)
    split = run.split()
    clients = run.clients(split, "cpu")
    assert len(clients) == honest
    sizes = [len(client.data) for client in clients]
    assert sum(sizes) == len(split.private) and max(sizes) - min(sizes) <= 3
    holders = [int((client.data.y == 4).sum()) for client in clients]
    assert sum(holders) == int((split.private.y == 4).sum())
    assert (holders[1:] == [0] * (honest - 1)) if at_one else min(holders) > 0


def test_the_distance_is_to_the_nearest():
    real = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    assert distance(torch.tensor([0.25, 1.5]).view(2, 1, 1, 1), real) == (0.0625 + 0.25) / 2


def test_a_run_is_a_function_of_its_configuration(short):
    assert short_run("target 0").row()["nearest"] == short["target 0"]["nearest"]
    changes = ({"target": 1}, {"scale": 0.5}, {"honest": 2}, {"at_one": True})
    for change in (*changes, {"server_optimizer": "SGD"}, {"attack": "inversion"}):
        run = short_run("target 0", **change)
        assert run.config != short_run("target 0").config


def test_a_run_that_was_stopped_goes_on(short, tmp_path):
    class Stop(sl.Observer):
        def step(self, step, client, server):
            if step == 12:
                raise KeyboardInterrupt

    keeping = {"checkpoint": tmp_path / "run.checkpoint", "every": 5}
    with pytest.raises(KeyboardInterrupt):
        short_run("target 0").row(observers=[Stop()], **keeping)
    row = short_run("target 0").row(**keeping)
    for name in ("server", "nearest", "by_round", "accuracy"):
        assert row[name] == short["target 0"][name]
