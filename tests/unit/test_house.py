"""The house: which package may import which, that nothing goes in circles, and how large it is."""

import ast
import graphlib
import io
import re
import tokenize
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "splitlab"

# Package -> the packages of splitlab that it may import, itself apart. "splitlab" is the public
# names of __init__.py, which the course uses as a reader does.
MAY_IMPORT = {
    "arguments": set(),
    "data": {"arguments"},
    "nets": {"arguments"},
    "settings": {"arguments", "data", "nets"},
    "core": {"arguments", "data", "nets"},
    "defenses": {"arguments", "data", "nets", "core"},
    "attacks": {"arguments", "data", "nets", "settings", "core"},
    "referee": {"arguments", "data", "nets", "core", "attacks"},
    "splitlab": {"data", "nets", "settings", "core", "defenses", "attacks", "referee"},
    "show": {"arguments", "data", "nets", "core", "referee"},
    "course": {
        *("data", "nets", "settings", "core", "defenses", "attacks", "referee", "splitlab"),
        *("arguments", "show"),
    },
}
# What a reader needs to understand any attack, in the order in which to read it.
FIRST = ("messages", "party", "client", "server", "protocols", "train")
FIRST_LINES, FILE_LINES = 550, 400

FILES = {
    ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(LIBRARY.rglob("*.py"))
}


def imports(name):
    """The modules of splitlab that a module imports, anywhere in it, types included."""
    found = set()
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [n if n in FILES else node.module for n in below]
        else:
            continue
        found |= {n for n in named if n in FILES}
    return found - {name}


def package(name):
    return name.split(".")[1] if "." in name else name


def code_lines(path):
    """Lines with code on them: no blanks, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    quiet = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*quiet, tokenize.ENCODING, tokenize.ENDMARKER):
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_from_packages_below_its_own(name):
    own = package(name)
    above = {n for n in imports(name) if package(n) not in MAY_IMPORT[own] | {own}}
    assert not above, f"{name} may import {', '.join(sorted(MAY_IMPORT[own])) or 'nothing'}"


def test_the_table_has_no_circle_and_every_package():
    assert {package(name) for name in FILES} == set(MAY_IMPORT)
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


def pictured(text):
    """The packages in the README's picture of the house, from the roof down."""
    (picture,) = re.findall(r"^splitlab/\n((?:  \w.*\n)+)", text, flags=re.M)
    return [re.match(r"\w+", line.strip())[0] for line in picture.splitlines()]


def test_the_readme_pictures_the_house():
    readme = (LIBRARY.parent / "README.md").read_text(encoding="utf-8")
    rows = pictured(readme)
    assert sorted(rows) == sorted(set(MAY_IMPORT) - {"splitlab"})
    for height, name in enumerate(rows):
        above = MAY_IMPORT[name] & set(rows[:height])
        assert not above, f"the README shows {name} below {', '.join(sorted(above))}"
    (first,) = re.findall(r"\*\*Open `core/` first\*\*(.+?)\.", readme, flags=re.S)
    assert tuple(re.findall(r"`(\w+)`", first)) == FIRST


def test_no_modules_import_one_another_in_a_circle():
    graph = {name: imports(name) for name in FILES}
    # A package's own __init__ gathers its modules, and a module may be imported through it.
    try:
        list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_core_can_be_read_in_an_hour():
    lines = {name: code_lines(LIBRARY / "core" / f"{name}.py") for name in FIRST}
    assert sum(lines.values()) <= FIRST_LINES, lines


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_one_subject(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= FILE_LINES


def test_an_import_from_above_would_be_seen(monkeypatch, tmp_path):
    path = tmp_path / "low.py"
    inside = "from splitlab.course import records\n    import splitlab.show.figures\n"
    path.write_text(f"def f():\n    {inside}")
    monkeypatch.setitem(FILES, "splitlab.data.low", path)
    assert imports("splitlab.data.low") == {"splitlab.course.records", "splitlab.show.figures"}
