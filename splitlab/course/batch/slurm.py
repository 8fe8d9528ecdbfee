"""Jobs on Dask's workers in Slurm jobs, which dask-jobqueue submits."""

from __future__ import annotations

import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitlab.course import kernels
from splitlab.course.batch.cluster import AGAIN, ANSWER, Cluster, workers
from splitlab.course.batch.jobs import Job
from splitlab.course.runner import Result

LOOK = 10  # seconds between two looks at Slurm's queue

# Why jobs stay in the queue for good. Slurm takes them all the same, unless it is told not to.
NEVER = {
    "AccountNotAllowed",
    "AssocMaxWallDurationPerJobLimit",
    "BadConstraints",
    "PartitionNodeLimit",
    "PartitionTimeLimit",
    "QOSMaxWallDurationPerJobLimit",
}


@dataclass(frozen=True, slots=True)
class Allocation:
    """What each worker asks Slurm for: one task with one core.

    Attributes:
        partition: The partition.
        logs: The folder for the workers' logs; the nodes must see it, too.
        account: The account that pays, None for the user's own.
        walltime: The longest that a worker may live, as Slurm writes it.
        memory: The memory, such as ``4GB``.
        gpus: The number of GPUs.
    """

    partition: str
    logs: Path
    account: str | None = None
    walltime: str = "04:00:00"
    memory: str = "4GB"
    gpus: int = 0


def script(allocation: Allocation) -> str:
    """The script that `Slurm` submits for each worker; nothing is submitted.

    Raises:
        ValueError: If the memory cannot be read.
    """
    from dask_jobqueue.slurm import SLURMJob

    return SLURMJob("tcp://THIS-MACHINE:PORT", name="WORKER", **_options(allocation)).job_script()


class Slurm(Cluster):
    """Workers in Slurm jobs, one job each, started from a machine that has `sbatch`."""

    def __init__(
        self, function: Callable[[Job], Result], jobs: int, allocation: Allocation
    ) -> None:
        """Start nothing yet.

        Args:
            function: Runs a job in a worker.
            jobs: How many jobs may run at a time.
            allocation: What each worker asks for.

        Raises:
            ValueError: If the extra `cluster` is not installed.
        """
        super().__init__(function)
        self.slots = jobs
        self._allocation = allocation
        self.about = f"{workers(jobs)} in Slurm's partition {allocation.partition}"

    def _start(self, stack: ExitStack) -> Any:
        import dask_jobqueue
        import distributed

        _check(script(self._allocation))
        self._allocation.logs.mkdir(parents=True, exist_ok=True)
        cluster = dask_jobqueue.SLURMCluster(
            scheduler_options={"dashboard": False, "dashboard_address": None},
            silence_logs="critical",
            **_options(self._allocation),
        )
        stack.callback(cluster.close, timeout=ANSWER)
        cluster.scale(jobs=self.slots)
        client = stack.enter_context(distributed.Client(cluster, set_as_default=False))
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(cluster, ended), daemon=True)
        watch.start()
        stack.callback(watch.join)
        stack.callback(ended.set)
        return client

    def _watch(self, cluster: Any, ended: threading.Event) -> None:
        """Wait for the end; until then, see what Slurm does with the workers' jobs."""
        while not ended.wait(LOOK):
            ours = {str(worker.job_id) for worker in list(cluster.workers.values())}
            answer = _slurm("squeue", "--me", "--noheader", "--format=%A %r")
            lines = map(str.split, answer.stdout.splitlines())
            reasons = {reason for number, reason in lines if number in ours}
            if answer.returncode or not ours:
                continue
            if not reasons:
                self._lose(
                    "Slurm has ended all workers (often: --walltime is over), whose logs are in "
                    f"{self._allocation.logs}: {AGAIN}."
                )
            elif reasons <= NEVER:
                self._lose(
                    f"Slurm would never start the workers ({', '.join(sorted(reasons))}): choose a "
                    "shorter --walltime, less --memory or another --partition."
                )


def _options(allocation: Allocation) -> dict[str, Any]:
    """What dask-jobqueue is given.

    Raises:
        ValueError: If the memory cannot be read.
    """
    from dask.utils import parse_bytes

    try:
        parse_bytes(allocation.memory)
    except ValueError:
        raise ValueError(
            f"--memory {allocation.memory} is no amount of memory: write it as in 4GB"
        ) from None
    directives = [f'--output="{allocation.logs}/%j.log"']
    if allocation.gpus:
        directives.append(f"--gres=gpu:{allocation.gpus}")
    return {
        "job_name": "splitlab",
        "queue": allocation.partition,
        "account": allocation.account,
        "walltime": allocation.walltime,
        "memory": allocation.memory,
        "cores": 1,
        "processes": 1,
        "python": shlex.quote(sys.executable),
        "job_script_prologue": [f"export {name}={n}" for name, n in kernels.ONE_THREAD.items()],
        "job_extra_directives": directives,
        "worker_extra_args": ["--no-dashboard"],
    }


def _check(submitted: str) -> None:
    """Ask Slurm whether it would take a script.

    Raises:
        ValueError: If it would not, or if there is no Slurm.
    """
    answer = _slurm("sbatch", "--test-only", script=submitted)
    if answer.returncode:
        lines = answer.stderr.split("\n")
        reason = next((line for line in lines if "error" in line or "fail" in line), lines[0])
        raise ValueError(
            f"Slurm does not take the job ({reason.strip()}): see `sinfo` for the partitions and "
            "their limits"
        )


def _slurm(*command: str, script: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError(
            f"There is no `{command[0]}` here: run this on a machine that submits to Slurm"
        ) from None
