"""What a verdict's asserts compare: which pairs count, and with which values."""

import json
import math

import numpy as np
import pytest
import torch

from splitlab.course.comparisons import Comparison, as_json, evaluated

NAMES = {
    "found": 0.9,
    "none": None,
    "scores": {"attack": {"mse": np.float32(0.25)}, "floor": {"mse": 0.5}},
    "lost": torch.tensor(0.125),
    "one": torch.ones(1),
    "unsure": math.nan,
    "yes": True,
    "worth": np.bool_(True),
    "runs": [{"auc": 0.75}, {"auc": 1}],
}


def pairs(source, line=None, **names):
    """Each comparison in a few characters, with "!" where it does not hold."""
    return [
        f"{each.figure}={each.value:g} {each.operator} {each.bar_text}={each.bar:g}"
        + ("" if each.holds else " !")
        for each in evaluated(source, NAMES | names, line)
    ]


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("found >= 0.8", ["found=0.9 >= 0.8=0.8"]),
        ("found < -1", ["found=0.9 < -1=-1 !"]),
        ("0.95 <= found", ["found=0.9 >= 0.95=0.95 !"]),
        ("0 != found == 1", ["found=0.9 != 0=0", "found=0.9 == 1=1 !"]),
        ("lost <= 0.4 < 0.9 <= found", ["lost=0.125 <= 0.4=0.4", "found=0.9 >= 0.9=0.9"]),
        ("found > lost", ["found=0.9 > lost=0.125"]),
        ("(lost\n   < 2 * found) and (yes and found < 1)",
         ["lost=0.125 < 2 * found=1.8", "found=0.9 < 1=1"]),
        ('scores["attack"]["mse"] < scores["floor"]["mse"]',
         ['scores["attack"]["mse"]=0.25 < scores["floor"]["mse"]=0.5']),
        ("min(run['auc'] for run in runs if run['auc'] > 0) > 0.5",
         ["min(run['auc'] for run in runs if run['auc'] > 0)=0.75 > 0.5=0.5"]),
        ("len(runs[:1]) == 1 == lost.ndim + 1",
         ["len(runs[:1])=1 == 1=1", "lost.ndim + 1=1 == 1=1"]),
        ("max(0.5, 0.7) <= found", ["found=0.9 >= max(0.5, 0.7)=0.7"]),
        ("found + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 > 0",
         ["found + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 + 0 +…=0.9 > 0=0"]),
    ],
)  # fmt: skip
def test_a_comparison_of_numbers_counts(test, expected):
    assert pairs(f"assert {test}, 'a message'") == expected


@pytest.mark.parametrize(
    "test",
    [
        "yes",
        "yes == True",
        "worth == 1",
        "1 < 2",
        "not found < 1",
        "found < 1 or found > 2",
        "all(found < 1 for _ in (1, 2))",
        "found in [1]",
        "none is None",
        "none == 0",
        "one == 1",
        "unsure < 1",
        "found < float('inf')",
        "unknown < 1",
        "runs[5] < 1",
        "found < 10 ** 400",
        "found.is_integer() < 1",
        "runs.pop()['auc'] < 1",
        "int(found) == 0",
        "(found := 3) == 3",
        "(lambda: 3)() == found",
        "max(*runs[0].values()) < 1",
    ],
)
def test_what_is_no_number_or_might_change_something_is_left_out(test):
    assert pairs(f"assert {test}") == []
    assert len(NAMES["runs"]) == 2


def test_only_asserts_at_the_top_of_the_cell_count():
    source = "for _ in runs:\n    assert found < 1\nif yes:\n    assert found < 1\nfound < 1"
    assert pairs(source) == []
    assert pairs("%time\nassert found < 1") == []


def test_a_builtin_that_the_notebook_has_replaced_is_not_called():
    assert pairs("assert sum(runs) < 1", sum=lambda values: 0) == []


def test_a_name_that_has_another_value_now_is_left_out():
    assert pairs("assert found < 1\nassert lost < 1\nfound = 0.9") == ["lost=0.125 < 1=1"]
    source = "import math as found\nassert lost > 1\nlost, late = 1, 2\nassert late > 1\n"
    source += "def f():\n    assert False\nf()\nassert found < 1"
    late = {"late": 0.0}
    assert pairs(source, 2, **late) == ["lost=0.125 > 1=1 !", "found=0.9 < 1=1"]
    assert pairs(source, 3, **late) == ["found=0.9 < 1=1"], "line 3 has bound one, or has not"
    assert pairs(source, 7, **late) == ["late=0 > 1=1 !", "found=0.9 < 1=1"]
    assert pairs("x = 1\nassert found < 1\nassert x < 2", 1, x=0) == ["found=0.9 < 1=1"]


def test_the_text_that_leaves_the_kernel_is_complete():
    (row,) = json.loads(as_json("assert lost < found", NAMES, None))
    assert Comparison(**row) == Comparison("lost", 0.125, "<", 0.9, "found", True)
