"""The reference pages: cards, notation, glossary and API name everything that there is, once."""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import splitlab as sl
from splitlab.course import api_reference, class_cards, contents, runner
from splitlab.course.conformance.examples import classes_of

ROOT = Path(__file__).parents[2]
TEXTS = {}
for _file in contents.toc_files(ROOT / "book"):
    _page = contents.page_of(ROOT, _file)
    if _page.suffix == ".md":
        TEXTS[_page.stem] = _page.read_text(encoding="utf-8")
    elif _page.parent.name == "book":
        _cells = runner.read(_page).cells
        TEXTS[_page.stem] = "\n".join(c.source for c in _cells if c.cell_type == "markdown")
NOTATION = TEXTS["94_notation"]
SYMBOLS, GLOSSARY = re.fullmatch(r"(.+)```\{glossary\}\n(.+)```\n", NOTATION, re.S).groups()
TERMS = re.findall(r"^(\w.*)$", GLOSSARY, flags=re.M)


# Cards.


def test_every_attack_and_every_defense_has_a_row_and_a_card():
    attacks = classes_of(sl.attacks, sl.Server, sl.Client)
    defenses = classes_of(sl.defenses, sl.Defense, sl.LabelDefense, sl.Server)
    for kinds, table, cards in (
        (attacks, class_cards.attack_table(), class_cards.attack_cards()),
        (defenses, class_cards.defense_table(), class_cards.defense_cards()),
    ):
        names = sorted(kind.__name__ for kind in kinds)
        assert sorted(row[0] for row in table.rows) == names
        assert sorted(card.name for card in cards) == names
        assert len(table.head) <= 6
        assert all(all(row) for row in table.rows)
        assert all(card.title.endswith(".") for card in cards)


def test_a_class_that_is_added_has_a_card(monkeypatch):
    class Sieve(sl.Defense):
        """Lets `every` second number pass.

        Args:
            every: Not told.
        """

        PROTOCOLS = ("u_shaped",)
        __module__ = "splitlab.defenses.sieve"

        def __init__(self, every: int = 2) -> None:
            self.every = every

        def smash(self, client, turn, z):
            return z

    monkeypatch.setattr(class_cards.inspect, "getmodule", lambda kind: Plain)
    monkeypatch.setattr(sl.defenses, "Sieve", Sieve, raising=False)
    monkeypatch.setattr(sl.defenses, "__all__", [*sl.defenses.__all__, "Sieve"])
    (card,) = [card for card in class_cards.defense_cards() if card.name == "Sieve"]
    assert card.title == "Lets `every` second number pass."
    assert dict(card.rows) == {
        "whose": "client",
        "works on": "z",
        "settings": "every=2",
        "protocols": "U-shaped",
        "idea": "A module with one line.",
    }
    assert "<code>every</code>" in card._repr_html_()


class Plain:
    """A module with one line."""


def test_cards_are_folded_on_a_page_and_open_in_a_terminal():
    cards = class_cards.attack_cards()
    assert cards._repr_html_().count("<details>") == len(cards)
    assert "Pasquini, Ateniese, Bernaschi, CCS 2021" in str(cards)


# Notation and glossary.


def symbol_rows():
    for line in SYMBOLS.splitlines():
        if line.startswith("| $"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("row", list(symbol_rows()), ids=lambda row: f"{row[0]} {row[3][6:8]}")
def test_a_symbol_is_used_on_the_page_that_introduces_it(row):
    symbols, _, _, link = row
    (name,) = re.findall(r"^\{doc\}`(\w+)`$", link)
    spans = re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", TEXTS[name], flags=re.S)
    maths = " ".join(display or inline for display, inline in spans)
    for symbol in re.findall(r"\$(.+?)\$", symbols):
        whole = rf"(?<![\w\\]){re.escape(symbol)}(?![A-Za-z])"
        assert re.search(whole, maths), f"{symbol} is not in the equations of {name}"


def test_the_glossary_is_in_order_and_each_term_is_there_once():
    assert sorted(set(TERMS), key=str.lower) == TERMS
    assert len(TERMS) == 32


def used(text):
    """The terms that a text links to."""
    return {
        re.sub(r"^.*<(.+)>$", r"\1", " ".join(shown.split()))
        for shown in re.findall(r"\{term\}`([^`]+)`", text)
    }


@pytest.mark.parametrize("page", TEXTS)
def test_every_term_of_a_page_is_in_the_glossary(page):
    known = {term.lower() for term in TERMS}
    assert {term.lower() for term in used(TEXTS[page])} <= known


def test_every_term_of_the_glossary_is_used_on_a_page():
    texts = {**TEXTS, "94_notation": SYMBOLS}
    everywhere = {term.lower() for text in texts.values() for term in used(text)}
    assert {term.lower() for term in TERMS} <= everywhere


# API.

NAMES = {p: api_reference.public_names(p) for p in api_reference.PACKAGES}


def test_every_public_name_is_in_the_reference_once():
    values = [value for names in NAMES.values() for value in names.values()]
    packages = [importlib.import_module(f"splitlab.{name}") for name in NAMES]
    code = [v for v in values if inspect.isclass(v) or inspect.isroutine(v)]
    assert len({id(value) for value in code}) == len(code)
    names = {name for names in NAMES.values() for name in names}
    for name in sl.__all__:
        assert f"sl.{name}" in names or getattr(sl, name) in packages, name
    for package in packages:
        for name in getattr(package, "__all__", ()):
            assert any(getattr(package, name) is value for value in values), name
    assert {"sl.figures", "sl.frontier", "sl.scrubber", "sl.stepper"} <= set(NAMES["show"])


def test_every_package_has_its_place_on_one_page():
    pages = "\n".join(text for name, text in TEXTS.items() if name.startswith("98_api"))
    assert sorted(api_reference.PLACE.findall(pages)) == sorted(api_reference.PACKAGES)


@pytest.mark.parametrize("package", NAMES)
def test_every_public_name_has_a_docstring(package):
    for name, value in NAMES[package].items():
        if isinstance(value, ModuleType) or inspect.isclass(value) or inspect.isroutine(value):
            assert (value.__doc__ or "").strip(), name
        else:
            assert api_reference.VALUES[name.split(".")[-1]][1].endswith("."), name


def test_no_character_of_a_docstring_is_markup_by_chance():
    assert api_reference.as_markup("|dz_i| is 2 * s_, see `sl.train` and `x > 0`.") == (
        r"\|dz_i\| is 2 \* s\_, see :py:obj:`sl.train <splitlab.train>` and ``x > 0``."
    )


def test_a_link_to_the_source_has_its_lines():
    info = {"module": "splitlab", "fullname": "FSHA.at"}
    link = api_reference.source_link("https://a.example/blob/main", "py", info)
    path, first, last = re.fullmatch(
        r"https://a.example/blob/main/(.+)#L(\d+)-L(\d+)", link
    ).groups()
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert any("def at(" in line for line in lines[int(first) - 1 : int(last)])
    for info in ({"module": "", "fullname": "x"}, {"module": "splitlab", "fullname": "NUMERICS"}):
        assert api_reference.source_link("", "py", info) is None
