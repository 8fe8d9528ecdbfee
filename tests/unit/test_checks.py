"""What all checks share: how they call a student's function, and how they answer."""

import linecache
import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from splitlab.core.tables import Table
from splitlab.course.checks import CheckFailed, NotWrittenYet, Score
from splitlab.course.checks.base import (
    Answer,
    check,
    expect_number,
    expect_right,
    expect_tensor,
    same,
    twin,
    what,
    wrong,
)

SCORE = Score(2.5, Table(["way", "score"], [["yours", 2.5]]))


@check("twice is twice.")
def double(answer):
    """`double(x)`."""
    if answer(torch.ones(())) != 2:
        wrong("it is not twice x")


@check()
def open_ended(answer):
    """`open_ended()`."""
    answer()
    return SCORE


def from_a_cell(source, name):
    """Define a function as a notebook does, where its lines can be looked up."""
    source = textwrap.dedent(source)
    place = f"<cell of {name}>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    space = {"torch": torch}
    exec(compile(source, place, "exec"), space)
    return space[name]


# --- Answer -----------------------------------------------------------------------------------


def test_an_answer_passes_arguments_and_result_through():
    assert Answer(lambda a, b=0: (a, b), "f")(1, b=2) == (1, 2)


@pytest.mark.parametrize("thing", [3, torch.ones(2), None])
def test_what_is_no_function_is_refused(thing):
    with pytest.raises(CheckFailed, match=r"write check\.f\(f\), without parentheses"):
        Answer(thing, "f")


def test_a_stub_is_told_apart_from_a_mistake():
    def stub():
        raise NotImplementedError("f is not written yet")

    with pytest.raises(NotWrittenYet, match=r"^f is not written yet; put your code"):
        Answer(stub, "f")()


def test_an_operation_that_torch_does_not_have_is_no_stub():
    def rounds():
        raise NotImplementedError("\"round_vml_cpu\" not implemented for 'Byte'")

    with pytest.raises(CheckFailed, match="stopped with NotImplementedError") as caught:
        Answer(rounds, "f")()
    assert not isinstance(caught.value, NotWrittenYet)


def test_a_forgotten_return_is_named():
    def forgets():
        3  # noqa: B018

    with pytest.raises(CheckFailed, match="f returns nothing: end it with a return"):
        Answer(forgets, "f")()


def test_a_function_that_acts_may_return_nothing():
    done = []
    assert Answer(done.append, "f").act(3) is None
    assert done == [3]
    with pytest.raises(CheckFailed, match="stopped with TypeError"):
        Answer(done.append, "f").act()


def test_an_error_is_told_with_the_students_own_line():
    function = from_a_cell(
        """
        def f(z):
            a = z.detach()
            return a.reshape(7)  # too many
        """,
        "f",
    )
    with pytest.raises(CheckFailed) as caught:
        Answer(function, "f")(torch.ones(3))
    assert str(caught.value).startswith("f stopped with RuntimeError: shape '[7]' is invalid")
    assert str(caught.value).endswith("at `return a.reshape(7)  # too many`")
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_line_is_the_innermost_of_the_students_own():
    function = from_a_cell(
        """
        def helper(z):
            return torch.cat(z, z)

        def f(z):
            return helper(z)
        """,
        "f",
    )
    with pytest.raises(CheckFailed, match=r"at `return torch\.cat\(z, z\)`$"):
        Answer(function, "f")(torch.ones(3))


def test_an_error_of_a_function_without_source_is_told_without_a_line():
    with pytest.raises(CheckFailed, match=r"^f stopped with TypeError: [^`]*$"):
        Answer(len, "f")(3)


def test_other_arguments_than_the_exercise_gives():
    with pytest.raises(CheckFailed, match=r"stopped with TypeError: .* 0 positional arguments"):
        Answer(lambda: 1, "f")(3)


def test_a_long_error_is_cut_to_one_line():
    def fails():
        raise ValueError("many\nlines\n" * 100)

    with pytest.raises(CheckFailed) as caught:
        Answer(fails, "f")()
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("f stopped with ValueError: many lines many lines")
    assert len(message) < 300
    assert "…" in message


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_the_stop_button_stops(stop):
    def interrupted():
        raise stop

    with pytest.raises(stop):
        Answer(interrupted, "f")()


