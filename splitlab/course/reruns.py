"""Running experiments again, several at once."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

import splitlab as sl
from splitlab.course.exits import without_interrupts
from splitlab.course.experiments import Experiment


def measured(experiments: Iterable[Experiment], jobs: int) -> dict[Experiment, dict[str, Any]]:
    """Run experiments, `jobs` at a time, with progress on stderr.

    Args:
        experiments: The experiments.
        jobs: How many run at once, each in a process of its own where there are several.

    Returns:
        The row of each.

    Raises:
        ValueError: If a process that ran one was killed.
    """
    # The longest first, so that no process is left with it at the end.
    queue = sorted(experiments, key=lambda one: (-one.steps, one.name))
    jobs = min(jobs, len(queue))
    if jobs <= 1:
        _one_thread()
        return {
            one: one.row(observers=[sl.Progress(f"[{n}/{len(queue)}] {one.name}")])
            for n, one in enumerate(queue, start=1)
        }
    from tqdm import tqdm

    rows = {}
    fresh = multiprocessing.get_context("spawn")  # a forked process would hang on torch's threads
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(jobs, mp_context=fresh, initializer=_one_thread)
    try:
        with tqdm(
            total=len(queue), unit="run", desc="rerunning", file=sys.stderr, disable=None
        ) as bar:
            with without_interrupts():
                futures = {pool.submit(_row, one): one for one in queue}
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                bar.update()
    except BrokenProcessPool:
        raise ValueError(
            f"a process that ran an experiment was killed, perhaps for lack of memory: use fewer "
            f"--jobs than {jobs}"
        ) from None
    except BaseException:  # the program would wait for experiments that nobody wants any more
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return rows


def _row(experiment: Experiment) -> dict[str, Any]:
    return experiment.row()


def _one_thread() -> None:
    torch.set_num_threads(1)
