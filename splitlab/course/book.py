"""Build the book: run the chapters, render them, print what came of each.

``python -m splitlab.course.book`` is what ``make book`` calls. Nothing that is unchanged is done
again: a chapter's executed copy is keyed by all it depends on (see `runner.key`), and the rendering
by all the files that go into it.
"""

import argparse
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from splitlab.course import doctor, runner, timing
from splitlab.course.records import RUNS
from splitlab.course.runner import ChapterError, Result

PROFILES = ("tiny", "gpu", "paper")


class BookError(Exception):
    """A book that cannot be built; the message is one sentence."""


def toc_files(book: Path) -> list[str]:
    """The pages of the table of contents in order, as paths without ending from the root."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for name in ("root", "file"):
                if name in node:
                    yield node[name]
            for name in ("parts", "chapters", "sections"):
                yield from walk(node.get(name))
        elif isinstance(node, list):
            for child in node:
                yield from walk(child)

    toc = book / "_toc.yml"
    if not toc.exists():
        raise BookError(f"There is no {toc}; --book must name the folder that holds _toc.yml.")
    return list(walk(yaml.safe_load(toc.read_text(encoding="utf-8"))))


def page_of(root: Path, file: str) -> Path:
    """The source of a page of the table of contents."""
    for ending in (".ipynb", ".md", ""):
        path = root / f"{file}{ending}"
        if path.is_file():
            return path
    raise BookError(f"_toc.yml names {file!r}, but there is no {file}.ipynb or {file}.md.")


def chapters(book: Path) -> list[Path]:
    """The notebooks of the book's own folder, in the order of the table of contents."""
    pages = [page_of(book.parent, file) for file in toc_files(book)]
    return [page for page in pages if page.suffix == ".ipynb" and page.parent == book]


def notebooks(book: Path) -> list[Path]:
    """The notebooks that are run for the book: the chapters, and the solutions to the exercises.

    The exercises are pages, too, but they are shown as they are: their stubs would fail.
    """
    pages = [page_of(book.parent, file) for file in toc_files(book)]
    folders = (book, book.parent / "solutions")
    return [page for page in pages if page.suffix == ".ipynb" and page.parent in folders]


def run_notebooks(
    paths: Sequence[Path],
    source: Path,
    *,
    parameters: dict[str, Any],
    timeout: int,
    jobs: int,
) -> list[Result]:
    """Run the notebooks, `jobs` at a time; a failing one does not stop the others."""
    root = paths[0].parent.parent if paths else source
    # Threads are enough: the work is done by the kernels, which are processes of their own.
    pool = ThreadPoolExecutor(max_workers=jobs)
    bar = tqdm(total=0, unit="cell", desc="chapters", dynamic_ncols=True, leave=False)

    def run(notebook: Path) -> Result:
        start = time.perf_counter()
        try:
            return runner.run(
                notebook,
                source / notebook.relative_to(root),
                parameters=parameters,
                root=root,
                timeout=timeout,
                on_cell=bar.update,
            )
        except ChapterError as error:
            seconds = time.perf_counter() - start
            return Result(runner.name_of(notebook), seconds, False, "", str(error))

    try:
        for notebook in paths:
            bar.total += len(runner.code_cells(runner.read(notebook))) + 1  # + injected parameters
        return list(pool.map(run, paths))
    except KeyboardInterrupt:
        # The running kernels end with this process; chapters that were finished are kept.
        pool.shutdown(wait=False, cancel_futures=True)
        print("\nstopped; finished chapters are kept", file=sys.stderr)
        os._exit(130)
    finally:
        bar.close()
        pool.shutdown()


