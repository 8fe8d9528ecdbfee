"""Tables in text and in HTML."""

import re

from splitlab.core.tables import Spread, Table


def test_text_lines_up_and_rounds():
    table = Table(["run", "error", "steps"], [["fast", 0.12345, 300], ["x", 123.456, "3,000"]])
    assert str(table).splitlines() == [
        "run   error  steps",
        "fast  0.123    300",
        "x     123.5  3,000",
    ]


def test_html_escapes_marks_headings_and_emphasis():
    page = Table(["a", "b"], [["<x>", 1], ["y", 2]], caption="c & d", strong=1)._repr_html_()
    assert "&lt;x&gt;" in page
    assert "<caption>c &amp; d</caption>" in page
    assert page.count('scope="col"') == 2
    assert page.count('scope="row"') == 2
    assert page.index("font-weight:bold") > page.index("&lt;x&gt;")


def test_a_card_has_no_head():
    card = Table((), [("who", "server"), ("goal", "images")])
    assert "<thead>" not in card._repr_html_()
    assert str(card).splitlines() == ["who   server", "goal  images"]


def test_words_stand_to_the_left_and_figures_to_the_right():
    table = Table(["", "sees", "bytes"], [["a", "z and labels", 12], ["b", "z", "3,000"]])
    assert str(table).splitlines() == [
        "   sees          bytes",
        "a  z and labels     12",
        "b  z             3,000",
    ]
    page = table._repr_html_()
    assert '<td style="text-align:left;padding:0.1em 0.4em">z and labels</td>' in page
    assert '<td style="text-align:right;padding:0.1em 0.4em">12</td>' in page


def test_a_range_follows_its_figure_in_text_and_stands_below_it_on_a_page():
    table = Table(["run", "error"], [["a", Spread("0.4", "0.3", "0.5")]])
    assert str(table).splitlines() == ["run             error", "a    0.4 (0.3 to 0.5)"]
    page = table._repr_html_()
    assert re.search(r'right;[^>]*">0.4<br><small style="[^"]*">0.3 … 0.5</small></td>', page)
    assert Spread("<", "&", ">")._repr_html_().startswith("&lt;<br>")
