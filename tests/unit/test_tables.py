"""Tables in text and in HTML."""

import re

import pytest

from splitlab.core.tables import Spread, Table, numbers


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


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.25, 0.5, 12.0), ["0.250", "0.500", "12.000"]),
        ((10.4, 11.0, 12.6), ["10", "11", "13"]),
        ((6317.2, 18187.0, 45720.0), ["6,317", "18,187", "45,720"]),
        ((198265328.0, 205949440.0, 217203648.0), ["2.0e8", "2.1e8", "2.2e8"]),
        ((0.5, 3.0, 1e5), ["5.0e-1", "3.0e0", "1.0e5"]),
        ((0.0, 4.4e-16, 1e-3), ["0", "4.4e-16", "1.0e-3"]),
        ((0.0, 0.0, 4e-5), ["0", "0", "4.0e-5"]),
        ((-2e-4, 0.5, 0.75), ["-0.000", "0.500", "0.750"]),
        ((0.0, 0.0, 0.0), ["0.000", "0.000", "0.000"]),
        ((3, 300, 3000), ["3", "300", "3000"]),
        ((131328, 131328, 2_000_000), ["131,328", "131,328", "2,000,000"]),
        ((float("-inf"), 0.5, float("inf")), ["-inf", "5.0e-1", "inf"]),
    ],
)
def test_the_numbers_of_a_range_are_in_one_style(values, texts):
    assert numbers(*values) == texts


def test_cells_that_are_large_or_small_can_be_read():
    cells = [131328, 5000, 2.06e8, 45720.5, 3e-7, 0.0, float("nan"), True]
    line = str(Table((), [["x", *cells]])).split()
    assert line == ["x", "131,328", "5000", "2.1e8", "45,720.5", "3.0e-7", "0.000", "nan", "True"]


def test_a_small_number_stays_in_one_line_of_a_page():
    page = Table(("", "mse"), [("attack", 1.8e-16), ("well-e-known", Spread("1.0e-4", "0", "1"))])
    shown = page._repr_html_()
    for number in ("1.8e-16", "1.0e-4"):
        assert f'<span style="white-space:nowrap">{number}</span>' in shown
    assert shown.count("nowrap") == 2