def test_what_a_helper_of_the_check_says_goes_through():
    def ask():
        wrong("z was sent with its graph")

    with pytest.raises(CheckFailed, match=r"^z was sent with its graph$"):
        Answer(lambda: ask(), "f")()


# --- check ------------------------------------------------------------------------------------


def test_a_right_answer_is_praised(capsys):
    assert double(lambda x: 2 * x) is None
    assert capsys.readouterr().out == "Passed: twice is twice.\n"


def test_a_wrong_answer_is_told_and_not_praised(capsys):
    with pytest.raises(CheckFailed, match=r"^it is not twice x$"):
        double(lambda x: 3 * x)
    assert capsys.readouterr().out == ""


def test_a_score_is_returned_without_a_verdict(capsys):
    assert open_ended(lambda: 1) is SCORE
    assert capsys.readouterr().out == ""


def test_a_check_keeps_its_name_and_its_text():
    assert (double.__name__, double.__doc__) == ("double", "`double(x)`.")


def test_messages_carry_the_exercises_name():
    with pytest.raises(CheckFailed, match=r"write check\.double"):
        double(2)


def test_a_check_draws_the_same_numbers_each_time_and_leaves_the_stream_as_it_was():
    drawn = []

    @check()
    def draws(answer):
        drawn.append(torch.rand(3))
        answer()

    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    draws(lambda: torch.rand(100))
    torch.manual_seed(99)
    draws(lambda: 1)
    assert torch.equal(drawn[0], drawn[1])
    torch.manual_seed(5)
    draws(lambda: torch.manual_seed(7))
    assert torch.equal(torch.rand(2), expected)


def test_the_stream_is_left_as_it_was_by_a_failing_check_too():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises(CheckFailed):
        double(lambda x: torch.rand(()))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("outside", [True, False])
def test_gradients_are_on_inside_and_as_before_outside(outside):
    modes = []

    def looks(x):
        modes.append(torch.is_grad_enabled())
        torch.set_grad_enabled(False)
        return 2 * x

    with torch.set_grad_enabled(outside):
        double(looks)
        assert torch.is_grad_enabled() == outside
    assert modes == [True]


# --- expect_tensor, same, twin, what ----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shape", "sentence"),
    [
        (3.0, (), "dz should be a tensor and is a float"),
        (None, (), "dz should be a tensor and is nothing"),
        ((torch.ones(1),), (1,), "dz should be a tensor and is a tuple of 1"),
        (torch.ones(2, 3), (3, 2), r"dz has shape \(2, 3\) where \(3, 2\) is expected$"),
        (torch.ones(2), (), r"where \(\) is expected: one number, the mean over the batch"),
        (torch.ones(2).long(), (2,), "dz should hold floating-point numbers and holds torch.int64"),
        (torch.tensor([1.0, torch.nan]), (2,), "dz is not finite"),
        (torch.tensor([1.0, torch.inf]), (2,), "dz is not finite"),
    ],
)
def test_what_is_not_the_expected_tensor(value, shape, sentence):
    with pytest.raises(CheckFailed, match=sentence):
        expect_tensor(value, "dz", shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_expected_tensor_is_returned_itself(dtype):
    value = torch.ones(2, 3, dtype=dtype)
    assert expect_tensor(value, "dz", torch.Size((2, 3))) is value
    assert expect_tensor(value, "dz", (2, 3)) is value


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), torch.tensor(0.5), torch.ones(()) / 2])
def test_a_number_of_any_kind_is_returned_as_a_float(value):
    number = expect_number(value, "the share")
    assert type(number) is float
    assert number == 0.5


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (torch.ones(2), r"the share has shape \(2,\): return one number"),
        (torch.ones(1), r"the share has shape \(1,\): return one number"),
        ("0.5", "the share should be a number and is a str"),
        ((0.5,), "the share should be a number and is a tuple"),
        (1j, "the share should be a number and is a complex"),
        (math.nan, "the share is nan: look for a division by 0"),
        (torch.tensor(math.inf), "the share is inf: look for a division by 0"),
    ],
)
def test_what_is_no_number_is_refused(value, sentence):
    with pytest.raises(CheckFailed, match=sentence):
        expect_number(value, "the share")


def test_infinity_may_be_a_number():
    assert expect_number(torch.tensor(math.inf), "the ratio", finite=False) == math.inf
    assert math.isnan(expect_number(math.nan, "the ratio", finite=False))
    with pytest.raises(CheckFailed, match="should be a number"):
        expect_number("inf", "the ratio", finite=False)


