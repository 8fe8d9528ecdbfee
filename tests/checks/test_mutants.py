"""The mutation engine itself: which changes it makes, and that it makes all of them."""

import pytest
from mutants import mutants


def changes(body, arguments="a, b"):
    source = f"def f({arguments}):\n    {body}\n"
    return [mutant.source.split("\n    ", 1)[1] for mutant in mutants(source, "f")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return a + b", {"return a - b"}),
        ("return -a", {"return a"}),
        ("return a @ 2", {"return a @ 3", "return a @ 1"}),
        ("return a < b", {"return a <= b", "return a > b"}),
        ("return a and (not b)", {"return a or not b", "return a and b"}),
        ("return a.detach()", {"return a"}),
        ("return a.sum()", {"return a", "return a.mean()"}),
        ("return torch.cat(a)", set()),
        ("return torch.norm(a, b)", {"return torch.norm(b, a)"}),
        (
            "return a.sum(dim=1)",
            {
                "return a",
                "return a.mean(dim=1)",
                "return a.sum(dim=2)",
                "return a.sum(dim=0)",
                "return a.sum()",
            },
        ),
        (
            "return g(a, create_graph=True)",
            {
                "return g(a)",
                "return g(a, create_graph=False)",
            },
        ),
        ("a.zero_grad()", {"a", "pass"}),
        ("a += 1", {"a -= 1", "pass", "a += 2", "a += 0"}),
        ("return a * 0.5", {"return a / 0.5", "return a * 1.0", "return a * -0.5"}),
        (
            "return 1 if a else b",
            {"return 1 if not a else b"} | {f"return {n} if a else b" for n in (0, 2)},
        ),
    ],
)
def test_the_changes_of_a_statement(body, expected):
    assert set(changes(body)) == expected


def test_a_context_is_left_out_with_its_body_kept():
    source = "def f(a):\n    with torch.no_grad():\n        b = a\n    return b\n"
    assert "def f(a):\n    b = a\n    return b" in [m.source for m in mutants(source, "f")]


def test_swapping_equal_arguments_is_no_mutant():
    assert changes("return g(a, a)") == []


def test_the_docstring_and_other_functions_stay_as_they_are():
    source = 'def g():\n    return 1\n\ndef f():\n    """Return 2."""\n    return 2\n'
    sources = [mutant.source for mutant in mutants(source, "f")]
    assert len(sources) == 2
    assert all("def g():\n    return 1" in changed for changed in sources)


def test_a_mutant_says_what_it_changed():
    (mutant,) = mutants("def f(z):\n    return z.detach()\n", "f")
    assert mutant.what == "`return z.detach()` becomes `return z`"
    (left_out, _) = mutants("def f(z):\n    z.step()\n    return z\n", "f")
    assert left_out.what == "`z.step()` is left out"


def test_a_function_that_is_not_there():
    with pytest.raises(ValueError, match="no function 'g'"):
        mutants("def f():\n    return 1\n", "g")
