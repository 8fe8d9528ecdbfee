"""The recorded experiments on properties: labels, who is asked, and what a row holds."""

from dataclasses import replace

import pytest
import torch

import splitlab as sl
from splitlab.course.experiments import (
    PropertiesInPictures,
    PropertyHijack,
    labelled,
    property_inference,
)
from splitlab.course.experiments.property_inference import KINDS, PICTURES, Marks


def test_a_part_is_labelled_with_what_is_asked(digits):
    private, public, _ = digits
    assert labelled(private, "digit", public) is private
    loop = labelled(private, "loop", public)
    assert loop.classes == ("no loop", "loop")
    assert set(private.y[loop.y == 1].tolist()) == {0, 6, 8, 9}
    assert set(private.y[loop.y == 0].tolist()) == {1, 2, 3, 4, 5, 7}
    # The threshold is the public images' median, whichever part is labelled.
    threshold = float(sl.data.slant(public.x).median())
    slanted = labelled(private, "slant", public)
    assert torch.equal(slanted.y == 1, sl.data.slant(private.x) < threshold)
    faces = sl.data.drawn_faces(n=30, size=16, channels=1)
    assert torch.equal(labelled(faces, "hat", faces).y.bool(), faces.attributes["hat"])


def test_the_client_trains_its_task_and_the_server_asks_for_another():
    for name, options in KINDS.items():
        run = PropertyHijack("property_tiny", name, 7, 300, **options)
        assert run.secret != run.task
    run = PropertyHijack("property_tiny", "slant", 7, 300, **KINDS["slant"])
    split = run.split()
    client, attack = run.client(split, "cpu"), run.attack(split, "cpu")
    assert client.data.classes == tuple("0123456789")
    assert attack.public.classes == ("falling", "rising")
    eager = PropertyHijack("property_tiny", "", 7, 300, **KINDS["digit, three critic steps"])
    hijacks = [eager.attack(split, "cpu").hijack, attack.hijack]
    assert [hijack.critic_steps for hijack in hijacks] == [3, 1]
    assert [hijack.critic_first for hijack in hijacks] == [True, False]
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
    assert {"chance", "public_majority", "best_constant", "best_from_label"} <= set(row["rows"])
    assert sum(map(sum, row["further"]["confusion"])) == row["n"]
    # The curve is of all private images, and so is the report where there are few of them.
    assert row["n"] == len(run.split().private)
    again = replace(run, steps=25).row()
    accuracy = again["rows"]["attack"]["accuracy"]
    assert accuracy == pytest.approx(again["accuracy"]["slant"]["25"], abs=1e-4)


def test_pictures_are_read_for_all_properties(monkeypatch):
    monkeypatch.setattr(property_inference, "HEAD_STEPS", 40)
    run = PropertiesInPictures("table", "fast", 7, 25, **PICTURES["pictures, fast design"])
    accuracy = run.row()["accuracy"]
    names = {"digit", "slant", "loop"}
    assert accuracy.keys() == names | {f"{name}, head" for name in names} | {"matched"}
    # Heads and pictures tell the slant of strokes before they can tell digits.
    assert accuracy["slant"]["25"] > accuracy["digit"]["25"]
    assert accuracy["slant, head"]["25"] > 0.6


def test_marks_look_after_their_steps_and_are_resumed():
    looks = iter(range(10))
    marks = Marks(lambda client, server: {"slant": next(looks) / 10})
    for step in range(60):
        marks.step(step, None, None)
    resumed = Marks(lambda client, server: {"slant": 1.0})
    resumed.load_state_dict(marks.state_dict())
    resumed.step(74, None, None)
    assert resumed.accuracy == {"slant": {"25": 0.0, "50": 0.1, "75": 1.0}}
    assert marks.accuracy == {"slant": {"25": 0.0, "50": 0.1}}
