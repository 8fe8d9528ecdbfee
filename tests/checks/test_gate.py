"""The mutation gate: a check passes what is right, and lets no mistake and no mutant through.

Of each exercise all mistakes, half of the right answers, and a quarter of the slips and of the
mutants are tried, other ones at each commit, and all where SPLITLAB_ALL is set (see `rotation`).
"""

import inspect
import math
from importlib import import_module
from pathlib import Path

import pytest
import rotation
import torch
from bank import Bank
from mutants import mutants
from replays import remembered
from spoilers import spoilers
from variants import variants

from splitlab.course import editions, runner
from splitlab.course.checks.judge import Exercise

ROOT = Path(__file__).parents[2]
_FOUND = [import_module(path.stem).bank for path in Path(__file__).parent.glob("bank_*.py")]
BANKS: dict[str, Bank] = {bank.chapter: bank for bank in sorted(_FOUND, key=lambda b: b.chapter)}
MASTERS = {path.stem: runner.read(path) for path in editions.masters(ROOT)}
EXERCISES = [
    pytest.param(stem, exercise, id=f"{stem.split('_')[0]}-{exercise.name}")
    for stem, master in MASTERS.items()
    for exercise in editions.exercises(master, stem)
]
SHORT = (
    "12_other_protocols",
    "22_unsplit",
    "34_hijack_taken_apart",
    "41_client_gan",
    "42_poisoning",
    "53_defenses_that_watch",
    "54_adaptive_attacker",
)
PARTS = 4  # of an exercise's mutants
EQUIVALENTS = 0.1  # the largest part of the mutants that may stand in the list of equivalents

# What is left to the answer: the mode of a network that arrives in the other one, and how numbers
# are drawn where they have to be.
ALLOWED = {
    **dict.fromkeys(
        ("client_turn", "server_turn", "joint_turn"), ("with_networks_in_the_other_mode",)
    ),
    "gradient_penalty": ("with_a_random_draw",),
}

# Of the module's scope: then the tests of an exercise run in a row and share what is played once.
each_exercise = pytest.mark.parametrize(("stem", "exercise"), EXERCISES, scope="module")


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


@pytest.fixture(scope="module")
def check(stem, exercise):
    """The exercise's check; where all is asked for, it plays everything anew for each answer."""
    found = getattr(BANKS[stem].checks, exercise.name)
    if isinstance(found, Exercise) and not rotation.everything():
        with remembered(found):
            yield found
    else:
        yield found


@pytest.fixture
def function_of(stem, exercise, namespaces):
    """Return the function that a source defines."""

    def run(source):
        space = dict(namespaces[stem])
        exec(source, space)
        return space[exercise.name]

    return run


@each_exercise
def test_right_answers_pass_in_any_style(stem, exercise, check, function_of, rates):
    others = [function for name, function in BANKS[stem].right if name == exercise.name]
    assert len(others) >= 2, "two right answers that are written otherwise belong into the bank"
    solution, closed = function_of(exercise.source), isinstance(check, Exercise)
    tried = [(answer.__name__, answer) for answer in rotation.share(others, 2)]
    tried += rotation.share([*variants(solution)], 2) if closed else [("the solution", solution)]
    verdicts = {name: check.verdict(answer) for name, answer in tried}
    if closed:
        verdicts |= {
            f"{name}, float32": check.verdict(answer, torch.float32)
            for name, answer in rotation.share([*variants(solution)], 2)
        }
    refused = {name: v.message for name, v in verdicts.items() if not v.passed}
    rates(stem, exercise.name, right=len(verdicts), refused=len(refused))
    assert not refused


@each_exercise
def test_each_slip_and_each_mistake_gets_its_message(stem, exercise, check, function_of):
    slips = getattr(check, "slips", {})
    for message in rotation.share(slips, PARTS):
        assert check.verdict(slips[message]).message == message
    general = getattr(check, "otherwise", "")
    messages = [*slips, *(general.values() if isinstance(general, dict) else [general])]
    mistakes = [entry[1:] for entry in BANKS[stem].mistakes if entry[0] == exercise.name]
    for function, expected in mistakes:
        verdict = check.verdict(function)
        assert not verdict.passed, function.__name__
        assert expected in verdict.message, function.__name__
        messages.append(verdict.message)
    assert len(messages) >= 3, "three slips or mistakes belong to an exercise"
    if isinstance(check, Exercise):
        harms = {name: spoiled for name, spoiled in spoilers(function_of(exercise.source))}
        for name, spoiled in harms.items():
            verdict = check.verdict(spoiled)
            if spoiled.done and name not in ALLOWED.get(exercise.name, ()):
                assert not verdict.passed, name
                messages.append(verdict.message)
        assert sum(spoiled.done for spoiled in harms.values()) >= 2, "hardly anything was spoiled"
    for key in exercise.keys:
        assert any(key in message for message in messages), f"help for what nobody gets: {key}"


@pytest.mark.filterwarnings("ignore::UserWarning")  # a mutant may do what torch warns of
@each_exercise
def test_the_solution_passes_and_no_mutant_does_but_for_the_equivalent_ones(
    stem, exercise, check, function_of, rates
):
    def value(source):
        try:
            verdict = check.verdict(function_of(source))
        except Exception:  # a mutant that cannot even be defined
            return -math.inf
        if not verdict.passed:
            return -math.inf
        return verdict.score.value if verdict.score else 0.0

    best = value(exercise.source)
    assert best > -math.inf, "the solution does not pass"
    made = mutants(exercise.source, exercise.name)
    whats = rotation.share(dict.fromkeys(mutant.what for mutant in made), PARTS)
    tried = [mutant for mutant in made if mutant.what in whats]
    passed = {mutant.what for mutant in tried if value(mutant.source) >= best}
    rates(stem, exercise.name, mutants=len(tried), passed=len(passed))
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
def test_the_stub_is_told_in_a_friendly_way(exercise, check, function_of):
    name = exercise.name
    stub = editions.REGION.sub(
        lambda m: editions.STUB.format(name=name, **m.groupdict()), exercise.source
    )
    assert check.verdict(function_of(stub)).message.startswith(f"{name} is not written yet")


@each_exercise
def test_what_is_no_function_is_told_so(check):
    assert "wants the function itself" in check.verdict(3).message


@each_exercise
def test_a_reference_takes_what_the_exercise_asks_for(exercise, check, function_of):
    if isinstance(check, Exercise):
        names = list(inspect.signature(function_of(exercise.source)).parameters)
        assert check.parameters == names


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
