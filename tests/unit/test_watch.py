"""The shell's hijack under the eyes of detectors: what it says at an alarm, and without one."""

import json
import re

import pytest

import splitlab as sl
from splitlab.course import cli, watch
from splitlab.referee.metrics import METRICS

pytestmark = pytest.mark.usefixtures("short_referee")
FSHA = ["attack", "fsha"]


def run(capsys, *arguments):
    assert cli.main([*FSHA, *map(str, arguments)]) == 0
    return capsys.readouterr().out


def as_json(capsys, *arguments):
    return json.loads(run(capsys, "--json", *arguments))


def without_seconds(text):
    return re.sub(r"\d+\.\d s on", "s on", text)


@pytest.mark.parametrize(
    ("name", "step", "evidence"),
    [
        ("splitguard", 23, r"false batches so far: 1; the score is 0\.\d\d, because they"),
        ("scrutinizer", 10, r"gradients of one class have mean similarity 0\.\d\d and of two"),
    ],
)
def test_an_alarm_stops_the_client_and_is_shown_with_step_and_evidence(
    capsys, name, step, evidence
):
    out = run(capsys, "--steps", 60, "--watch", name)
    assert f"\nAlarm of {name} at step {step} of 60 (the first is step 0); the client st" in out
    kind = type(watch.MADE[name]()).__name__
    assert re.search(rf"\nEvidence: step {step}: {evidence}.*; {kind} alarms below 0\.\d+\.\n", out)
    assert re.search(rf": stopped at step {step} of 60 after \d+\.\d s on cpu in float32; ", out)
    crossed = re.search(r"\n(\d+) of 643 private images had crossed by the alarm", out)
    assert 32 * step / 2 < int(crossed[1]) <= 32 * (step + 1)
    assert "\nthe z received by the alarm " in out
    assert "\nnew z, of f now " in out
    assert "keeps the transcript" in out
    attack, now = (re.search(rf"\n{row} +(.+)", out)[1] for row in ("attack", "new z, of f now"))
    assert attack.split() == now.split()


def test_no_alarm_is_said_in_a_sentence_and_all_that_crossed_is_counted(capsys):
    out = run(capsys, "--steps", 30, "--watch", "features", "--watch", "norm", "--norm-limit", 1e9)
    assert "\nNo alarm in 30 steps: features, norm.\n" in out
    crossed = re.search(r"\n(\d+) of 643 private images had crossed by the end\.\n", out)
    assert int(crossed[1]) >= 640, "an epoch is twenty batches of 32"
    assert re.search(r"\. (49[789]|500) of the 500 scored images had crossed; any other", out)
    assert ": 30 steps in " in out
    assert "by the alarm" not in out
    assert "transcript" not in out


def test_json_has_what_was_lost_by_the_alarm(capsys):
    result = as_json(capsys, "--steps", 40, "--seed", 1, "--watch", "rank")
    assert result["steps"] == 40
    found = result["watch"]
    assert list(found) == ["detectors", "alarm", "sent", "of", "received"]
    evidence = "step 0: the gradient has 50% of the largest possible rank; GradientRank alarms"
    assert found["alarm"].pop("evidence").startswith(evidence)
    assert found["alarm"] == {"detector": "rank", "step": 0}
    assert found["detectors"] == ["rank"]
    assert (found["sent"], found["of"]) == (32, result["images"]["private"])
    assert tuple(found["received"]) == METRICS
    assert found["received"] != {name: result["rows"]["attack"][name] for name in METRICS}


def test_the_first_alarm_of_any_detector_stops_the_run(capsys):
    names = ("splitguard", "splitout", "norm", "scrutinizer", "features", "norm")
    asked = [part for name in names for part in ("--watch", name)]
    result = as_json(capsys, "--steps", 40, *asked, "--norm-limit", 1e-9)
    assert result["watch"]["detectors"] == list(names[:-1])
    assert result["watch"]["alarm"]["detector"] == "norm"
    assert result["watch"]["alarm"]["step"] == 0
    assert "NormAlarm alarms outside of 0 to 1e-09" in result["watch"]["alarm"]["evidence"]


