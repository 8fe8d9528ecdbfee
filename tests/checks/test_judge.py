"""The judge itself: what it sees, what it says, and that it is not fooled cheaply."""

import gc
import inspect
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD

from splitlab.core.tables import Table
from splitlab.course.checks import CheckFailed, Score, Verdict, comparison
from splitlab.course.checks.guard import secret
from splitlab.course.checks.judge import exercise
from splitlab.course.checks.scored import expect_number, expect_tensor, scored

KEPT = {}


def scaled(factor):
    return lambda rows, weight: factor * weight * rows.norm(dim=1)


@exercise(
    cases=[lambda: (torch.randn(4, 3), 0.7), lambda: (torch.randn(1, 2), -2.0)],
    returns="the norms",
    praise="a norm is a norm.",
    otherwise="these are not the norms",
    slips={"these are squares: take the root": lambda rows, weight: weight * rows.square().sum(1)},
)
def norms(rows, weight):
    return scaled(1)(rows, weight)


def turns():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[0].bias.requires_grad_(False)
    optimizer = SGD(net.parameters(), lr=0.1, momentum=0.5)
    for size in (4, 3):
        yield net.eval(), optimizer, torch.randn(size, 3), torch.randint(2, (size,))


def learn(net, optimizer, x, y, *, mode=True, clear=True, steps=1):
    net.train(mode)
    if clear:
        optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    for _ in range(steps):
        optimizer.step()


@exercise(cases=[turns], praise="it learns.", otherwise="the step is another one")
def step(net, optimizer, x, y):
    learn(net, optimizer, x, y)


@step.slip("call zero_grad")
def uncleared(net, optimizer, x, y):
    learn(net, optimizer, x, y, clear=False)


def of_norms(answer):
    return norms.verdict(answer)


def test_a_right_answer_passes_and_is_praised():
    verdict = norms(scaled(1))
    assert verdict.passed
    assert verdict.message == "a norm is a norm."
    assert repr(verdict) == f"Passed: a norm is a norm. ({verdict.seconds:.1f} s)"


def test_a_slip_explains_what_behaves_like_it():
    verdict = of_norms(lambda rows, weight: weight * (rows * rows).sum(dim=1))
    assert repr(verdict) == "Not yet: these are squares: take the root"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda rows, weight: rows.abs().sum(1), "these are not the norms (with rows of shape (4"),
        (scaled(-1), "the norms has the wrong sign"),
        (scaled(2), "the norms has the right direction, and 2 times the right size"),
        (lambda rows, weight: None, "the norms is None: end the function with a return"),
        (lambda rows, weight: 3.0, "the norms should be a tensor and is a float"),
        (lambda rows, weight: scaled(1)(rows, weight)[:, None], "has shape (4, 1) where (4,) is"),
        (lambda rows, weight: scaled(1)(rows, weight).float(), "is rounded to torch.float32"),
        (lambda rows, weight: scaled(1)(rows, weight).half(), "is rounded to torch.float16"),
        (lambda rows, weight: scaled(1)(rows, weight) / 0, "holds nan or infinity"),
        (lambda rows, weight: rows.sub_(1).norm(dim=1), "these are not the norms"),
        (
            lambda rows, weight: scaled(1)(rows, weight) + 0 * rows.mul_(2).sum(1),
            "rows has changed: leave it as it was, and work on a copy",
        ),
        (
            lambda rows, weight: scaled(1)(rows.requires_grad_(), weight).detach(),
            "rows itself now requires a gradient",
        ),
        (
            lambda rows, weight: scaled(1)(rows.clone().requires_grad_(), weight),
            "still carries its computation graph",
        ),
        (
            lambda rows, weight: scaled(1)(rows, weight) + 0 * torch.rand(len(rows)),
            "draws random numbers where none are needed",
        ),
        (lambda rows, weight: rows.norm(dim=7), "norms stopped with IndexError"),
        (lambda rows: rows, "norms stopped with TypeError"),
    ],
)
def test_what_it_says_of_a_result(answer, sentence):
    verdict = of_norms(answer)
    assert not verdict.passed
    assert sentence in verdict.message


def in_one_buffer(rows, weight):
    buffer = KEPT.setdefault(len(rows), torch.empty(len(rows)))
    return buffer.copy_(scaled(1)(rows, weight))


def cached(rows, weight):
    return KEPT.setdefault(("cached", rows.shape), scaled(1)(rows, weight))


def test_a_buffer_and_a_cache_are_seen_at_a_later_call_of_the_same_shape():
    assert "an earlier call changes at the next call" in of_norms(in_one_buffer).message
    assert not of_norms(cached).passed


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clear": False}, "call zero_grad"),
        ({"mode": False}, "the step is another one"),
        ({"steps": 2}, "the step is another one"),
        ({"steps": 0}, "net has not moved: call zero_grad, backward and step"),
    ],
)
def test_what_it_says_of_a_step(changes, sentence):
    assert step.verdict(lambda *given: learn(*given, **changes)).message.startswith(sentence)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda net: net.eval(), "net is left in evaluation mode"),
        (lambda net: net.requires_grad_(), "frozen parameters of net require gradients now"),
        (lambda net: net[2].requires_grad_(False), "no longer require gradients"),
        (lambda net: net[1].reset_running_stats(), "running statistics"),
    ],
)
def test_what_it_says_of_what_is_left_behind(change, sentence):
    def answer(net, optimizer, x, y):
        learn(net, optimizer, x, y)
        change(net)

    assert sentence in step.verdict(answer).message


