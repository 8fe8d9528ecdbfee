"""The page for instructors: its plans follow the chapters, and its commands are those there are."""

import re
import shlex
from pathlib import Path

import pytest

from splitlab.course import book, cli, editions, runner

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "book" / "96_instructors.ipynb"
TEXT = "\n".join(c.source for c in runner.read(PAGE).cells if c.cell_type == "markdown")
CHAPTERS = {
    path.stem: "\n".join(c.source for c in runner.read(path).cells if c.cell_type == "markdown")
    for path in book.chapters(ROOT / "book")
    if path.stem[0] != "9"
}
LINK = re.compile(r"\{doc\}`(\w+)`")
OPEN = 4  # stars


def rows(head):
    """The rows below a table's head, as lists of cells."""
    (table,) = re.findall(rf"^\| {head} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, flags=re.M)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]


DAYS, WEEKS = rows("day"), rows("week")


def opening(name):
    """What a chapter says to read before it, and how long it takes."""
    return re.search(r"\*\*Before you start\*\*(.+?)\n\n", CHAPTERS[name] + "\n\n", re.S)[1]


def reading(name):
    number = re.search(r"Reading\s+takes\s+(\w+)\s+minutes", opening(name))[1]
    return 10 if number == "ten" else int(number)


def exercises(name):
    master = ROOT / "solutions" / f"{name}.ipynb"
    return editions.exercises(runner.read(master), name) if master.exists() else []


def named(table):
    """The chapters of a plan in order."""
    return [name for row in table for name in LINK.findall(row[1])]


def needed(name):
    """The chapters that a chapter builds on; of chapter 32, one is for those to whom it is new."""
    required = re.sub(r"If critics are new.+?\.", "", opening(name), flags=re.S)
    return set(LINK.findall(required))


@pytest.mark.parametrize("row", DAYS, ids=lambda row: row[1])
def test_the_minutes_of_two_days_are_those_of_chapters_and_cards(row):
    _, link, chosen, minutes = row
    (name,) = LINK.findall(link)
    cards = exercises(name)
    numbers = [] if chosen == "-" else [int(n) for n in chosen.split(", ")]
    assert int(minutes) == reading(name) + sum(cards[number - 1].minutes for number in numbers)


@pytest.mark.parametrize("row", WEEKS, ids=lambda row: f"week {row[0]}")
def test_the_minutes_of_twelve_weeks_are_those_of_chapters_and_cards(row):
    names = LINK.findall(row[1])
    cards = [card for name in names for card in exercises(name) if card.stars < OPEN]
    assert int(row[2]) == sum(map(reading, names))
    assert int(row[3]) == sum(card.minutes for card in cards)


def test_twelve_weeks_are_the_whole_book_in_its_order():
    assert [row[0] for row in WEEKS] == [str(number) for number in range(1, 13)]
    assert named(WEEKS) == list(CHAPTERS)


@pytest.mark.parametrize("plan", [DAYS, WEEKS], ids=["two days", "twelve weeks"])
def test_a_chapter_comes_after_those_that_it_needs(plan):
    order = named(plan)
    assert len(order) == len(set(order))
    for place, name in enumerate(order):
        assert needed(name) <= set(order[:place]), name


def test_no_chapter_needs_those_that_may_be_left_out():
    (sentence,) = re.findall(r"leave out one of(.+?): no later", TEXT, flags=re.S)
    without = set(LINK.findall(sentence))
    assert len(without) == 4
    assert not without & set().union(*map(needed, CHAPTERS))


def test_each_command_on_the_page_is_one_that_there_is():
    blocks = "".join(re.findall(r"```sh\n(.+?)```", TEXT, flags=re.S)).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in blocks.splitlines()]
    commands = [line[1:] for line in lines if line[0] == "splitlab"]
    assert len(commands) >= 5
    for command in commands:
        assert cli._parser().parse_args(command).run
    targets = set(re.findall(r"`?make (\w+)", blocks) + re.findall(r"`make (\w+)", TEXT))
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {"book", "verdicts", "notebooks", "address", "exercises"} <= targets


def test_the_page_is_run_again_when_the_recorded_seconds_change(tmp_path, monkeypatch):
    seconds = tmp_path / "course" / "runs" / "chapter_seconds_tiny.json"
    seconds.parent.mkdir(parents=True)
    monkeypatch.setattr(runner, "LIBRARY", tmp_path)
    keys = set()
    for content in ("{}", "{}", "[]"):
        seconds.write_text(content)
        keys.add(runner.key(PAGE, {}, tmp_path))
    assert len(keys) == 2


def test_the_page_is_as_short_as_a_page_should_be():
    prose = [line for line in TEXT.splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) <= 1000
    closing = ("## Verdict", "## What this does not show")
    assert sum(line.startswith("## ") and line not in closing for line in prose) <= 6
