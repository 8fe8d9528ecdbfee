"""Where the jobs of a batch run: in threads here, or on Dask (`cluster`)."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

import torch
from filelock import FileLock, Timeout

from splitlab.course import kernels, runner
from splitlab.course.batch.jobs import Job
from splitlab.course.notebook_files import ChapterError
from splitlab.course.runner import Result

ROOT = kernels.LIBRARY.parent


class Engine(AbstractContextManager["Engine"], Protocol):
    """What runs jobs, several at once; a context manager, which leaves nothing running.

    Attributes:
        about: What it is, for a reader, such as "2 at a time".
        slots: How many jobs it runs at once.
    """

    about: str

    @property
    def slots(self) -> int:
        """How many jobs run at once."""

    def submit(self, job: Job) -> Future[Result]:
        """Run a job, as soon as there is a place for it."""

    def kill(self) -> None:
        """End what runs, with its kernels, at once."""


class Threads:
    """Threads of this process; the work is done by the kernels, which are processes."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.about = f"{slots} at a time"
        self._pool = ThreadPoolExecutor(max_workers=slots)
        self._futures: set[Future[Result]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if error is not None:
            self.kill()
        self._pool.shutdown()

    def submit(self, job: Job) -> Future[Result]:
        """Run a job, as soon as a thread is free."""
        future = self._pool.submit(run_job, job)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def kill(self) -> None:
        """Kill the kernels, until no thread runs a notebook."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        while wait(set(self._futures), timeout=0.1).not_done:
            kernels.kill_all()  # again: a kernel may have been about to start


def run_job(job: Job) -> Result:
    """Run a job in this process: what each engine calls.

    Returns:
        What came of it; a notebook that fails is a result, too.
    """
    start = time.perf_counter()
    try:
        with _gpu(str(job.parameters.get("device", "cpu"))) as environment:
            return runner.run(
                job.notebook,
                job.out,
                parameters=job.parameters,
                root=ROOT,
                timeout=job.timeout,
                environment=environment,
                log=job.log,
            )
    except ChapterError as error:
        known = runner.result_of(job.notebook, job.out)
        if known is None or known.error != str(error):  # none, or an earlier run's
            known = Result(job.chapter, time.perf_counter() - start, False, "")
        return replace(known, error=str(error), cached=False)


@contextmanager
def _gpu(device: str) -> Iterator[dict[str, str]]:
    """Hold one of this machine's GPUs, for two notebooks would share its memory and its time.

    Args:
        device: The job's; on the CPU nothing is held.

    Yields:
        The environment variables of a kernel that is to see that GPU alone.
    """
    if not device.startswith("cuda") or not torch.cuda.is_available():
        yield {}
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if visible != [""] else [str(n) for n in range(torch.cuda.device_count())]
    _, numbered, number = device.partition(":")
    wanted = [names[int(number)]] if numbered else names
    folder = Path(tempfile.gettempdir())
    locks = {name: FileLock(folder / f"splitlab-gpu-{name}.lock", mode=0o666) for name in wanted}
    while True:
        for name, lock in locks.items():
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                # With a number, the notebook counts all GPUs, and so it has to see them.
                yield {} if numbered else {"CUDA_VISIBLE_DEVICES": name}
            finally:
                lock.release()
            return
        time.sleep(0.2)