def test_a_verdict_leaves_the_random_numbers_and_the_default_type_as_they_were():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for answer in (scaled(1), lambda rows, weight: torch.manual_seed(7)):
        of_norms(answer)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


# --- Tricks -----------------------------------------------------------------------------------


class EqualsAll(torch.Tensor):
    """A tensor that says yes to every comparison, and that it has no bytes."""

    def __eq__(self, other):
        return torch.ones(self.shape, dtype=torch.bool)

    def element_size(self):
        return 0


class Liar:
    shape = (4,)

    def __eq__(self, other):
        return True

    __hash__ = None


def patches_the_comparison(rows, weight):
    comparison.same = lambda *_, **__: True
    return rows[:, 0].clone()


def patches_torch(rows, weight):
    torch.allclose = lambda *_, **__: True
    return rows[:, 0].clone()


def smuggles(rows, weight):
    torch.nn.functional.memory = rows
    return scaled(1)(rows, weight)


def asks_the_reference(rows, weight):
    return norms.reference(rows, weight)


def asks_a_frame(rows, weight):
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if hasattr(value, "reference"):
                return value.reference(rows, weight)
        frame = frame.f_back
    return rows[:, 0].clone()


def reads_the_source(rows, weight):
    from splitlab.course.checks.feature_space_hijacking import matched

    return inspect.getsource(sys.modules[matched.__class__.__module__])


def searches_memory(rows, weight):
    gc.get_objects()
    return scaled(1)(rows, weight)


def writes(rows, weight):
    with open("left.txt", "w") as file:
        file.write("something")
    return scaled(1)(rows, weight)


def prints(rows, weight):
    print("Passed: well done")
    return rows[:, 0].clone()


def leaves(rows, weight):
    sys.exit(0)


def sleeps(rows, weight):
    time.sleep(100)


def loops(rows, weight):
    while True:
        pass


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda rows, weight: rows[:, 0].as_subclass(EqualsAll), "should be a tensor and is an"),
        (lambda rows, weight: Liar(), "should be a tensor and is a Liar"),
        (
            patches_the_comparison,
            "comparison.same, which other code uses, too",
        ),
        (patches_torch, "torch.allclose, which other code uses, too"),
        (smuggles, "changes torch.nn.functional.memory"),
        (asks_the_reference, "calls a part of its own check"),
        (asks_a_frame, "calls a part of its own check"),
        (reads_the_source, "reads its own check"),
        (searches_memory, "searches the interpreter's memory"),
        (writes, "writes a file"),
        (prints, "prints a verdict of its own"),
        (leaves, "ends with SystemExit instead of a result"),
        (sleeps, "takes more than 0.2 s"),
        (loops, "takes more than 0.2 s"),
        (3, "wants the function itself, not a int: write check.norms(norms)"),
    ],
)
def test_it_is_not_fooled_cheaply(answer, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched:
        if answer in (sleeps, loops):
            patched.setattr(norms, "seconds", 0.2)
        verdict = of_norms(answer)
    assert not verdict.passed
    assert sentence in verdict.message
    assert list(tmp_path.iterdir()) == []
    assert of_norms(scaled(1)).passed


# --- Open exercises ---------------------------------------------------------------------------


@secret
def hidden():
    return torch.tensor([2.0, 3.0])


@scored(praise="it keeps to the rules.", seconds=5)
def total(answer):
    case = hidden()
    value = expect_number(answer(case), "the total")
    return Score(value, Table(["way", "total"], [["yours", value]]))


def test_an_open_exercise_shows_its_score():
    verdict = total(lambda case: case.sum())
    assert isinstance(verdict, Verdict)
    assert verdict.score.value == 5
    assert "yours" in repr(verdict)
    assert repr(verdict).endswith(f"Passed: it keeps to the rules. ({verdict.seconds:.1f} s)")
    assert verdict._repr_html_().startswith("<")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda case: hidden().sum(), "calls a part of its own check"),
        (lambda case: case, r"the total has shape (2,): return one number"),
        (lambda case: None, "total returns nothing: end it with a return"),
        (lambda case: case.zero_().sum(), "total changes its argument 1"),
        (lambda case: "5", "the total should be a number and is a str"),
        (lambda case: case.sum() / 0, "the total is inf"),
    ],
)
def test_an_open_exercise_refuses_what_breaks_its_rules(answer, sentence):
    verdict = total.verdict(answer)
    assert verdict.score is None
    assert sentence in verdict.message


def test_an_expected_tensor_is_plain_finite_and_of_its_shape():
    assert expect_tensor(torch.ones(2, 3), "z", (2, 3)).sum() == 6
    for value in (
        torch.ones(3),
        torch.ones(2, 3).long(),
        torch.ones(2, 3) / 0,
        1.0,
        torch.ones(2, 3).as_subclass(EqualsAll),
    ):
        with pytest.raises(CheckFailed, match=r"^z "):
            expect_tensor(value, "z", (2, 3))
