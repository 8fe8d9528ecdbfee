"""The repository's address and the version, each written once, in `pyproject.toml`.

``python -m splitlab.course.address`` writes them into the files that repeat them, and with
``--check`` says which of these differ: `book/_config.yml` (from which the launch buttons are made),
`CITATION.cff`, `splitlab.__version__`, and the first code cell of every notebook, which installs
the library in Colab.

The address is ``Repository`` under ``[project.urls]``. What the cell installs is the tag of the
version, such as v0.1.0, so that a notebook keeps the library that it was written for. A version
under development, such as 0.2.0.dev0, has no tag: its notebooks install the branch.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from splitlab.course.runner import ChapterError, code_cells, read

FOLDERS = ("book", "exercises", "solutions")

# Where a file repeats an attribute of `Repository`: the group is its value.
LINES = {
    "book/_config.yml": {r"^repository:\n  url: (.*)$": "url"},
    "CITATION.cff": {r"^repository-code: (.*)$": "url", r"^version: (.*)$": "version"},
    "splitlab/__init__.py": {r'^__version__ = "(.*)"$': "version"},
}
REPAIR = "run `make address`."
BRANCH = r"^repository:\n(?:  .*\n)*?  branch: ([\w./-]+)$"

# IPython and Colab store the status of %pip in _exit_code, and show a SystemExit without a
# traceback. The address ends its line, so that the lint lets it have any length.
CELL = """\
import sys

if "google.colab" in sys.modules:  # elsewhere, the library is there
    %pip install -q --no-deps {more}"splitlab @ git+{url}@{ref}"
    if _exit_code:  # noqa: F821
        sys.exit("splitlab is not installed: check what pip says above.")"""
MORE = re.compile(r'^    %pip install -q --no-deps (.*)"splitlab @ ', re.MULTILINE)


class AddressError(Exception):
    """An address that cannot be read, or has no line in a file; the message is one sentence."""


@dataclass(frozen=True, slots=True)
class Repository:
    """The address, the version and the branch that other files repeat.

    Attributes:
        url: https://github.com/OWNER/NAME.
        version: The library's.
        branch: The one that the launch buttons open.
    """

    url: str
    version: str
    branch: str

    @property
    def ref(self) -> str:
        """The reference to install: the version's tag, or the branch during development."""
        return self.branch if "dev" in self.version else f"v{self.version}"


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs from `pyproject.toml`: the differences, and the right text."""

    path: Path
    sentence: str
    text: str


def repository(root: Path) -> Repository:
    """Read the address and the version from `pyproject.toml`, the branch from `book/_config.yml`.

    Raises:
        AddressError: If one is missing, or is not what Colab and git can use.
    """
    try:
        project = tomllib.loads(_text(root, "pyproject.toml")).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise AddressError(f"pyproject.toml is not TOML ({error}): correct it.") from None
    url = project.get("urls", {}).get("Repository")
    plain = str(url).removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[A-Za-z0-9-]+/[A-Za-z0-9._-]+", plain):
        raise AddressError(
            f"pyproject.toml has Repository = {url!r} under [project.urls]: "
            "write https://github.com/OWNER/NAME, where Colab finds the notebooks."
        )
    version = project.get("version")
    if not re.fullmatch(r"\d[A-Za-z0-9.+]*", str(version)):
        raise AddressError(f"pyproject.toml has the version {version!r}: write one such as 0.1.0.")
    name = "book/_config.yml"
    return Repository(plain, version, _line(name, _text(root, name), BRANCH)[1])


def cell_text(here: Repository, present: str = "") -> str:
    """Return the cell that installs the library in Colab.

    Args:
        here: The repository.
        present: The cell as it is; packages that it lists before the library are kept.
    """
    more = MORE.search(present)
    return CELL.format(url=here.url, ref=here.ref, more=more[1] if more else "")


def changes(root: Path) -> Iterator[Change]:
    """Yield the changes that a repository needs, file by file.

    Raises:
        AddressError: If the address cannot be read, or a file has no place for it.
        ChapterError: If a notebook cannot be read.
    """
    here = repository(root)
    for name, lines in LINES.items():
        text, differ = _text(root, name), []
        for pattern, attribute in lines.items():
            line, wanted = _line(name, text, pattern), getattr(here, attribute)
            if line[1] != wanted:
                differ.append(f"{line[1]}, not {wanted}")
                text = text[: line.start(1)] + wanted + text[line.end(1) :]
        if differ:
            yield Change(root / name, f"{name} has {'; '.join(differ)}: {REPAIR}", text)
    for path in (path for folder in FOLDERS for path in sorted((root / folder).glob("*.ipynb"))):
        name, notebook = f"{path.parent.name}/{path.name}", read(path)
        cell = _install_cell(name, notebook)
        wanted = cell_text(here, cell.source)
        if cell.source != wanted:
            cell.source = wanted
            sentence = f"{name} does not install {here.url}@{here.ref} in Colab: {REPAIR}"
            yield Change(path, sentence, nbformat.writes(notebook) + "\n")


def _install_cell(name: str, notebook: NotebookNode) -> NotebookNode:
    first = next(iter(code_cells(notebook)), None)
    if first is None or "google.colab" not in first.source:
        raise AddressError(
            f"{name} must begin with the code cell that installs the library in Colab: "
            "copy it from another notebook."
        )
    return first


def _text(root: Path, name: str) -> str:
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AddressError(
            f"There is no {name} in {root.resolve()}: name the repository's folder with --root."
        ) from None


def _line(name: str, text: str, pattern: str) -> re.Match[str]:
    if match := re.search(pattern, text, re.MULTILINE):
        return match
    raise AddressError(f"{name} has no line {pattern!r} (a regular expression): write it again.")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splitlab.course.address",
        description="Write pyproject.toml's address and version into the files that repeat them.",
    )
    parser.add_argument("--check", action="store_true", help="only list what differs; then exit 1")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder (.)")
    options = parser.parse_args(arguments)
    try:
        found = list(changes(options.root))  # all of them, before the first is written
        for change in found:
            if options.check:
                print(change.sentence, file=sys.stderr)
            else:
                change.path.write_text(change.text, encoding="utf-8")
                print(f"wrote {change.path.relative_to(options.root)}")
    except (AddressError, ChapterError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if options.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