def time_notebooks(
    paths: Sequence[Path], source: Path, **options: Any
) -> tuple[list[Result], dict[str, float], float]:
    """Run every notebook again, one at a time, and time the machine before and after each.

    Args:
        paths: The notebooks.
        source: As in `run_notebooks`.
        **options: Those of `run_notebooks` but for `jobs`.

    Returns:
        What `run_notebooks` returns; each notebook's CPU seconds (those of its kernel, which other
        programs change little); and the seconds of the fastest step that was timed.
    """
    results: list[Result] = []
    seconds = {}
    steps = timing.step_seconds()
    for path in paths:
        (source / path.relative_to(path.parent.parent)).unlink(missing_ok=True)
        before = sum(os.times()[2:4])  # of the children: user and system
        results += run_notebooks([path], source, jobs=1, **options)
        seconds[results[-1].chapter] = sum(os.times()[2:4]) - before
        steps += timing.step_seconds()
    return results, seconds, min(steps)


def stage(book: Path, source: Path) -> None:
    """Lay out, beside the executed copies, everything else that the rendering reads.

    The tree mirrors the repository's, so that the launch buttons point at the repository's own
    notebooks.
    """
    root = book.parent
    keep = {source / page_of(root, file).relative_to(root) for file in toc_files(book)}
    own = set(notebooks(book))
    for file in toc_files(book):
        page = page_of(root, file)
        if page not in own:  # the executed copies are there already
            target = source / page.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page, target)
    for path in itertools.chain(*map(book.glob, ("*.yml", "*.bib", "*.gif"))):
        target = source / path.relative_to(root)
        shutil.copyfile(path, target)
        keep.add(target)
    vendored = source / book.name / "_vendor"
    shutil.rmtree(vendored, ignore_errors=True)
    if (book / "_vendor").is_dir():
        shutil.copytree(book / "_vendor", vendored)
    for path in source.rglob("*"):  # pages that have left the table of contents
        if path.is_file() and path not in keep and vendored not in path.parents:
            path.unlink()


