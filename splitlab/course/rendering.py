"""From executed copies to pages: laying out what is rendered, and rendering it."""

import errno
import hashlib
import itertools
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from splitlab.course import kernels
from splitlab.course.contents import BookError, notebooks, page_of, toc_files
from splitlab.course.record_files import SECONDS
from splitlab.course.records import RUNS

NO_SPACE = os.strerror(errno.ENOSPC)


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
    for path in itertools.chain(*map(book.glob, ("*.yml", "*.bib", "*.gif", "*.png"))):
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
    """A hash of all that is rendered, and of the versions of the programs that render it.

    The API reference shows the library's docstrings, so that its source counts, too.
    """
    digest = hashlib.sha256()
    digest.update((RUNS / f"{SECONDS}tiny.json").read_bytes())  # the first page quotes it
    for package in ("jupyter-book", "sphinx", "myst-nb", "sphinx-book-theme"):
        digest.update(f"{package} {version(package)}\n".encode())
    for root, pattern in ((source, "*"), (kernels.LIBRARY, "*.py")):
        for path in filter(Path.is_file, sorted(root.rglob(pattern))):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def render(book: Path, out: Path) -> bool:
    """Render the staged tree to `out`/_build/html; warnings are errors.

    Returns:
        False if nothing that goes into the pages had changed, and so nothing was done.

    Raises:
        BookError: With the warnings and the name of the full log.
        OSError: If a file cannot be written.
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
        total=200,
        desc="rendering",
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}",
        disable=None,  # where nobody watches
    )
    lines = []
    with subprocess.Popen(
        [*command, str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=kernels.environment() | {"PYTHONIOENCODING": "utf-8"},
    ) as process:
        assert process.stdout is not None
        try:
            for colored in process.stdout:
                line = re.sub(r"\x1b\[[0-9;]*m", "", colored)
                lines.append(line)
                # Sphinx counts twice to 100 %: while it reads the pages, and while it writes them.
                if step := re.match(r"(reading sources|writing output)\.*\s*\[\s*(\d+)%\]", line):
                    bar.n = int(step[2]) + (100 if step[1] == "writing output" else 0)
                    bar.refresh()
        except BaseException:  # Ctrl-C
            process.kill()
            raise
        finally:
            bar.leave = False
            bar.close()
    if process.returncode != 0 and any(NO_SPACE in line for line in lines):
        raise BookError(f"The pages were not rendered: {NO_SPACE} ({build}): free some space.")
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
    offer_downloads(book, build / "html")
    stamp.write_text(wanted)
    return True


def offer_downloads(book: Path, html: Path) -> None:
    """Put the notebooks, as they are in the repository, where the pages' download buttons lead.

    Sphinx has put the executed copies there, with all their outputs.
    """
    for file in toc_files(book):
        page = page_of(book.parent, file)
        target = html / "_sources" / page.relative_to(book.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, target)
