"""Hijacks as the client sees them, and hijacks of faces: the experiments and their records."""

from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments import faces

KINDS = ["honest", "on the side", "U-shaped", "ten clinics"]

pytestmark = pytest.mark.usefixtures("short_referee")


@pytest.fixture(scope="module")
def short(short_referee):
    """A row of some kinds after ten steps, at a seed that is not recorded."""
    kinds = {kind: experiments.find("client_view_tiny", kind, 7) for kind in KINDS}
    return {kind: replace(one, steps=10).row() for kind, one in kinds.items()}


def test_a_row_has_what_the_client_sees_and_what_the_attack_drew(short):
    for kind, row in short.items():
        assert row["steps"] == 10
        assert row["last_task_loss"] > 0
        assert 0 <= row["task_accuracy"] <= 1
        assert ("error" in row) == (kind != "honest")
    row = short["on the side"]
    assert row["error"] == row["rows"]["attack"]["mse"] / row["rows"]["nearest_public"]["mse"]
    assert row["rows"]["own_autoencoder"]["mse"] < 1e-6


def test_the_u_shaped_protocol_gives_the_very_pictures_of_vanilla(short):
    assert short["U-shaped"]["rows"]["attack"] == short["on the side"]["rows"]["attack"]
    assert short["U-shaped"]["last_task_loss"] != short["on the side"]["last_task_loss"]


def test_ten_clinics_share_the_private_rows():
    one = experiments.find("client_view_tiny", "ten clinics", 7)
    split = one.split()
    clients = one.clients(split, "cpu")
    shares = torch.cat([client.data.x for client in clients])
    assert len(clients) == 10 and {len(client.data) for client in clients} == {len(shares) // 10}
    assert torch.equal(shares, split.private.x[: len(shares)])
    assert len(split.private) - len(shares) < 10


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_a_row_of_faces_scores_pictures_and_negatives(kind):
    row = replace(experiments.find("faces_tiny", kind, 7), steps=5).row()
    better = row["rows"]["attack"]["mse"] < row["rows"]["negatives"]["mse"]
    assert row["upright"] == int(better)
    assert row["n"] == 1000


def test_negatives_are_mirrored_at_the_mean_image_twice_is_once(digits):
    public = replace(digits[1], x=0.5 * digits[1].x)
    middle = public.x.mean(0)
    inside = middle + 0.1 * (public.x[:20] - middle)  # so that nothing is clamped
    torch.testing.assert_close(faces.negatives(faces.negatives(inside, public), public), inside)
    assert not torch.allclose(faces.negatives(inside, public), inside)


def test_the_records_hold_every_kind_on_five_seeds():
    for table in ("client_view_tiny", "faces_tiny"):
        rows = sl.experiments.recorded(table)
        kinds = {one.run for one in experiments.experiments() if one.table == table}
        assert {row["run"] for row in rows} == kinds
        for kind in kinds:
            assert [row["seed"] for row in rows.of(kind)] == [100, 101, 102, 103, 104]
