"""`make notebooks`: nbval compares all stored verdicts, papermill runs all chapters and solutions.

Green means that it was done: the cells that were compared and the notebooks that were executed are
counted, and the counts must be those of the table of contents.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import count_compared

from splitlab.course import contents, kernels, notebook_files

CHECK = "# NBVAL_CHECK_OUTPUT"
HERE = Path(__file__).parent
COUNTS = re.compile(count_compared.LINE.format(compared=r"(\d+)", skipped=r"(\d+)"))


def nbval(*notebooks):
    """Run notebooks of one folder by nbval, which compares what their marked cells print."""
    folder = str(notebooks[0].parent)
    # No configuration file: this project's own options are not meant for the notebooks.
    options = ["--nbval-lax", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder]
    options += ["--nbval-current-env"]  # not a kernel that Jupyter knows by the same name
    variables = kernels.environment()
    variables["PYTHONPATH"] += f"{os.pathsep}{HERE}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "count_compared", *options, *map(str, notebooks)],
        env=variables | {"PYTEST_ADDOPTS": ""},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def marked(notebook):
    """The cells that nbval is asked to compare."""
    return [cell for cell in notebook_files.code_cells(notebook) if CHECK in cell.source]


def compared(notebook):
    """The cells whose stored output nbval compares: marked, and with something to compare."""
    return [cell for cell in marked(notebook) if cell.outputs]


def faults_of_contents(book):
    """Return a sentence for each notebook that is there and that the table of contents lacks."""
    there = {
        path for folder in (book, book.parent / "solutions") for path in folder.glob("*.ipynb")
    }
    return [
        f"{path.relative_to(book.parent)} is not in {book.name}/_toc.yml: add it, or remove it"
        for path in sorted(there - set(contents.notebooks(book)))
    ]


def faults_of_verdicts(chapters, jobs=1):
    """Compare the marked cells of all chapters; return a sentence for each thing that is wrong."""
    faults, cells = [], 0
    for chapter in chapters:
        notebook = notebook_files.read(chapter)
        cells += len(marked(notebook))
        if not marked(notebook):
            faults.append(f"{chapter.stem} has no cell with {CHECK}: mark its verdict with it")
        elif len(compared(notebook)) < len(marked(notebook)):
            faults.append(f"{chapter.stem} stores no output for a marked cell: run `make verdicts`")
    parts = [chapters[number::jobs] for number in range(min(jobs, len(chapters)))]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda part: nbval(*part), parts))
    done = skipped = 0
    for result in results:
        if counts := COUNTS.search(result.stdout):
            done, skipped = done + int(counts[1]), skipped + int(counts[2])
        if result.returncode:
            print(result.stdout + result.stderr, file=sys.stderr)
            failed = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", result.stdout, flags=re.M)
            where = ", ".join(failed) or f"its start (exit status {result.returncode})"
            faults.append(f"nbval fails at {where}: its output above says why")
    if skipped:
        faults.append(f"nbval left out {skipped} cells: let it run every cell of a chapter")
    if done != cells or not cells:
        faults.append(f"nbval compared {done} cells, and {cells} are marked: it must compare all")
    print(f"nbval compared {done} of {cells} marked cells in {len(chapters)} chapters", flush=True)
    return faults


def faults_of_batch(book, out):
    """Run the batch of all chapters and solutions; return a sentence for each thing wrong."""
    command = [sys.executable, "-m", "splitlab.course.cli", "run", "book", "solutions"]
    command += ["--out", str(out), "--seeds", "0"]
    done = subprocess.run(command, env=kernels.environment(), cwd=book.parent, check=False)
    faults = []
    if done.returncode:
        faults.append(f"splitlab run ends with status {done.returncode}: it says why above")
    return faults + faults_of_results(contents.notebooks(book), out)


def faults_of_results(notebooks, out):
    """Compare what a batch left in its folder with the notebooks that it should have run."""
    names = [notebook_files.name_of(notebook) for notebook in notebooks]
    jobs, copies = _jobs_done(out), _executed(out)
    faults = []
    for name in names:
        if not jobs[name]:
            faults.append(f"no job of {name} is done in {out / 'jobs.csv'}: see its log")
        if not copies[name]:
            faults.append(f"no executed copy of {name} is in {out / 'notebooks'}: see its log")
    for what, there in (("jobs that are done", jobs), ("executed notebooks", copies)):
        if there.total() > len(names):
            faults.append(
                f"{out} has {there.total()} {what}, and the table of contents has {len(names)} "
                "notebooks: remove the folder and run this again"
            )
    print(f"papermill executed {copies.total()} of {len(names)} notebooks")
    return faults


def _jobs_done(out):
    """How many jobs of each notebook are done."""
    path = out / "jobs.csv"
    if not path.is_file():
        return Counter()
    with path.open(newline="", encoding="utf-8") as file:
        return Counter(row["notebook"] for row in csv.DictReader(file) if row["status"] == "done")


def _executed(out):
    """How many copies of each notebook are executed to the end."""
    found = Counter()
    for path in (out / "notebooks").rglob("[!.]*.ipynb"):
        if path.name.endswith(".failed.ipynb"):
            continue
        cells = notebook_files.code_cells(notebook_files.read(path))
        if all(cell.execution_count for cell in cells if cell.source.strip()):
            found[path.parent.relative_to(out / "notebooks").as_posix()] += 1
    return found


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--book", type=Path, default=Path("book"), help="the book's folder (book)")
    parser.add_argument("--out", type=Path, help="the batch's folder (_build/batch of the book)")
    options = parser.parse_args(arguments)
    book = options.book.resolve()
    out = (options.out or book / "_build" / "batch").resolve()
    try:
        faults = faults_of_contents(book)
        faults += faults_of_verdicts(contents.chapters(book), jobs=min(2, os.cpu_count() or 1))
        faults += faults_of_batch(book, out)
    except (contents.BookError, notebook_files.ChapterError) as error:
        faults = [str(error)]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
