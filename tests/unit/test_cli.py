"""The shell: one JSON object, sentences for wrong requests."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

import splitlab as sl
from splitlab.course import cli
from splitlab.referee.metrics import METRICS
from splitlab.referee.prototypes import COLUMNS
from splitlab.settings import Setting

pytestmark = pytest.mark.usefixtures("short_referee")


def test_json_is_one_object_with_the_agreed_names(capsys):
    assert cli.main(["attack", "fsha", "--steps", "3", "--seed", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1
    assert "hijacking" in err  # the progress bar
    for key, value in {
        "attack": "fsha",
        "data": "digits",
        "profile": "tiny",
        "seed": 2,
        "steps": 3,
        "device": "cpu",
        "precision": "float32",
        "n": 500,
    }.items():
        assert result[key] == value
    assert result["seconds"] > 0
    kinds = {name: figures.pop("kind") for name, figures in result["rows"].items()}
    assert kinds["mean_public"] == kinds["nearest_public"] == "floor"
    assert kinds["own_autoencoder"] == kinds["oracle_decoder"] == "ceiling"
    assert kinds["attack"] == "attack"
    for scores in result["rows"].values():
        assert tuple(scores) == METRICS


def test_the_report_is_for_people(capsys):
    assert cli.main(["attack", "fsha", "--steps", "2", "--cut", "4", "--design", "paper"]) == 0
    out = capsys.readouterr().out
    assert "does not know" in out
    assert "floor: nearest public" in out
    assert "private and" in out
    assert re.search(r": 2 steps in \d+\.\d s on cpu in float32; client: Adam at", out)


@pytest.mark.parametrize(
    ("asked", "profiles", "used"),
    [
        (None, None, "float32"),
        ("auto", torch.bfloat16, "bfloat16"),
        ("float32", torch.bfloat16, "float32"),
        ("bfloat16", None, "bfloat16"),
    ],
)
def test_the_precision_overrides_the_profiles_and_is_reported(
    capsys, monkeypatch, asked, profiles, used
):
    trained, train = [], sl.train

    def watched(*args, **options):
        trained.append(options["autocast"])
        return train(*args, **options)

    monkeypatch.setattr(sl, "train", watched)
    nothing = sl.Report("images", 0, {}, "", {}, {})  # scoring would take seconds
    monkeypatch.setattr(sl, "evaluate", lambda *args, **options: nothing)
    monkeypatch.setattr(Setting, "precision", lambda self, device: profiles)
    option = ["--precision", asked] if asked else []
    assert cli.main(["attack", "fsha", "--steps", "1", "--json", *option]) == 0
    assert json.loads(capsys.readouterr().out)["precision"] == used
    assert trained == [None if used == "float32" else torch.bfloat16]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--profile", "paper"], "digits makes no sense at profile paper"),
        (["--profile", "gpu"], "choose one of mnist, fashion_mnist"),
        (["--steps", "0"], "at least one step"),
        (["--device", "toaster"], "there is no device 'toaster'"),
        (["--device", "meta"], "is not supported"),
        (["--data", "mnist"], "SPLITLAB_OFFLINE forbids to download it"),
        (["--client-rate", "0"], "--client-rate"),
        (["--data", "celeba"], "celeba makes no sense at profile tiny"),
        (["--data", "celeba", "--profile", "gpu"], "must be got by hand"),
        (["--data", "orl_faces", "--profile", "gpu"], "SPLITLAB_OFFLINE forbids to download it"),
        (["--data", "cifar10", "--profile", "paper"], "SPLITLAB_OFFLINE forbids to download it"),
    ],
)
def test_wrong_requests_get_one_sentence(capsys, monkeypatch, arguments, sentence):
    monkeypatch.delenv("SPLITLAB_DATA", raising=False)
    assert cli.main(["attack", "fsha", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["attack"], ["attack", "fsha", "--cut", "9"], ["attack", "fsha", "--precision", "half"]],
)
def test_incomplete_requests_show_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as status:
        cli.main(arguments)
    assert status.value.code == 2
    assert "usage: splitlab" in capsys.readouterr().err


def test_the_command_is_installed_and_knows_its_version():
    command = os.path.join(os.path.dirname(sys.executable), "splitlab")
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"splitlab {sl.__version__}"


def test_drawn_faces_at_tiny_scale(capsys):
    assert cli.main(["attack", "fsha", "--data", "drawn_faces", "--steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == {"private": 4286, "public": 2857}
    assert result["rows"]["attack"]["matched"] < 1


def test_a_set_with_few_private_images_is_scored_on_all_of_them(capsys, monkeypatch):
    few = sl.data.drawn_faces(700, size=16, channels=1)
    monkeypatch.setitem(cli.LOADERS, "drawn_faces", lambda **options: few)
    assert cli.main(["attack", "fsha", "--data", "drawn_faces", "--steps", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == result["images"]["private"] == 300


def test_an_unknown_set_is_refused_with_those_that_are_known(capsys):
    with pytest.raises(SystemExit):
        cli.main(["attack", "fsha", "--data", "cifar"])
    assert "invalid choice: 'cifar'" in capsys.readouterr().err


@pytest.mark.skipif("SPLITLAB_DATA" not in os.environ, reason="SPLITLAB_DATA is not set")
def test_mnist_at_tiny_scale(capsys):
    arguments = ["attack", "fsha", "--data", "mnist", "--steps", "2", "--json"]
    assert cli.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 1000
    assert result["images"]["private"] == 3000


GAN = ["attack", "client-gan"]


def test_the_client_side_gan_is_one_object_with_the_agreed_names(capsys):
    asked = ["--rounds", "2", "--target", "3", "--honest", "2", "--seed", "1", "--json"]
    assert cli.main([*GAN, *asked]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert out.count("\n") == 1
    assert "training" in err  # the progress bar
    for key, value in {
        "attack": "client-gan",
        "goal": "prototypes",
        "data": "digits",
        "profile": "tiny",
        "seed": 1,
        "steps": 6,
        "clients": 3,
        "target": 3,
        "poison": 10,
        "scale": 1e-5,
        "n": 500,
    }.items():
        assert result[key] == value
    assert 0 <= result["task_accuracy"] <= 1
    kinds = {name: figures.pop("kind") for name, figures in result["rows"].items()}
    assert kinds["class_mean"] == kinds["global_mean"] == kinds["other_classes"] == "floor"
    assert kinds["real_images"] == "ceiling"
    assert kinds["attack"] == "attack"
    assert all(list(scores) == list(COLUMNS) for scores in result["rows"].values())


def test_the_client_side_gans_report_is_for_people(capsys):
    assert cli.main([*GAN, "--rounds", "1", "--no-poison", "--scale", "1"]) == 0
    out = capsys.readouterr().out
    assert "does not know" in out
    assert "one more class than the task" in out
    assert "floor: class mean" in out
    assert re.search(r": 4 steps of the attacker and 3 honest clients in \d+\.\d s on cpu", out)
    assert "Poison class: None; gradients to the server scaled by 1 in" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "10"], "target is 10: choose a class from 0 to 9"),
        (["--rounds", "0"], "--rounds is 0: choose at least 1"),
        (["--honest", "0"], "--honest is 0: choose at least 1"),
        (["--honest", "40"], "choose a batch_size"),
        (["--scale", "0"], "scale is 0.0: choose a factor above 0"),
        (["--profile", "paper"], "digits makes no sense at profile paper"),
        (["--data", "orl_faces"], "orl_faces makes no sense at profile tiny"),
        (["--device", "toaster"], "there is no device 'toaster'"),
    ],
)
def test_wrong_requests_to_the_client_side_gan_get_one_sentence(capsys, arguments, sentence):
    assert cli.main([*GAN, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
