"""What has its turn: every part once in a round, the same part for the same turn, or all."""

from itertools import chain

import pytest
import rotation

THINGS = [f"thing {number}" for number in range(23)]


@pytest.fixture(autouse=True)
def not_all(monkeypatch):
    monkeypatch.delenv("SPLITLAB_ALL", raising=False)


@pytest.mark.parametrize("parts", [2, 3, 12, 20, 60])
def test_every_thing_has_its_turn_once_in_a_round(parts):
    rounds = [rotation.share(THINGS, parts, number) for number in range(7, 7 + parts)]
    assert sorted(chain(*rounds)) == sorted(THINGS)
    sizes = {len(part) for part in rounds}
    assert max(sizes) - min(sizes) <= 1


def test_the_turn_chooses_and_everything_is_everything(monkeypatch):
    monkeypatch.setenv("SPLITLAB_TURN", "1")
    assert rotation.share("abcde", 3) == ["b", "e"] == rotation.share("abcde", 3, 4)
    monkeypatch.setenv("SPLITLAB_ALL", "1")
    assert rotation.share("abcde", 3) == list("abcde")
    assert rotation.share("abcde", 3, 1) == ["b", "e"]


def test_parts_that_would_come_unequally_often_are_refused():
    with pytest.raises(AssertionError):
        rotation.share(THINGS, 7)


@pytest.mark.parametrize("asked", ["x", "-1", "1.5"])
def test_a_turn_is_a_whole_number(asked, monkeypatch):
    monkeypatch.setenv("SPLITLAB_TURN", asked)
    with pytest.raises(ValueError, match="whole number"):
        rotation.turn()


def test_parts_are_dealt_by_time_and_none_is_empty():
    seconds = {"a": 9, "b": 5, "c": 4, "d": 0, "e": 0}
    assert rotation.dealt(seconds, 2) == [["a", "d", "e"], ["b", "c"]]
    assert all(rotation.dealt(seconds, 5))