def tree_hash(source: Path) -> str:
    """A hash of every file under `source`, and of the versions of the programs that render it."""
    digest = hashlib.sha256()
    for package in ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme"):
        digest.update(f"{package} {version(package)}\n".encode())
    for path in sorted(source.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(source).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def render(book: Path, out: Path) -> bool:
    """Render the staged tree to `out`/_build/html; warnings are errors.

    Returns:
        False if nothing that goes into the pages had changed, and so nothing was done.

    Raises:
        BookError: With the warnings and the name of the full log.
    """
    build = out / "_build"
    source = build / "source"
    stamp = build / "rendered.sha256"
    log = build / "render.log"
    wanted = tree_hash(source)
    if (build / "html" / "index.html").exists() and stamp.exists() and stamp.read_text() == wanted:
        return False
    stamp.unlink(missing_ok=True)
    shutil.rmtree(build / "html", ignore_errors=True)
    staged = source / book.name
    # jupyter_book has no __main__, and its script may not be on the PATH.
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]
    command += ["--all", "-W", "--keep-going", "--path-output", str(out)]
    command += ["--config", str(staged / "_config.yml"), "--toc", str(staged / "_toc.yml")]
    bar = tqdm(
        total=200, desc="rendering", bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}"
    )
    lines = []
    with subprocess.Popen(
        [*command, str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ) as process:
        assert process.stdout is not None
        for colored in process.stdout:
            line = re.sub(r"\x1b\[[0-9;]*m", "", colored)
            lines.append(line)
            # Sphinx counts twice to 100 %: while it reads the pages, and while it writes them.
            if step := re.match(r"(reading sources|writing output)\.*\s*\[\s*(\d+)%\]", line):
                bar.n = int(step[2]) + (100 if step[1] == "writing output" else 0)
                bar.refresh()
    bar.leave = False
    bar.close()
    log.write_text("".join(lines), encoding="utf-8")
    if process.returncode != 0:
        telling = [line for line in lines if re.search(r"WARNING|ERROR|Error:", line)]
        raise BookError(
            "The pages did not render without warnings; correct what is listed here and build "
            f"again (the whole log: {log}).\n" + "".join(telling or lines[-15:]).rstrip()
        )
    missing = [file for file in toc_files(book) if not (build / "html" / f"{file}.html").exists()]
    if missing:
        raise BookError(f"No page was rendered for {', '.join(missing)}; the log: {log}.")
    stamp.write_text(wanted)
    return True


def table(results: Sequence[Result]) -> str:
    """The chapters with their seconds and verdicts, as plain text in columns."""
    rows = [("chapter", "seconds", "verdict")]
    for result in results:
        seconds = f"{result.seconds:.1f}" + (" (cached)" if result.cached else "")
        rows.append((result.chapter, seconds, "FAILED" if result.error else result.verdict or "-"))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{a:<{first}}  {b:<{second}}  {c}".rstrip() for a, b, c in rows]
    lines.insert(1, f"{'-' * first}  {'-' * second}  {'-' * len('verdict')}")
    return "\n".join(lines)


def build(
    book: Path,
    out: Path,
    *,
    profile: str = "tiny",
    timeout: int = 600,
    jobs: int = 2,
    store_verdicts: bool = False,
    store_seconds: bool = False,
) -> int:
    """Run, render and report.

    Args:
        book: The folder with _toc.yml, _config.yml and the chapters.
        out: The folder that gets ``_build/source`` (executed copies) and ``_build/html``.
        profile: The chapters' `profile`; but at tiny, they compute on a GPU where there is one.
        timeout: The most seconds one cell may take.
        jobs: How many chapters run at once.
        store_verdicts: Copy the verdict lines into the chapters of `book`.
        store_seconds: Run every notebook again, one at a time, and store with the records how long
            each took, for `doctor`.

    Returns:
        The exit status: 0, or 1 if a chapter failed (then nothing is rendered).
    """
    source = out / "_build" / "source"
    # The seconds are CPU seconds, and so they are taken on the CPU.
    device = "cpu" if store_seconds else doctor.chosen_device("auto", profile)
    parameters = {"profile": profile, "device": device}
    options: dict[str, Any] = {"parameters": parameters, "timeout": timeout}
    if store_seconds:
        results, seconds, step = time_notebooks(notebooks(book), source, **options)
    else:
        results = run_notebooks(notebooks(book), source, jobs=jobs, **options)
    errors = [result.error for result in results if result.error]
    rendered = False
    if not errors:
        if store_seconds:
            stored = timing.store_seconds(RUNS, profile, seconds, step)
            print(f"stored the seconds in {stored.name}")
        if store_verdicts:
            for notebook in chapters(book):
                if runner.store_verdict(notebook, source / notebook.relative_to(book.parent)):
                    print(f"stored the verdict of {notebook.stem}")
        stage(book, source)
        rendered = render(book, out)
    print(table(results))
    if errors:
        sys.stdout.flush()
        for error in errors:
            print(f"\nerror: {error}", file=sys.stderr)
        print(
            f"The book was not rendered; copies with the tracebacks: {source}/*/*.failed.ipynb",
            file=sys.stderr,
        )
        return 1
    note = "" if rendered else " (unchanged)"
    print(f"\nThe book is at {out / '_build' / 'html' / 'index.html'}{note}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splitlab.course.book",
        description="Run the chapters, render the book, and print the result of each chapter.",
    )
    parser.add_argument("--profile", choices=PROFILES, default="tiny")
    parser.add_argument(
        "--book", type=Path, default=Path("book"), help="folder with _toc.yml (default: book)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder that gets _build/html (default: the book's folder)"
    )
    parser.add_argument(
        "--timeout", type=int, default=600, help="most seconds for one cell (default: 600)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="chapters run at once, one core each (default: 2, or 1 on a single core)",
    )
    parser.add_argument(
        "--store-verdicts",
        action="store_true",
        help="also copy the verdict lines into the chapters, as what nbval compares with",
    )
    parser.add_argument(
        "--store-seconds",
        action="store_true",
        help="rerun all notebooks, one at a time, and store their seconds for `splitlab doctor`",
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1 or options.timeout < 1:
        parser.error("--jobs and --timeout must be 1 or more")
    book = options.book.resolve()
    try:
        return build(
            book,
            (options.out or book).resolve(),
            profile=options.profile,
            timeout=options.timeout,
            jobs=options.jobs,
            store_verdicts=options.store_verdicts,
            store_seconds=options.store_seconds,
        )
    except (BookError, ChapterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
