"""The grid of a batch: which notebooks, at which profiles, seeds and parameters.

Whatever is wrong with it is said here, before anything starts.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nbformat import NotebookNode

from splitlab.course.batch.jobs import Job
from splitlab.course.claims import BOOK, pages
from splitlab.course.contents import chapters
from splitlab.course.notebook_files import code_cells, name_of, read
from splitlab.course.options import chosen
from splitlab.course.runner import check_parameters, parameters_of
from splitlab.settings import PROFILES

SEEDS = 2**32  # scikit-learn's k-means takes no other
JOBS = 100_000  # at most; a mistyped range has more
NAME_LENGTH = 120  # of a file, in letters; file systems take 255 bytes
OWN_OPTIONS = {"profile": "--profile", "seed": "--seeds", "device": "--device"}


def notebooks(names: Iterable[str]) -> list[Path]:
    """Find notebooks.

    Args:
        names: Paths of notebooks or folders, or what a notebook of the book is called: ``32``,
            ``32_feature_space_hijacking``, ``solutions/32``, ``book``, ``solutions``.

    Returns:
        The notebooks, each once: those of the book in the order of its table of contents.

    Raises:
        ValueError: If a name means nothing, or two notebooks would share their results.
    """
    found = list(dict.fromkeys(path for name in names for path in _named(name)))
    taken: dict[str, Path] = {}
    for path in found:
        other = taken.setdefault(name_of(path), path)
        if other != path:
            raise ValueError(
                f"{other} and {path} have one name, and so their results would have one folder: "
                "run them one after the other, with an --out for each"
            )
    return found


def _named(name: str) -> list[Path]:
    path = Path(name).expanduser()
    if not path.exists() and (BOOK.parent / name).is_dir():
        path = BOOK.parent / name  # of the book, from wherever the command was started
    if path.is_dir():
        return _inside(path.resolve())
    if path.is_file():
        if path.suffix != ".ipynb":
            raise ValueError(f"{name} is no notebook: name a file that ends in .ipynb")
        return [path.resolve()]
    of_book = _of_book()
    wanted = name.removesuffix(".ipynb")
    for known, notebook in of_book.items():
        if known == wanted or known.startswith(f"{wanted}_"):
            return [notebook]
    near = difflib.get_close_matches(name, of_book, n=1)
    meant = f"did you mean {near[0]}?" if near else "name a file, a folder or a chapter, such as 32"
    raise ValueError(f"there is no notebook {name}: {meant}")


def _inside(folder: Path) -> list[Path]:
    if (folder / "_toc.yml").exists():
        return chapters(folder)
    found = sorted(path for path in folder.glob("*.ipynb") if not path.name.startswith("."))
    if not found:
        raise ValueError(f"there are no notebooks in {folder}: name a folder that holds some")
    return found


def _of_book() -> dict[str, Path]:
    if not BOOK.is_dir():
        return {}
    masters = sorted((BOOK.parent / "solutions").glob("*_*.ipynb"))
    return {name_of(path): path for path in [*pages(BOOK).values(), *masters]}


def profiles(text: str) -> list[str]:
    """Read ``tiny,gpu``.

    Raises:
        ValueError: If there is no such profile, or none is named.
    """
    names = list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    for name in names:
        if name not in PROFILES:
            raise ValueError(f"there is no profile {name!r}: choose from {', '.join(PROFILES)}")
    if not names:
        raise ValueError("--profile names no profile: write one, such as tiny")
    return names


def seeds(text: str) -> list[int]:
    """Read ``0-9``, ``3`` or ``0,2,10-12``; both ends of a range count.

    Raises:
        ValueError: If that is no seed or range, the range is empty, or there are too many.
    """
    found: dict[int, None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = re.fullmatch(r"(\d{1,10})(?:-(\d{1,10}))?", part)
        if match is None:
            raise ValueError(f"--seeds {text}: {part!r} is no seed; write 3, 0-9 or 0,2,10-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"--seeds {text}: {part} holds no seed; write {last}-{first}")
        if last >= SEEDS:
            raise ValueError(f"--seeds {text}: choose seeds from 0 to {SEEDS - 1}")
        if last - first >= JOBS:
            raise ValueError(f"--seeds {text}: those are more than {JOBS:,} seeds; choose fewer")
        found |= dict.fromkeys(range(first, last + 1))
    if not found:
        raise ValueError("--seeds names no seed: write 3, 0-9 or 0,2,10-12")
    return list(found)


def settings(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read each ``--set name=value,value``; the values stay text, for each notebook to read.

    A comma inside brackets or quotes belongs to a value.

    Raises:
        ValueError: If one has no name or no values, or is set twice.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier():
            raise ValueError(f"--set {text}: write a parameter and its values, such as steps=60,90")
        if name in OWN_OPTIONS:
            raise ValueError(f"--set {text}: {name} has an option of its own, {OWN_OPTIONS[name]}")
        if name in found:
            raise ValueError(f"--set {text}: {name} is set twice; write its values with commas")
        # Quoted text, brackets (two deep), or anything that is no comma.
        piece = r"""(?:"[^"]*"|'[^']*'|\[(?:[^\[\]]|\[[^\]]*\])*\]|\([^)]*\)|[^,])+"""
        found[name] = [part.strip() for part in re.findall(piece, values) if part.strip()]
        if not found[name]:
            raise ValueError(f"--set {text}: {name} has no values; write some after the =")
    return found


