"""Build the book: run the chapters, render them, and print the result of each.

``python -m splitlab.course.book`` is what ``make book`` calls. Nothing that is unchanged is done
again: a chapter's executed copy is keyed by all it depends on (see `runner.key`), and the rendering
by all the files that go into it.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from splitlab.course import doctor, exits, kernels, runner, timing
from splitlab.course.contents import BookError, chapters, notebooks
from splitlab.course.contents import toc_files as toc_files
from splitlab.course.locks import only_one
from splitlab.course.notebook_files import (
    ChapterError,
    code_cells,
    name_of,
    read,
    storage_fault,
)
from splitlab.course.outputs import store_verdict, verdict_change
from splitlab.course.records import RUNS
from splitlab.course.rendering import render, stage
from splitlab.course.runner import Result

PROFILES = ("tiny", "gpu", "paper")
WARNING_LINES = 6  # of one chapter, that are shown
EXIT = (
    "Exit status: 0, the book is built; 1, something failed, and a sentence on stderr says what; "
    "2, an option is wrong; 130, stopped by Ctrl-C; 143, stopped by SIGTERM. Finished chapters are "
    "kept in any case."
)


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
    bar = tqdm(
        total=0,
        unit="cell",
        desc="chapters",
        dynamic_ncols=True,
        leave=False,
        disable=None,  # where nobody watches
    )

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
            return Result(name_of(notebook), seconds, False, "", str(error))

    for notebook in paths:
        with suppress(ChapterError):  # `run` says that it cannot be read
            bar.total += len(code_cells(read(notebook))) + 1  # + injected parameters
    futures: list[Future[Result]] = []
    try:
        futures += [pool.submit(run, notebook) for notebook in paths]
        wait(futures)
        return [future.result() for future in futures]
    finally:
        # All are done, unless the build is being stopped: then no kernel is left behind.
        for future in futures:
            future.cancel()
        while wait(futures, timeout=0.1).not_done:
            kernels.kill_all()
        pool.shutdown()
        bar.close()


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


def checked_verdicts(results: Sequence[Result], book: Path, source: Path) -> list[Result]:
    """The results, with an error where a chapter's verdict differs from the stored one."""
    checked = []
    named = {name_of(notebook): notebook for notebook in chapters(book)}
    for result in results:
        notebook = named.get(result.chapter)
        if notebook and not result.error:
            executed = source / notebook.relative_to(book.parent)
            if change := verdict_change(read(notebook), read(executed)):
                old, new = (text or "nothing" for text in change)
                error = (
                    f"{result.chapter}: its verdict is now `{new}`, and the chapter stores "
                    f"`{old}`; correct the chapter, or, if the new verdict is right, store it "
                    "with `make verdicts`."
                )
                result = replace(result, error=error)
        checked.append(result)
    return checked


def print_warnings(results: Sequence[Result]) -> None:
    """Print on stderr the warnings that the chapters printed there."""
    for result in results:
        if result.warnings:
            print(
                f"\n{result.chapter} printed a warning, which its page leaves out:",
                file=sys.stderr,
            )
            for line in result.warnings[:WARNING_LINES]:
                print(f"  {line}", file=sys.stderr)
            if (more := len(result.warnings) - WARNING_LINES) > 0:
                print(f"  and {more} more lines", file=sys.stderr)


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

    Raises:
        BookError: If there is no book to build, if another build is at work in `out`, or if the
            pages do not render.
        OSError: If a file cannot be written.
    """
    refusal = BookError(
        f"Another build is running in {out / '_build'}: wait until it ends, or choose another "
        "folder with --out."
    )
    with only_one(out / "_build" / "build.lock", refusal):
        return _build(book, out, profile, timeout, jobs, store_verdicts, store_seconds)


def _build(
    book: Path,
    out: Path,
    profile: str,
    timeout: int,
    jobs: int,
    store_verdicts: bool,
    store_seconds: bool,
) -> int:
    source = out / "_build" / "source"
    # The seconds are CPU seconds, and so they are taken on the CPU.
    device = "cpu" if store_seconds else doctor.chosen_device("auto", profile)
    parameters = {"profile": profile, "device": device}
    options: dict[str, Any] = {"parameters": parameters, "timeout": timeout}
    if store_seconds:
        results, seconds, step = time_notebooks(notebooks(book), source, **options)
    else:
        results = run_notebooks(notebooks(book), source, jobs=jobs, **options)
    if profile == "tiny" and not store_verdicts:  # what is stored is what tiny prints
        results = checked_verdicts(results, book, source)
    errors = [result.error for result in results if result.error]
    rendered = False
    if not errors:
        if store_seconds:
            stored = timing.store_seconds(RUNS, profile, seconds, step)
            print(f"stored the seconds in {stored.name}")
        if store_verdicts:
            for notebook in chapters(book):
                if store_verdict(notebook, source / notebook.relative_to(book.parent)):
                    print(f"stored the verdict of {notebook.stem}")
        stage(book, source)
        rendered = render(book, out)
    print(table(results))
    sys.stdout.flush()
    print_warnings(results)
    if errors:
        for error in errors:
            print(f"\nerror: {error}", file=sys.stderr)
        copies = f"; copies with the tracebacks: {source}/*/*.failed.ipynb"
        failed = any(source.glob("*/*.failed.ipynb"))
        print(f"The book was not rendered{copies if failed else ''}", file=sys.stderr)
        return 1
    note = "" if rendered else " (unchanged)"
    print(f"\nThe book is at {out / '_build' / 'html' / 'index.html'}{note}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splitlab.course.book",
        description="Run the chapters, render the book, and print the result of each chapter.",
        epilog=EXIT,
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
    if options.store_verdicts and options.profile != "tiny":
        parser.error("--store-verdicts needs --profile tiny, whose verdicts the tests compare")
    book = options.book.resolve()
    out = (options.out or book).resolve()
    try:
        with exits.terminable():
            return build(
                book,
                out,
                profile=options.profile,
                timeout=options.timeout,
                jobs=options.jobs,
                store_verdicts=options.store_verdicts,
                store_seconds=options.store_seconds,
            )
    except KeyboardInterrupt as stopped:
        print("\nstopped; finished chapters are kept", file=sys.stderr)
        return exits.stopped_status(stopped)
    except (BookError, ChapterError) as error:
        print(f"error: {error}", file=sys.stderr)
    except BrokenPipeError:  # `| head` has read enough
        exits.let_go()
        return exits.CLOSED_PIPE
    except OSError as error:
        print(f"error: The book was not built: {storage_fault(error, out)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
