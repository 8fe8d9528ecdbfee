"""Things done wrongly: one sentence says what was wrong and what to do, and nothing has changed."""

import importlib
from pathlib import Path

import pytest
from misuse import Given, Misuse

from splitlab.course.conformance.examples import everything

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES = [
    pytest.param(case, id=f"{module.removeprefix('cases_')}: {case.what}")
    for module in MODULES
    for case in importlib.import_module(module).CASES
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_answered_in_a_sentence(case: Misuse, tmp_path):
    given = Given(tmp_path)
    before = everything(case.unchanged(given)) if case.unchanged else None
    with pytest.raises(case.raises) as caught:
        case.do(given)
    assert type(caught.value) is case.raises or case.raises is not Exception
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 400, sentence
    for part in case.says:
        assert part in sentence, sentence
    if case.unchanged:
        after = everything(case.unchanged(given))
        assert [path for path in before if before[path] != after.get(path)] == []