def grid(
    paths: Sequence[Path],
    out: Path,
    *,
    profile: str | None,
    seed: str | None,
    device: str,
    sets: Sequence[str] = (),
    timeout: int = 600,
    elsewhere: bool = False,
) -> list[Job]:
    """Make the jobs.

    Args:
        paths: The notebooks.
        out: The folder of the results.
        profile: As in ``--profile``; None: tiny, in notebooks that have profiles.
        seed: As in ``--seeds``; None: 0, in notebooks that have seeds.
        device: As in ``--device``.
        sets: Each ``--set``.
        timeout: The most seconds that one cell may take.
        elsewhere: Whether the jobs run on other machines, which may have other devices.

    Returns:
        A job for each notebook and each combination of values.

    Raises:
        ValueError: If something is unknown, mistyped, or makes no job.
        ChapterError: If a notebook cannot be read, or has no such parameter.
    """
    given: dict[str, list[Any]] = {}
    if profile is not None:
        given["profile"] = profiles(profile)
    if seed is not None:
        given["seed"] = seeds(seed)
    given |= settings(sets)
    size = len(paths) * math.prod(map(len, given.values()))
    if size > JOBS:
        raise ValueError(f"those are {size:,} jobs, and a batch has at most {JOBS:,}: choose fewer")
    return [
        job
        for path in paths
        for job in _of_notebook(path, out, given, device, timeout, elsewhere=elsewhere)
    ]


def _of_notebook(
    path: Path,
    out: Path,
    given: Mapping[str, list[Any]],
    device: str,
    timeout: int,
    *,
    elsewhere: bool,
) -> Iterable[Job]:
    notebook, chapter = read(path), name_of(path)
    check_parameters(notebook, chapter, given)
    own = parameters_of(notebook, chapter)
    defaults = _defaults(notebook)
    axes: dict[str, list[Any]] = {
        name: values for name, values in (("profile", ["tiny"]), ("seed", [0])) if name in own
    }
    for name, values in given.items():
        if name not in OWN_OPTIONS:
            values = [_typed(name, text, defaults.get(name), chapter) for text in values]
        axes[name] = list(dict.fromkeys(values)) if _hashable(values) else values
    for values in itertools.product(*axes.values()):
        parameters = dict(zip(axes, values, strict=True))
        if "device" in own:
            parameters["device"] = (
                device
                if elsewhere and device != "auto"
                else str(chosen(device, parameters.get("profile", "tiny")))
            )
        job = Job(path, parameters, out, timeout)
        yield Job(path, parameters, out / "notebooks" / chapter / f"{_file(job)}.ipynb", timeout)


def _defaults(notebook: NotebookNode) -> dict[str, Any]:
    """The values that a notebook's parameters have, where they are plain ones."""
    found: dict[str, Any] = {}
    (cell,) = code_cells(notebook, "parameters")
    for node in ast.parse(cell.source).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = _literal(node.value)
            found |= {target.id: value for target in targets if isinstance(target, ast.Name)}
    return found


def _typed(name: str, text: str, default: Any, chapter: str) -> Any:
    """Read a value of --set as what the notebook has there.

    Raises:
        ValueError: If it is another kind of value.
    """
    if isinstance(default, str):
        value = _literal(text)
        return value if isinstance(value, str) else text
    value = _literal({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if default is None:
        return text if value is None and text.lower() != "none" else value
    if type(value) is not type(default):
        raise ValueError(
            f"--set {name}={text}: in {chapter} {name} is {default!r}; write "
            f"{KINDS.get(type(default), 'a value of that kind')}"
        )
    return value


KINDS = {bool: "True or False", int: "a whole number", float: "a number", list: "a list, as [1, 2]"}


def _literal(source: str | ast.expr) -> Any:
    """The value of a plain Python expression, None for anything else."""
    try:
        return ast.literal_eval(source)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _hashable(values: Sequence[Any]) -> bool:
    return not any(isinstance(value, list | dict | set) for value in values)


def _file(job: Job) -> str:
    """What the files of a job are called: its values, without what file systems do not take."""
    name = quote(job.values or "run", safe=" ,+=()[]")
    if len(name) > NAME_LENGTH:
        name = f"{name[:NAME_LENGTH]}-{hashlib.sha256(job.values.encode()).hexdigest()[:8]}"
    return name
