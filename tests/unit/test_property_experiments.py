"""The recorded experiments on properties: labels, roles, shares, and what a row holds."""

from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course.experiments import (
    PropertyHijack,
    PropertyShare,
    SlantAndPicture,
    property_inference,
    with_property,
)
from splitlab.course.experiments.property_inference import KINDS, Marks
from splitlab.course.experiments.property_share import IMAGES, SHARES, corrected, draw


def test_a_part_is_labeled_with_the_property(digits):
    private, public, _ = digits
    assert with_property(private, "digit", public) is private
    loop = with_property(private, "loop", public)
    assert loop.classes == ("no loop", "loop")
    assert set(private.y[loop.y == 1].tolist()) == {0, 6, 8, 9}
    assert set(private.y[loop.y == 0].tolist()) == {1, 2, 3, 4, 5, 7}
    # The threshold is the public images' median, whichever part is labeled.
    threshold = float(sl.data.slant(public.x).median())
    slanted = with_property(private, "slant", public)
    assert torch.equal(slanted.y == 1, sl.data.slant(private.x) < threshold)
    faces = sl.data.drawn_faces(n=30, size=16, channels=1)
    assert torch.equal(with_property(faces, "hat", faces).y.bool(), faces.attributes["hat"])


def test_the_client_trains_its_task_and_the_server_asks_for_another():
    for name, options in KINDS.items():
        run = PropertyHijack("property_tiny", name, 7, 300, **options)
        assert run.secret != run.task
    run = PropertyHijack("property_tiny", "slant", 7, 300, **KINDS["slant"])
    split = run.split()
    client, attack = run.client(split, "cpu"), run.attack(split, "cpu")
    assert client.data.classes == tuple("0123456789")
    assert attack.public.classes == ("falling", "rising")
    honest = PropertyHijack("property_tiny", "", 7, 300, **KINDS["digit, no hijack"])
    server = honest.attack(split, "cpu")
    assert isinstance(server, sl.NoHijack)
    assert server.net[-1].out_features == 2, "it serves the client's task, the slant"
    assert len(server.attack.public.classes) == 10


@pytest.mark.parametrize("kind", ["slant", "slant, no hijack"])
def test_a_row_has_a_curve_and_a_report(kind):
    run = PropertyHijack("table", kind, 7, 27, **KINDS[kind])
    row = run.row()
    assert row["accuracy"].keys() == {"slant"}
    assert row["accuracy"]["slant"].keys() == {"25"}
    assert row["further"]["classes"] == ["falling", "rising"]
    assert row["steps"] == 27
    assert "correlation" not in row
    assert {"chance", "public_majority", "best_constant", "best_from_label"} <= set(row["rows"])
    assert sum(map(sum, row["further"]["confusion"])) == row["n"]
    # The curve is of all private images, and so is the report where there are few of them.
    assert row["n"] == len(run.split().private)
    again = replace(run, steps=25).row()
    accuracy = again["rows"]["attack"]["accuracy"]
    assert accuracy == pytest.approx(again["accuracy"]["slant"]["25"], abs=1e-4)


def test_a_hijack_with_pictures_has_their_correlation():
    run = PropertyHijack("table", "", 7, 40, **KINDS["slant"] | {"design": "fast"})
    assert run.row()["correlation"] > 0.2


def test_slant_and_picture_are_scored_in_one_run(monkeypatch):
    monkeypatch.setattr(property_inference, "HEAD_STEPS", 40)
    row = SlantAndPicture("table", "", 7, 25).row()
    assert row["accuracy"].keys() == {"head", "measured", "matched"}
    # The slant of strokes can be inferred before pictures match.
    assert row["accuracy"]["matched"]["25"] < 0.4
    assert min(row["accuracy"][name]["25"] for name in ("head", "measured")) > 0.6
    assert 0.6 < row["best_from_label"] < 0.9


def test_clients_are_drawn_with_their_shares_and_no_image_in_common():
    y = torch.arange(100) % 2
    rows = draw(y, (0.2, 0.8), 50, seed=3)
    assert [float(y[one].double().mean()) for one in rows] == [0.2, 0.8]
    assert len(torch.cat(rows).unique()) == 100
    assert all(map(torch.equal, rows, draw(y, (0.2, 0.8), 50, seed=3)))
    with pytest.raises(ValueError, match="too few images for clients of 50"):
        draw(y, (0.8, 0.8), 50, seed=3)


def test_a_share_is_corrected_for_known_mistakes():
    truth = torch.tensor([1] * 10 + [0] * 10)
    known = torch.tensor([1.0] * 9 + [0.0] + [1.0] * 2 + [0.0] * 8)  # 0.9 of 1s, 0.2 of 0s
    scores = torch.tensor([1.0] * 55 + [0.0] * 45)  # 0.5 * 0.9 + 0.5 * 0.2
    assert corrected(scores, known, truth) == pytest.approx(0.5)
    assert corrected(torch.ones(5), known, truth) == 1.0
    assert corrected(torch.zeros(5), known, truth) == 0.0


def test_a_row_of_shares_has_an_estimate_for_each_client():
    run = PropertyShare("table", "", 7, 6)
    row = run.row()
    estimates, error = row["estimates"], row["error"]
    assert estimates.pop("true") == [0.2, 0.5, 0.8]
    assert estimates.keys() == error.keys()
    assert all(0 <= one <= 1 for values in estimates.values() for one in values)
    assert error["public share"] == pytest.approx(0.2, abs=0.01)
    # The labels say something about the slant, and are not touched by the training.
    assert error["labels, corrected"] < error["public share"]
    longer = replace(run, steps=9).row()
    assert longer["error"]["labels"] == error["labels"]


def test_the_public_share_is_that_of_the_hijack():
    run = PropertyShare("table", "", 7, 3, **SHARES["one client, share 0.5, public share 0.8"])
    known = run.known(run.split())
    assert len(known) == 2 * IMAGES
    assert float(known.y.double().mean()) == pytest.approx(0.8)


def test_every_kind_of_share_has_enough_images_at_the_recorded_seeds():
    for options in SHARES.values():
        for seed in range(100, 105):
            run = PropertyShare("table", "", seed, 3, **options)
            split = run.split()
            y = with_property(split.private, "slant", split.public).y
            assert len(draw(y, run.shares, IMAGES, seed)) == len(run.shares)


def test_marks_score_after_their_steps_and_are_resumed():
    scores = iter(range(10))
    marks = Marks(lambda client, server: {"slant": next(scores) / 10})
    for step in range(60):
        marks.step(step, None, None)
    resumed = Marks(lambda client, server: {"slant": 1.0})
    resumed.load_state_dict(marks.state_dict())
    resumed.step(74, None, None)
    assert resumed.accuracy == {"slant": {"25": 0.0, "50": 0.1, "75": 1.0}}
    assert marks.accuracy == {"slant": {"25": 0.0, "50": 0.1}}


@pytest.mark.parametrize("kind", ["slant", "three clients"])
def test_a_run_can_be_checkpointed(kind, tmp_path):
    """Else the records cannot be made by the command that they name."""
    run = replace(sl.experiments.find("property_tiny", kind, 7), steps=4)
    row = run.row(checkpoint=tmp_path / "run", every=2)
    again = run.row()
    ignored = {"cpu_seconds"}
    assert {k: v for k, v in row.items() if k not in ignored} == {
        k: v for k, v in again.items() if k not in ignored
    }
