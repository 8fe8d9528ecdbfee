"""Hijacks with other public images: which ones each kind has, and what a row says of them."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import splitlab as sl
from splitlab.course import experiments
from splitlab.course.experiments.public_images import (
    KINDS,
    OMNIGLOT,
    PublicImages,
    packed,
    unpacked,
)

DATA = Path(os.environ.get("SPLITLAB_DATA") or "nowhere")
SHORT = PublicImages("table", "kind", 5, 2)


@pytest.fixture(autouse=True)
def quick_classifiers(monkeypatch):
    """Classifiers that say 0 of everything: they are not what is tested here."""

    def train(data, seed):
        return lambda images: torch.zeros(len(images), dtype=torch.int64)

    monkeypatch.setattr(sl.referee.images, "train_cnn_classifier", train)
    monkeypatch.setattr(sl.referee.images, "train_svm_classifier", train)
    monkeypatch.setattr(sl.referee.images, "_trained", {})


@pytest.fixture
def classifying(monkeypatch):
    """Few steps are judged as many are."""
    monkeypatch.setattr(PublicImages, "classifies", True)


def test_a_classifier_judges_where_steps_are_many():
    assert experiments.find("public_tiny", "photographs", 7).classifies
    assert not SHORT.classifies
    assert "recognized" not in SHORT.row()["rows"]["attack"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_the_public_images_that_its_name_says(kind):
    run = experiments.find("public_tiny", kind, 7)
    if run.foreign == "omniglot" and not (DATA / "omniglot-py").exists():
        pytest.skip("SPLITLAB_DATA has no Omniglot")
    if run.data == "mnist" and not (DATA / "MNIST").exists():
        pytest.skip("SPLITLAB_DATA has no MNIST")
    related, split = sl.tiny.split(run.data, 7), run.split()
    assert torch.equal(split.private.x, related.private.x)
    assert torch.equal(split.referee.x, related.referee.x)
    assert not split.public.row_hashes() & split.private.row_hashes()
    same = split.public.row_hashes() & related.public.row_hashes()
    if run.missing:
        assert run.missing in split.public.classes
        left = related.public.y != int(run.missing)
        assert torch.equal(split.public.y, related.public.y[left])
        assert torch.equal(split.public.x, related.public.x[left])
    elif run.few is not None:
        assert len(same) == run.few and len(split.public) >= sl.tiny.batch_size
    elif run.change or run.foreign:
        most = OMNIGLOT if run.foreign == "omniglot" else len(related.public)
        assert len(split.public) == min(len(related.public), most) and not same
    else:
        assert torch.equal(split.public.x, related.public.x)
    if run.change:
        torch.testing.assert_close(split.public.x, run.restyled(related.public.x))
        assert torch.equal(split.public.y, related.public.y)


def test_what_a_kind_is_a_function_of_stands_in_its_configuration():
    for change in (
        {"missing": "3"},
        {"few": 40},
        {"change": "slant", "amount": 0.1},
        {"foreign": "strokes"},
    ):
        other = replace(SHORT, **change)
        assert other.config == SHORT.config | change
        assert other.row()["rows"]["attack"] != SHORT.row()["rows"]["attack"]


def test_a_row_is_scored_as_in_other_tables(classifying):
    """The whole public part, and nothing changed: chapter 32's hijack, step by step."""
    row = SHORT.row()
    reference = experiments.Hijack("table", "fast", 5, 2).row()
    assert row["rows"]["attack"] == pytest.approx(reference["rows"]["attack"])
    assert row["n"] == reference["n"] == 500
    for name in ("mean_public", "nearest_public"):
        assert row["rows"][name] == pytest.approx(reference["rows"][name])
    ceiling = reference["rows"]["own_autoencoder"]
    assert row["rows"]["own_autoencoder"] == pytest.approx(ceiling)
    json.dumps(row)


def test_without_a_classifier_the_same_images_are_scored(monkeypatch):
    quick = SHORT.row()
    monkeypatch.setattr(PublicImages, "classifies", True)
    slow = SHORT.row()
    for name in ("mse", "ssim", "matched"):
        assert quick["rows"]["attack"][name] == pytest.approx(
            slow["rows"]["attack"][name], rel=1e-5
        )


def test_classes_together_are_all_scored_images(classifying):
    row = replace(SHORT, missing="1").row()
    classes = row["classes"]
    assert list(classes) == list("0123456789")
    assert sum(figures["n"] for figures in classes.values()) == row["n"]
    for name, whole in (
        ("mse", row["rows"]["attack"]["mse"]),
        ("matched", row["rows"]["attack"]["matched"]),
        ("recognized", row["rows"]["attack"]["recognized"]),
        ("nearest_public_mse", row["rows"]["nearest_public"]["mse"]),
    ):
        share = sum(figures["n"] * figures[name] for figures in classes.values()) / 500
        assert share == pytest.approx(whole, abs=1e-6)
    assert classes["0"]["recognized"] == 1 and classes["1"]["recognized"] == 0
    full = SHORT.row()["classes"]
    assert full["1"]["nearest_public_mse"] < 0.7 * classes["1"]["nearest_public_mse"]


def test_in_the_attackers_style_is_against_images_changed_alike():
    row = replace(SHORT, change="slant", amount=0.3).row()
    private, public, _ = sl.tiny.split("digits", 5)
    order = torch.randperm(len(private), generator=torch.Generator().manual_seed(0))
    x = private.x[order[:500]]
    target, changed = (sl.data.foreign.slanted(images, 0.3) for images in (x, public.x))
    style = row["in_its_style"]
    assert style["private"]["mse"] == pytest.approx(sl.metrics.mse(x, target), rel=1e-5)
    nearest = sl.floors.nearest_public(target, changed)
    expected = sl.metrics.mse(nearest, target)
    assert style["nearest_public"]["mse"] == pytest.approx(expected, rel=1e-5)
    related = sl.metrics.mse(sl.floors.nearest_public(x, public.x), x)
    assert row["rows"]["nearest_related"]["mse"] == pytest.approx(related, rel=1e-5)
    assert style["reconstructed"]["mse"] != row["rows"]["attack"]["mse"]
    assert "classes" not in row


def test_pictures_come_out_of_their_text_as_they_went_in(digits):
    images = digits[0].x[:6]
    text = packed(images)
    torch.testing.assert_close(unpacked(text), images, atol=1.01 / 255, rtol=0)
    row = SHORT.row()
    assert unpacked(row["drawn"]).shape == (6, 1, 16, 16)


@pytest.mark.parametrize("data", ["digits", "drawn_faces"])
def test_public_images_have_to_be_related(data):
    """After as many steps, photographs leave the attacker far behind what related images give."""
    run = replace(SHORT, data=data, steps=80, seed=0)
    related, foreign = run.row(), replace(run, foreign="photographs").row()
    assert related["rows"]["attack"]["mse"] < 0.6 * foreign["rows"]["attack"]["mse"]
    assert related["rows"]["attack"]["matched"] > 1.5 * foreign["rows"]["attack"]["matched"]


def test_negatives_are_drawn_as_negatives():
    row = replace(SHORT, change="negatives", steps=80, seed=0).row()
    style = row["in_its_style"]["reconstructed"]
    assert style["mse"] < 0.15 < 1 < row["rows"]["attack"]["mse"]
    assert style["matched"] > 0.3 and row["rows"]["attack"]["matched"] < 0.02