def test_detectors_that_only_look_change_neither_run_nor_report(capsys):
    seen = as_json(capsys, "--steps", 12, "--watch", "norm", "--norm-limit", 1e9)
    plain = as_json(capsys, "--steps", 12)
    assert seen.pop("watch")["alarm"] is None
    assert seen.pop("seconds") > 0 < plain.pop("seconds")
    assert seen == plain


def test_without_a_detector_the_output_is_the_card_the_run_and_the_report(capsys):
    out = without_seconds(run(capsys, "--steps", 4, "--seed", 2))
    private, public, referee = sl.tiny.split("digits", 2)
    client = sl.Client(sl.tiny.client_net(seed=2), private, **sl.tiny.client(seed=2))
    attack = sl.FSHA.at(sl.tiny, public, steps=4, seed=2)
    sl.train([client], attack, 4)
    report = sl.evaluate(client, attack, referee)
    assert out == (
        f"{attack.threat}\n\ndigits at profile tiny, fast design, cut 2, seed 2: 4 steps in s on "
        f"cpu in float32; client: Adam at 0.001.\n{len(private)} private and {len(public)} public "
        f"images.\n\n{report}\n"
    )
    result = as_json(capsys, "--steps", 4, "--seed", 2)
    assert " ".join(result) == (
        "attack data profile seed steps seconds device precision goal n rows further notes design "
        "cut client_rate images"
    )
    assert {name: result[name] for name in ("rows", "further")} == {
        name: json.loads(report.to_json())[name] for name in ("rows", "further")
    }


def test_the_detectors_are_the_librarys_at_their_defaults():
    made = watch.detectors(watch.DETECTORS, None, sl.tiny, cut=3, classes=2, seed=7)
    assert [type(one).__name__ for one in made] == [
        *("SplitGuard", "NormAlarm", "GradientScrutinizer", "SplitOut", "FeatureTest"),
        "GradientRank",
    ]
    thresholds = [one.threshold for one in made]
    assert thresholds == [0.9, 0.06, 0.5, 1.5, 0.3, 0.75]
    assert all(one.stop for one in made)
    z = sl.tiny.client_net(cut=3)(sl.tiny.split("digits", 0).private.x[:4])
    assert made[3].server_net(z).shape == (4, 2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--watch", "norms"], "--watch norms: there is no such detector; choose from splitguard,"),
        (["--watch", "rank", "--watch", "X"], "--watch X: there is no such detector"),
        (["--watch", "loss"], "--watch loss needs the U-shaped protocol"),
        (["--watch", "rank", "--norm-limit", "1"], "--norm-limit is the limit of --watch norm"),
        (["--norm-limit", "1"], "--norm-limit is the limit of --watch norm"),
        (["--watch", "norm", "--norm-limit", "0"], "--norm-limit is 0: choose a finite number"),
        (["--watch", "norm", "--norm-limit", "-2"], "--norm-limit is -2: choose a finite number"),
        (["--watch", "norm", "--norm-limit", "nan"], "--norm-limit is nan: choose a finite"),
        (["--watch", "norm", "--norm-limit", "inf"], "--norm-limit is inf: choose a finite"),
        (["--watch", "norm", "--profile", "gpu"], "--watch norm has no limit at profile gpu"),
        (["--watch", "norm", "--profile", "paper"], "--watch norm has no limit at profile paper"),
    ],
)
def test_wrong_requests_get_one_sentence(capsys, arguments, sentence):
    assert cli.main([*FSHA, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_help_says_that_an_alarm_is_no_failure(capsys):
    with pytest.raises(SystemExit):
        cli.main([*FSHA, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    assert ", ".join(watch.DETECTORS) in out
    assert "exit status is 0 with and without one" in out
