"""Two editions of the exercises from one master: `exercises/` is generated from `solutions/`.

``python -m splitlab.course.editions`` writes `exercises/`, and with ``--check`` says what differs.

A master is a notebook. Its first heading is "# Solutions: ...". Each exercise in it is four cells
in a row, identified by their tags:

- ``card``, Markdown: "## 1. Title", a line "★★☆☆ · 15 minutes", "**Why it matters.**", "**Task.**";
- ``exercise``, code: one function with a docstring, its body between the lines
  ``### BEGIN SOLUTION`` and ``### END SOLUTION``;
- ``check``, code: a call of the check, which has the function's name: ``check.deliver(deliver)``;
- ``help``, Markdown, folded: two hints, and the list "I am getting ...", keyed to the messages of
  the check: each item begins with a part of a message in quotation marks.

In the exercises the solution is a stub, and Markdown cells tagged ``solutions-only`` are left out.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from splitlab.core.files import write_atomically
from splitlab.course.notebook_files import ChapterError, read, storage_fault, tags

REGION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION$", re.DOTALL | re.MULTILINE
)
STUB = """\
{indent}# Your code here, instead of the next line.
{indent}raise NotImplementedError("{name} is not written yet")"""
CARD = re.compile(
    r"## (?P<number>\d+)\. (?P<title>.+)\n\n(?P<stars>★+)(?P<rest>☆*) · (?P<minutes>\d+) minutes\n"
    r"\n\*\*Why it matters\.\*\* (?P<why>.+?)\n\n\*\*Task\.\*\* (?P<task>.+)",
    re.DOTALL,
)
KINDS = ("card", "exercise", "check", "help")
STARS = 4


class EditionError(Exception):
    """A master that makes no exercises; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise of a master.

    Attributes:
        name: The function to write, which is the check's name, too.
        title: From the card.
        stars: 1 to 4; a four-star exercise is open, with a score.
        minutes: From the card.
        source: The code cell with the solution.
        help: The Markdown of hints and errors.
        keys: The parts of messages under "I am getting ...".
    """

    name: str
    title: str
    stars: int
    minutes: int
    source: str
    help: str
    keys: tuple[str, ...]


def masters(root: Path) -> list[Path]:
    """The master notebooks of a repository, in order."""
    return sorted((root / "solutions").glob("*.ipynb"))


def exercises(master: NotebookNode, where: str) -> list[Exercise]:
    """The exercises of a master, in order.

    Args:
        master: The notebook.
        where: Its name, for the messages.

    Raises:
        EditionError: Naming the cell that is not as the module's docstring has it.
    """
    cells = [(kind, cell) for cell in master.cells for kind in KINDS if kind in tags(cell)]
    found = []
    for number in range(0, len(cells), len(KINDS)):
        group = cells[number : number + len(KINDS)]
        place = f"{where}, exercise {number // len(KINDS) + 1}"
        if tuple(kind for kind, _ in group) != KINDS:
            raise EditionError(
                f"{place} has cells tagged {', '.join(kind for kind, _ in group)}; an exercise is "
                f"{', '.join(KINDS)}, in this order."
            )
        found.append(_exercise([cell.source for _, cell in group], place))
        if f"## {len(found)}. " not in group[0][1].source:
            raise EditionError(f"{place}: its card does not carry the number {len(found)}.")
    if not found:
        raise EditionError(f"{where} has no cell tagged card: there is no exercise in it.")
    return found


def _exercise(sources: Sequence[str], place: str) -> Exercise:
    card, exercise, check, advice = sources
    heading = CARD.fullmatch(card.strip())
    if heading is None:
        raise EditionError(
            f"{place}: its card must read '## 1. Title', '★★☆☆ · 15 minutes', "
            "'**Why it matters.** ...', '**Task.** ...', with empty lines between."
        )
    if len(heading["stars"] + heading["rest"]) != STARS:
        raise EditionError(f"{place}: its card needs {STARS} stars, full and empty ones together.")
    try:
        statements = ast.parse(exercise).body
    except SyntaxError as error:
        raise EditionError(f"{place}: its code is not Python ({error.msg}).") from None
    functions = [node for node in statements if isinstance(node, ast.FunctionDef)]
    if len(functions) != 1 or not ast.get_docstring(functions[0]):
        raise EditionError(f"{place}: its code cell must hold one function, with a docstring.")
    name = functions[0].name
    if len(REGION.findall(exercise)) != 1:
        raise EditionError(f"{place}: {name} needs one pair of BEGIN SOLUTION and END SOLUTION.")
    if f"check.{name}({name}" not in check:
        raise EditionError(f"{place}: its check cell must call check.{name}({name}).")
    hints = re.findall(r"<summary>Hint \d</summary>", advice)
    keys = re.findall(r'^- "(.+?)"', advice, re.MULTILINE)
    if len(hints) != 2 or not keys:
        raise EditionError(
            f"{place}: its help needs two hints (<details><summary>Hint 1</summary>) and items "
            'that begin with a part of a message: - "...".'
        )
    return Exercise(
        name,
        heading["title"].strip(),
        len(heading["stars"]),
        int(heading["minutes"]),
        exercise,
        advice,
        tuple(keys),
    )


def edition(master: NotebookNode, where: str) -> NotebookNode:
    """The exercises edition of a master: stubs for solutions, no outputs.

    Raises:
        EditionError: If the master is not as it should be.
    """
    names = iter(exercise.name for exercise in exercises(master, where))
    out = nbformat.from_dict(nbformat.reads(nbformat.writes(master), as_version=4))
    out.cells = [cell for cell in out.cells if "solutions-only" not in tags(cell)]
    titles = [cell for cell in out.cells if cell.source.startswith("# Solutions: ")]
    if len(titles) != 1:
        raise EditionError(f"{where} needs one heading '# Solutions: ...'; it has {len(titles)}.")
    for cell in out.cells:
        if cell is titles[0]:
            cell.source = cell.source.replace("# Solutions: ", "# Exercises: ", 1)
        if cell.cell_type != "code":
            continue
        cell.outputs, cell.execution_count = [], None
        if "exercise" in tags(cell):
            name = next(names)
            cell.source = REGION.sub(
                lambda m, n=name: STUB.format(name=n, **m.groupdict()), cell.source
            )
            cell.metadata.tags = [tag for tag in tags(cell) if tag != "hide-input"]
    return out


def differences(root: Path) -> Iterator[str]:
    """Describe, a sentence each, how `exercises/` differs from the masters' editions.

    Raises:
        EditionError: If a master is not as it should be.
    """
    wanted = editions(root)
    for path in sorted((root / "exercises").glob("*.ipynb")):
        if path not in wanted:
            yield f"exercises/{path.name} has no master in solutions/: remove it."
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield f"exercises/{path.name} differs from what its master gives: run `make exercises`."


def editions(root: Path) -> dict[Path, str]:
    """The exercises that the masters give: path -> the file's text."""
    texts = {}
    for path in masters(root):
        made = edition(read(path), f"solutions/{path.name}")
        texts[root / "exercises" / path.name] = nbformat.writes(made) + "\n"
    return texts


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splitlab.course.editions",
        description="Make exercises/ from the masters in solutions/.",
    )
    parser.add_argument("--check", action="store_true", help="only list what differs; then exit 1")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder (.)")
    options = parser.parse_args(arguments)
    try:
        if not options.check:
            for path, text in editions(options.root).items():
                write_atomically(path, text.encode())
        left = list(differences(options.root))
    except (EditionError, ChapterError) as error:
        left = [str(error)]
    except OSError as error:
        fault = storage_fault(error, options.root / "exercises")
        left = [f"The exercises were not written: {fault}"]
    for sentence in left:
        print(sentence, file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
