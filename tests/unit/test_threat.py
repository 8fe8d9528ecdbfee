"""Cards side by side: a column each, and only what tells them apart."""

import pytest

import splitlab as sl
from splitlab.core.threat import side_by_side


def test_cards_side_by_side_show_where_they_differ():
    cards = {"honest": sl.HonestServer.threat, "passive": sl.PassiveServer.threat}
    table = side_by_side(cards)
    assert table.head == ("", "honest", "passive")
    assert [row[0] for row in table.rows] == ["who", "goal"]
    assert table.rows[0][1:] == tuple(card.who for card in cards.values())


def test_a_grant_that_only_one_has_is_shown():
    cards = {"query-free": sl.QueryFreeInversion.threat, "black-box": sl.BlackBoxInversion.threat}
    rows = {row[0]: row[1:] for row in side_by_side(cards).rows}
    assert rows["granted beyond messages"][0] == "the architecture of f"
    assert "oracle" in rows["granted beyond messages"][1]
    assert "sees" not in rows and "source" not in rows
    none = side_by_side({"passive": sl.PassiveServer.threat, "b": sl.BlackBoxInversion.threat})
    assert "nothing" in dict((row[0], row[1]) for row in none.rows)["granted beyond messages"]


def test_one_card_is_nothing_to_compare():
    with pytest.raises(ValueError, match="pass at least two"):
        side_by_side({"alone": sl.PassiveServer.threat})
