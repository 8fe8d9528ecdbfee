"""The mutation gate: a check passes what is right, and lets no mistake and no mutant through.

Of each exercise the solution, all mistakes, half of the other right answers and a third of the
mutants are tried, other ones at each commit, and all where SPLITLAB_ALL is set (see `rotation`).
"""

import math
import signal
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest
import rotation
from bank import Bank
from mutants import mutants

from splitlab.course import editions, runner
from splitlab.course.checks import CheckFailed

ROOT = Path(__file__).parents[2]
_FOUND = [import_module(path.stem).bank for path in Path(__file__).parent.glob("bank_*.py")]
BANKS: dict[str, Bank] = {bank.chapter: bank for bank in sorted(_FOUND, key=lambda b: b.chapter)}
MASTERS = {path.stem: runner.read(path) for path in editions.masters(ROOT)}
EXERCISES = [
    pytest.param(stem, exercise, id=f"{stem.split('_')[0]}-{exercise.name}")
    for stem, master in MASTERS.items()
    for exercise in editions.exercises(master, stem)
]
SHORT = ("12_other_protocols", "22_unsplit", "34_hijack_taken_apart")
SECONDS = 60  # a mutant may loop for ever
PARTS = 3  # of an exercise's mutants
EQUIVALENTS = 0.1  # the largest part of the mutants that may stand in the list of equivalents

each_exercise = pytest.mark.parametrize(("stem", "exercise"), EXERCISES)


class TooLong(BaseException):
    """Out of time; no `except Exception` in an answer holds it up."""


@contextmanager
def at_most(seconds):
    def stop(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def namespaces():
    """What the cells before the first exercise define, by master."""
    made = {}
    for stem, master in MASTERS.items():
        made[stem] = {}
        for cell in master.cells:
            if "card" in runner.tags(cell):
                break
            if cell.cell_type == "code" and "remove-cell" not in runner.tags(cell):
                exec(cell.source, made[stem])
    return made


@pytest.fixture
def verdict(stem, exercise, namespaces):
    """Check a function, or a source: return (message or None, score)."""
    check = getattr(BANKS[stem].checks, exercise.name)

    def run(answer):
        if isinstance(answer, str):
            space = dict(namespaces[stem])
            exec(answer, space)
            answer = space[exercise.name]
        try:
            with at_most(SECONDS):
                score = check(answer)
        except CheckFailed as failure:
            return str(failure), -math.inf
        except TooLong:
            return "took too long", -math.inf
        return None, score.value if score is not None else 0.0

    return run


@each_exercise
def test_right_answers_that_are_written_otherwise_pass(stem, exercise, verdict):
    others = [function for name, function in BANKS[stem].right if name == exercise.name]
    assert len(others) >= 2, "two right answers that are written otherwise belong into the bank"
    for answer in rotation.share(others, 2):
        message, _ = verdict(answer)
        assert message is None, answer.__name__


@each_exercise
def test_each_likely_mistake_gets_its_message_and_help(stem, exercise, verdict):
    mistakes = [entry[1:] for entry in BANKS[stem].mistakes if entry[0] == exercise.name]
    assert len(mistakes) >= 3, "three likely mistakes belong into the bank"
    messages = []
    for function, expected in mistakes:
        message, _ = verdict(function)
        assert message is not None, f"{function.__name__} passes"
        assert expected in message, function.__name__
        assert any(key in message for key in exercise.keys), f"no help for: {message}"
        messages.append(message)
    for key in exercise.keys:
        assert any(key in message for message in messages), f"help for what nobody gets: {key}"


@pytest.mark.filterwarnings("ignore::UserWarning")  # a mutant may do what torch warns of
@each_exercise
def test_the_solution_passes_and_no_mutant_does_but_for_the_equivalent_ones(
    stem, exercise, verdict, kill_rate
):
    message, best = verdict(exercise.source)
    assert message is None, "the solution does not pass"
    made = mutants(exercise.source, exercise.name)
    whats = rotation.share(dict.fromkeys(mutant.what for mutant in made), PARTS)
    tried = [mutant for mutant in made if mutant.what in whats]
    passed = set()
    for mutant in tried:
        message, score = verdict(mutant.source)
        if message is None and score >= best:
            passed.add(mutant.what)
    kill_rate(stem, exercise.name, len(tried), len(passed))
    reasons = {w: why for (n, w), why in BANKS[stem].equivalents.items() if n == exercise.name}
    assert not passed - set(reasons), "these mutants pass the check"
    assert not set(reasons) & set(whats) - passed, (
        "these stand in the list of equivalents and do not pass"
    )
    unknown = set(reasons) - {mutant.what for mutant in made}
    assert not unknown, "these stand in the list of equivalents and are no mutants"
    assert all(len(why.split()) >= 4 for why in reasons.values()), "an equivalent needs a reason"
    assert len(made) >= 5, "too few mutants to mean anything"
    assert len(reasons) <= EQUIVALENTS * len(made)


@each_exercise
def test_the_stub_is_told_in_a_friendly_way(stem, exercise, verdict):
    name = exercise.name
    stub = editions.REGION.sub(
        lambda m: editions.STUB.format(name=name, **m.groupdict()), exercise.source
    )
    assert verdict(stub)[0].startswith(f"{name} is not written yet")


@each_exercise
def test_what_is_no_function_is_told_so(stem, exercise, verdict):
    assert "wants the function itself" in verdict(3)[0]


def test_there_is_a_bank_for_every_master():
    assert set(BANKS) == set(MASTERS)


@pytest.mark.parametrize("stem", BANKS)
def test_the_bank_names_exercises_that_exist(stem):
    bank = BANKS[stem]
    names = {name for name, *_ in [*bank.right, *bank.mistakes, *bank.equivalents]}
    assert names <= {exercise.name for exercise in editions.exercises(MASTERS[stem], stem)}


@pytest.mark.parametrize("stem", MASTERS)
def test_stars_ascend_and_a_chapter_has_five_exercises_from_one_to_four(stem):
    """A short page has three or more, of any difficulty."""
    stars = [exercise.stars for exercise in editions.exercises(MASTERS[stem], stem)]
    assert stars == sorted(stars)
    if stem in SHORT:
        assert len(stars) >= 3
    else:
        assert len(stars) == 5
        assert {1, 4} <= set(stars)
