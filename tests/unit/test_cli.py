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
    out = capsys.readouterr().out
    result = json.loads(out)
    assert out.count("\n") == 1
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
        (["--profile", "gpu"], "add --profile tiny, or choose --data from mnist, fashion_mnist"),
        (["--steps", "-1"], "--steps is -1"),
        (["--device", "cpu:3"], "this machine has no such device"),
        (["--device", ""], "there is no device ''"),
        (["--steps", "0"], "at least one step"),
        (["--device", "toaster"], "there is no device 'toaster'"),
        (["--device", "meta"], "is not supported"),
        (["--data", "mnist"], "SPLITLAB_OFFLINE forbids downloading it"),
        (["--client-rate", "0"], "--client-rate is 0: a learning rate is above 0"),
        (["--client-rate", "-1"], "--client-rate is -1: a learning rate is above 0"),
        (["--client-rate", "nan"], "--client-rate is nan: a learning rate is above 0"),
        (["--client-rate", "inf"], "--client-rate is inf: a learning rate is above 0"),
        (["--client-rate", "1e300"], "--client-rate is 1e+300: a learning rate is above 0"),
        (["--watch", "nosuch"], "--watch nosuch: there is no such detector"),
        (["--watch", ""], "--watch '': there is no such detector"),
        (["--data", "celeba"], "celeba makes no sense at profile tiny: add --profile gpu or paper"),
        (["--data", "celeba", "--profile", "gpu"], "must be downloaded by hand"),
        (["--data", "orl_faces", "--profile", "gpu"], "SPLITLAB_OFFLINE forbids downloading it"),
        (["--data", "cifar10", "--profile", "paper"], "SPLITLAB_OFFLINE forbids downloading it"),
    ],
)
def test_wrong_requests_get_one_sentence(capsys, monkeypatch, arguments, sentence):
    monkeypatch.delenv("SPLITLAB_DATA", raising=False)
    assert cli.main(["attack", "fsha", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["attack"], ["data"], ["data", "steal"], ["atack"]])
def test_without_a_command_that_is_known_the_known_ones_are_listed(capsys, arguments):
    with pytest.raises(SystemExit) as status:
        cli.main(arguments)
    assert status.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and "usage: splitlab" in err
    last = err.splitlines()[-1]
    assert last.startswith("splitlab") and ("required" in last or "invalid choice" in last)


HUGE = "1" + 30 * "0"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["attack", "fsha", "--cut", "9"], "argument --cut: invalid choice: 9"),
        (["attack", "fsha", "--precision", "half"], "argument --precision: invalid choice: 'half'"),
        (["attack", "fsha", "--profile", "huge"], "invalid choice: 'huge'"),
        (["attack", "fsha", "--steps", "1e3"], "argument --steps: '1e3' is not a whole number"),
        (["attack", "fsha", "--steps"], "argument --steps: expected one argument"),
        (["attack", "fsha", "--stpes", "3"], "unrecognized arguments: --stpes 3"),
        (["attack", "fsha", "--seed", "1.5"], "argument --seed: '1.5' is not a whole number"),
        (["attack", "fsha", "--seed", HUGE], "is too large: choose a whole number of at most 18"),
        (["attack", "fsha", "--seed", f"-{HUGE}"], "is too large: choose a whole number"),
        (["attack", "fsha", "--seed", 5000 * "9"], "is not a whole number"),
        (["attack", "fsha", "--client-rate", "fast"], "--client-rate: 'fast' is not a number"),
        (["attack", "client-gan", "--seed", HUGE], "is too large: choose a whole number"),
        (["attack", "client-gan", "--target", "one"], "argument --target: 'one' is not a whole"),
        (["attack", "client-gan", "--profile", "gpu"], "invalid choice: 'gpu'"),
        (["claims", "nosuch", "--seed", "x"], "argument --seed: 'x' is not a whole number"),
        (["doctor", "--profile", "huge"], "invalid choice: 'huge'"),
    ],
)
def test_arguments_that_cannot_be_read_get_one_line(capsys, arguments, sentence):
    with pytest.raises(SystemExit) as status:
        cli.main(arguments)
    assert status.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and sentence in err and "--help`" in err
    assert len(err.splitlines()) == 1 and len(err) < 400


@pytest.mark.parametrize("seed", ["-1", "-999999999999999999"])
def test_any_seed_of_18_digits_works(capsys, seed):
    for attack in (["fsha", "--steps", "1"], ["client-gan", "--rounds", "1"]):
        assert cli.main(["attack", *attack, "--seed", seed, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["seed"] == int(seed)


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
    out = capsys.readouterr().out
    result = json.loads(out)
    assert out.count("\n") == 1
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
        (["--honest", "21"], "and each client needs a batch of 32: choose at most 20"),
        (["--honest", HUGE[:18]], "digits has 643 private images"),
        (["--scale", "0"], "scale is 0.0: choose a finite number above 0"),
        (["--profile", "paper"], "digits makes no sense at profile paper"),
        (["--data", "orl_faces"], "orl_faces makes no sense at profile tiny: add --profile paper,"),
        (["--device", "toaster"], "there is no device 'toaster'"),
    ],
)
def test_wrong_requests_to_the_client_side_gan_get_one_sentence(capsys, arguments, sentence):
    assert cli.main([*GAN, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