def expect_squares(*values):
    """Expect the squares of 2 and 3, beside named mistakes."""
    cases = [(torch.tensor(2.0),), (torch.tensor(3.0),)]
    mistakes = [("it is doubled", lambda x: 2 * x), ("it is x", lambda x: x)]
    tensors = [torch.tensor(value) for value in values]
    expect_right(tensors, cases, torch.square, mistakes, "it is no square")


def test_right_values_are_accepted():
    expect_squares(4.0, 9.0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((4.0, 6.0), "it is doubled"),  # 2 x 2 is right as well: every case must fit
        ((2.0, 3.0), "it is x"),
        ((2.0, 6.0), "it is no square"),
        ((4.0, 9.1), "it is no square"),
    ],
)
def test_wrong_values_get_the_mistake_that_explains_all_of_them(values, sentence):
    with pytest.raises(CheckFailed, match=f"^{sentence}$"):
        expect_squares(*values)


def test_same_numbers_up_to_rounding():
    a = torch.rand(3, 4, dtype=torch.float64)
    assert same(a, a + 1e-12)
    assert not same(a, a + 1e-7)
    assert not same(a + 1e-7, a)
    assert same(a, a + 1e-7, tolerance=1e-6)


def test_same_is_relative_to_the_largest_number():
    a = torch.tensor([1e6, 1.0], dtype=torch.float64)
    assert same(a + 1e-5, a)
    assert not same(a + 1e-2, a)


def test_small_numbers_are_compared_as_they_are():
    assert same(torch.full((2,), 1e-12), torch.zeros(2))
    assert same(torch.full((2,), 1e-12), torch.full((2,), 2e-12))


def test_same_wants_one_shape_and_takes_empty_tensors():
    assert not same(torch.ones(2, 1), torch.ones(2))
    assert not same(torch.ones(1), torch.ones(3))
    assert same(torch.ones(0), torch.ones(0))


def test_no_number_is_the_same_as_one_that_is_none():
    assert not same(torch.tensor([torch.nan]), torch.ones(1))


def test_a_twin_shares_nothing():
    net = nn.Linear(2, 2)
    copy = twin(net)
    assert torch.equal(copy.weight, net.weight)
    with torch.no_grad():
        copy.weight += 1
    assert not torch.equal(copy.weight, net.weight)


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "nothing"), (1, "an int"), ([1, 2], "a list of 2"), (torch.ones(1), "a Tensor")],
)
def test_a_value_is_named(value, words):
    assert what(value) == words


def test_a_score_shows_its_table():
    assert repr(SCORE) == str(SCORE.table)
    assert SCORE._repr_html_() == SCORE.table._repr_html_()


# --- In a notebook ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """What a real IPython prints for some cells, run in a process of its own."""
    script = tmp_path_factory.mktemp("shell") / "cells.py"
    script.write_text(
        textwrap.dedent(
            """
            from IPython.core.interactiveshell import InteractiveShell

            shell = InteractiveShell()
            shell.history_manager.enabled = False
            cells = [
                '''from splitlab.course.checks.base import check, wrong, Score
            @check("good.")
            def double(answer):
                if answer(1) != 2:
                    wrong("it is not twice x")
                ''',
                '''def double_(x):
                y = x * 3
                return y.detach()
                ''',
                "double(lambda x: 3 * x)",
                "double(double_)",
                "double(lambda x: 2 * x)",
                "1 / 0",
            ]
            for number, cell in enumerate(cells):
                print(f"=== {number}", flush=True)
                shell.run_cell(cell, store_history=False)
            """
        )
    )
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "IPYTHONDIR": str(script.parent), "NO_COLOR": "1"},
    )
    return [part.split("\n", 1)[1].strip() for part in run.stdout.split("=== ")[1:]]


def test_ipython_shows_one_sentence_and_no_traceback(shell):
    assert shell[2] == "Not yet: it is not twice x"


def test_ipython_knows_the_line_of_a_cell(shell):
    assert shell[3] == (
        "Not yet: double stopped with AttributeError: 'int' object has no attribute 'detach', "
        "at `return y.detach()`"
    )


def test_ipython_shows_praise_and_other_errors_as_usual(shell):
    assert shell[4] == "Passed: good."
    assert "Traceback" in shell[5]
    assert "ZeroDivisionError" in shell[5]
