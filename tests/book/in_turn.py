"""Which solutions run when the book is built for the tests, and how the others are left out.

A fifth has its turn, another one at each commit (see `rotation`). The gate in `tests/checks` holds
every check against its solution each time. The chapters always run.
"""

from pathlib import Path

import nbformat
import rotation

from splitlab.course import book, doctor, editions, notebook_files, runner

ROOT = Path(__file__).parents[2]
PARTS = 5
SOLUTIONS = editions.masters(ROOT)
RUN = rotation.share(SOLUTIONS, PARTS)
rotation.chosen["solutions that the book runs"] = [path.stem for path in RUN]


def leave_out(paths, out):
    """Put notebooks where the build looks for executed copies, as if they had run: no outputs."""
    parameters = {"profile": "tiny", "device": doctor.chosen_device("auto", "tiny")}
    for path in paths:
        notebook = notebook_files.without_outputs(runner.read(path))
        key = runner.key(path, parameters, ROOT)
        notebook.metadata["splitlab"] = {"key": key, "seconds": 0.0}
        copy = out / "_build" / "source" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, copy)


def build(out):
    """Build the book into an empty folder; return the exit status."""
    leave_out([path for path in SOLUTIONS if path not in RUN], out)
    return book.build(ROOT / "book", out)
