"""The rows of `client_gan_tiny`: who takes part, what the server notes, and what is compared."""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim import Adam

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments.client_gan import (
    LOOKS,
    FreshAdam,
    NormalizingServer,
    ServerOptimizerPerClient,
    distance,
)

DATA = Path(os.environ.get("SPLITLAB_DATA") or "nowhere")

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
    servers = [{"server_optimizer": name} for name in ("SGD", "fresh Adam", "Adam per client")]
    for change in (*changes, *servers, {"attack": "inversion"}):
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


DA = torch.tensor([[3.0, -4.0, 0.5]], dtype=torch.float64)  # of norm > 5
HONEST = torch.tensor([[-1.0, 2.0, 7.0]], dtype=torch.float64)


def turn(server, da, sender="clinic 0"):
    """Let a server with a linear network take one turn on z = 1: its step, and the gradient of z.

    The step is a function of `da` and the optimizer alone.
    """
    before, about = server.net.weight.detach().clone(), {"sender": sender, "step": 0}
    z = torch.ones(1, 2, dtype=torch.float64)
    server.forward(sl.SmashedData(z=z, asks="output", **about))
    dz = server.backward(sl.OutputGradient(da=da, **about)).dz
    return server.net.weight.detach() - before, dz


def linear():
    torch.manual_seed(0)
    return torch.nn.Linear(2, 3, bias=False, dtype=torch.float64)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


def test_fresh_adam_steps_by_the_sign_whatever_the_scale_and_the_past():
    rate, eps = 0.01, 1e-8
    server = sl.HonestServer(linear(), optimizer=partial(FreshAdam, lr=rate))
    for scale in (1.0, 1e-5, 1.0):
        gradient = (scale * DA).T.expand(3, 2)
        step, _ = turn(server, scale * DA)
        close(step, -rate * gradient / (gradient.abs() + eps))
        turn(server, HONEST)  # leaves nothing behind
    torch.testing.assert_close(step, -rate * DA.sign().T.expand(3, 2), rtol=1e-6, atol=0)


def test_a_normalizing_server_takes_one_step_whatever_the_scale_and_returns_the_true_gradient():
    optimizers = {"SGD": partial(torch.optim.SGD, lr=1.0), "Adam": partial(Adam, lr=0.01)}
    for optimizer in optimizers.values():
        plain, scaled = (NormalizingServer(linear(), optimizer=optimizer) for _ in range(2))
        for _ in range(3):  # Adam has a past, too
            weight = scaled.net.weight.detach().clone()
            (step, _), (scaled_step, dz) = turn(plain, DA), turn(scaled, 1e-5 * DA)
            close(step, scaled_step)
            close(dz, 1e-5 * DA @ weight)
    sgd = NormalizingServer(linear(), optimizer=optimizers["SGD"])
    close(turn(sgd, DA)[0], (-NormalizingServer.LENGTH * DA / DA.norm()).T.expand(3, 2))
    sparing = NormalizingServer(linear(), optimizer=optimizers["SGD"], above=1e-4)
    close(turn(sparing, 1e-5 * DA)[0], (-1e-5 * DA).T.expand(3, 2))
    close(turn(sparing, DA)[0], turn(sgd, DA)[0])


def test_with_adam_per_client_a_step_depends_on_the_senders_turns_alone():
    def server():
        names = ["attacker", "clinic 0"]
        return ServerOptimizerPerClient(linear(), names, optimizer=partial(Adam, lr=0.01))

    alone, among = server(), server()
    for scale in (1e-5, 1.0, 1e-5):
        step, _ = turn(alone, scale * DA, "attacker")
        turn(among, HONEST)
        close(turn(among, scale * DA, "attacker")[0], step)
    again = server()
    again.load_state_dict(among.state_dict())
    close(turn(again, DA, "attacker")[0], turn(among, DA, "attacker")[0])


@pytest.mark.parametrize(
    "kind", ["1 honest client", "fresh Adam", "Adam per client", "normalizing server"]
)
def test_a_further_kind_runs_and_goes_on_after_a_stop(kind, tmp_path):
    class Stop(sl.Observer):
        def step(self, step, client, server):
            if step == 8:
                raise KeyboardInterrupt

    whole = short_run(kind).row()
    keeping = {"checkpoint": tmp_path / "run.checkpoint", "every": 5}
    with pytest.raises(KeyboardInterrupt):
        short_run(kind).row(observers=[Stop()], **keeping)
    row = short_run(kind).row(**keeping)
    assert (row["server"], row["nearest"]) == (whole["server"], whole["nearest"])


def test_drawn_faces_have_an_attribute_as_class():
    run = short_run("drawn faces")
    split = run.split()
    assert split.private.classes[run.target] == "dark hair"
    assert split.private.shape == (1, 16, 16)


def test_where_a_class_is_a_person_all_parts_have_the_same_people():
    if not (DATA / "ATT" / "att_faces.zip").exists():
        pytest.skip("SPLITLAB_DATA has no ATT/att_faces.zip")
    run = short_run("one person")
    assert run.target == 7 and replace(run, seed=101).target == 21
    split = run.split()
    for part, photographs in zip(split, (5, 2, 3), strict=True):
        assert torch.bincount(part.y).tolist() == [photographs] * 40
    parts = [part.row_hashes() for part in split]
    assert not (parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2])
    clients = run.clients(split, "cpu")
    assert sum(int((client.data.y == run.target).sum()) for client in clients) == 5
    assert clients[0].tail[-1].out_features == 41
    own = run.row()["among_own"]
    assert own["mean"]["clients"] < own["others"]["clients"]
    assert 1 <= own["nearest"] <= 5
