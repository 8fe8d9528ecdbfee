"""The rules of claims: what they mean, and that nothing else gets in."""

import math

import pytest

from splitlab.course.rules import check_rule, is_true

FIGURES = {"a": 1.0, "b": 2.0, "zero": 0.0, "nan": math.nan}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("a < b", True),
        ("b < a", False),
        ("a <= 1", True),
        ("a >= 1.5", False),
        ("b > a", True),
        ("a == 1", True),
        ("-a < 0", True),
        ("a < b < 3", True),
        ("a < b < 2", False),
        ("a < b and b < 2", False),
        ("a < b and b < 2.5 and a == 1", True),
        ("2 * a + b / 4 - 0.5 == 2", True),
        ("a / zero > 0", False),
        ("a / zero < 0", False),
        ("nan <= 1", False),
        ("nan >= 1", False),
    ],
)
def test_a_rule_is_what_it_says(rule, expected):
    check_rule(rule, FIGURES)
    assert is_true(rule, FIGURES) is expected


@pytest.mark.parametrize(
    "rule",
    [
        *(
            "a",
            "1 < 2 or a < b",
            "not a < b",
            "a != b",
            "a in b",
            "a is b",
            "a < 'text'",
            "a < True",
        ),
        *("a ** 99 < b", "a % b < 1", "a // b < 1", "a < b if a else b", "a < b, b < a", "~a < b"),
        *("a < b and a", "(a < b) < b", "a < [b]", "a.real < b", "a[0] < b", "(a := 1) < b"),
        *("abs(a) < b", "__import__('os').getcwd() < a", "(lambda: a)() < b", "a < 1j"),
        *("a <", "", "import os", "a < b; b < a", "b < a and abs(a) < b"),
    ],
)
def test_a_rule_that_is_more_than_a_comparison_is_refused(rule):
    with pytest.raises(ValueError, match="the rule `"):
        check_rule(rule, FIGURES)
