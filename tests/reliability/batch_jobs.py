"""The jobs of `test_cluster`: notebooks written here, how a worker runs them, and a launcher.

It is a module of its own for the workers, which import what they run.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from splitlab.course import runner
from splitlab.course.batch import cluster
from splitlab.course.batch.jobs import Job

PARAMETERS = {"profile": "tiny", "device": "cpu"}

# Notes the kernel and the worker that started it, and ends once the file `go` is there.
WAITS = """
import os, time
with open("{name}.began", "a") as file:
    file.write(f"{{os.getpid()}} {{os.getppid()}}\\n")
while not os.path.exists("{go}"):
    time.sleep(0.05)
"""


ENVIRONMENT = os.environ | {  # of a process that imports this module
    "PYTHONPATH": os.pathsep.join(
        [str(Path(cluster.__file__).parents[3]), str(Path(__file__).parent)]
    )
}


def job_of(folder: Path, name: str) -> Job:
    return Job(folder / f"{name}.ipynb", PARAMETERS, folder / "out" / f"{name}.ipynb")


def write(folder: Path, name: str, source: str) -> Job:
    """A job with one cell."""
    parameters = new_code_cell(
        'profile = "tiny"\ndevice = "cpu"', metadata={"tags": ["parameters"]}
    )
    job = job_of(folder, name)
    nbformat.write(new_notebook(cells=[parameters, new_code_cell(source)]), job.notebook)
    return job


def waiting(folder: Path, name: str, go: str = "go") -> Job:
    """A job that ends once the file `go` is there."""
    return write(folder, name, WAITS.format(name=name, go=go))


def began(job: Job) -> list[tuple[int, int]]:
    """The kernel and the worker of each time that a waiting job began, as process numbers."""
    path = job.notebook.with_suffix(".began")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(kernel), int(worker)) for kernel, worker in map(str.split, lines)]


def run_job(job: Job) -> runner.Result:
    """Run a job in a worker."""
    if job.notebook.stem == "unforeseen":
        return 1 / 0
    if job.notebook.stem == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    folder = job.notebook.parent
    return runner.run(job.notebook, job.out, parameters=job.parameters, root=folder)


def until(condition, what: str, seconds: float = 90):
    """Wait until a condition holds; return its value."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, f"waited in vain: {what}"
        time.sleep(0.05)
    return value


def dask_command(role: str, *arguments: str, folder: Path) -> subprocess.Popen:
    """Start `dask scheduler` or `dask worker`, which know this module."""
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments, "--no-dashboard"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def launch(folder: Path) -> None:
    """Run two jobs, one after the other; Ctrl-C is noted only."""
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    with cluster.Local(run_job, 1) as worker:
        for name in ("first", "second"):
            print(worker.submit(job_of(folder, name)).result().error, flush=True)


if __name__ == "__main__":
    launch(Path(sys.argv[1]))
