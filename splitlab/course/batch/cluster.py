"""Jobs on Dask's workers: on this machine, or those of a scheduler that is there.

Dask decides which worker runs which job, starts a worker that died again, and runs its job again.
Here it is started, kept quiet and ended with nothing left behind. What is slow to import, or not
installed, is imported where it is used.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import multiprocessing.resource_tracker
import os
import signal
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, Self

from splitlab.course import kernels
from splitlab.course.batch.jobs import Job
from splitlab.course.runner import Result

ANSWER = 10  # seconds that a scheduler has to answer, and the workers to end their kernels
NO_WORKER = 300  # seconds for which jobs may wait for a worker of this machine to start again
QUIET = ("distributed", "dask_jobqueue", "tornado.application")
HASH_SEED = "PYTHONHASHSEED"
AGAIN = "run the same command again, which keeps the jobs that are done"


class Lost(ConnectionError):
    """What ran the jobs is gone: the jobs that were not done are not done."""


class Killed(ChildProcessError):
    """A job whose worker died each time it ran."""


def available() -> bool:
    """Whether the extra `cluster` is installed."""
    return all(importlib.util.find_spec(name) for name in ("distributed", "dask_jobqueue"))


class Cluster:
    """Jobs on Dask's workers; a context manager that starts and ends them.

    Attributes:
        about: What runs the jobs, such as "2 Dask workers on this machine".
        slots: How many jobs it runs at once.
    """

    about: str
    slots: int

    def __init__(self, function: Callable[[Job], Result]) -> None:
        """Start nothing yet.

        Args:
            function: Runs a job in a worker, which must be able to import it.

        Raises:
            ValueError: If the extra `cluster` is not installed.
        """
        if not available():
            raise ValueError(
                "Dask is not installed, which --cluster and --scheduler need: "
                "pip install 'splitlab[cluster]'"
            )
        self._function = function
        self._open: dict[int, tuple[Future[Result], Any]] = {}  # Dask's future beside ours
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._lost: Lost | None = None
        self._topic = f"splitlab-{uuid.uuid4().hex}"
        self._stack = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ValueError: One sentence on why it cannot be started.
        """
        import dask

        _silence()
        with self._stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of ports in use and of other versions
            folder = self._stack.enter_context(
                TemporaryDirectory(prefix="splitlab-dask-", ignore_cleanup_errors=True)
            )
            settings = {
                "temporary-directory": folder,
                # Dask drops a worker that takes longer to start again, as on a busy machine.
                "distributed.deploy.lost-worker-timeout": "1 day",
            }
            self._stack.enter_context(dask.config.set(settings))
            self._client = self._start(self._stack)
            self._client.subscribe_topic(self._topic, self._started)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it; what is not done then never is."""
        if self._open:
            self.kill()
        self._stack.close()

    def submit(self, job: Job) -> Future[Result]:
        """Have a worker run a job.

        The future has what the function returned or raised. It raises `Killed` if the job's worker
        died each time, `Lost` if the cluster is gone, and CancelledError after `kill`.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._lost:
                future.set_exception(self._lost)
                return future
            number = next(self._numbers)
            task = self._client.submit(
                _work,
                self._function,
                job,
                (self._topic, number),
                os.environ.get(HASH_SEED),
                key=f"{self._topic}-{number}",
                pure=False,
            )
            self._open[number] = future, task
        task.add_done_callback(partial(self._settle, number))
        return future

    def kill(self) -> None:
        """Stop all jobs at once, with their kernels; those that did not start never do."""
        with self._lock:
            left, self._open = self._open, {}
        for future, task in left.values():
            with suppress(Exception):  # of a client that is closed
                task.cancel()
            _fail(future, CancelledError())
        if left and not self._lost:
            self._kill_kernels()
        self._stack.close()

    def _start(self, stack: ExitStack) -> Any:
        """Start what runs the jobs, note on the stack how it ends, and return Dask's client."""
        raise NotImplementedError

    def _kill_kernels(self) -> None:
        """Kill the kernels of this batch."""
        # In a thread of its own: it has no time limit, and a worker may not answer.
        kill = threading.Thread(
            target=partial(self._client.run, kernels.kill_all, on_error="ignore"), daemon=True
        )
        kill.start()
        kill.join(ANSWER)

    def _started(self, event: tuple[float, int]) -> None:
        """A worker says that it runs a job; it says so again if another worker died of it."""
        with self._lock:
            future, _ = self._open.get(event[1], (None, None))
        if future and not future.running() and not future.done():
            future.set_running_or_notify_cancel()

    def _settle(self, number: int, task: Any) -> None:
        """A job is over in Dask: in a thread of Dask, pass on what came of it."""
        import distributed

        if task.status == "cancelled" or self._client.status != "running":
            if number in self._open:  # not cancelled from here
                self._lose(f"The Dask scheduler {self._where()}does not answer any more: {AGAIN}.")
            return
        result: Any = None
        error: BaseException | None = None
        try:
            result = task.result()
        except distributed.scheduler.NoWorkerError:
            self._lose(f"There is no Dask worker any more, and none starts: {AGAIN}.")
            return
        except distributed.KilledWorker as killed:
            error = Killed(
                f"the job was started {killed.allowed_failures + 1} times, and its worker died "
                "each time (often: out of memory): use fewer jobs at a time or a smaller profile"
            )
        except BaseException as raised:
            error = raised
        with self._lock:
            future, _ = self._open.pop(number, (None, None))
        task.release()
        if future is None:
            return
        if error is not None:
            _fail(future, error)
        else:
            with suppress(InvalidStateError):
                future.set_result(result)

    def _lose(self, why: str) -> None:
        """Fail all jobs that are not done: the cluster is gone."""
        with self._lock:
            self._lost = self._lost or Lost(why)
            left, self._open = self._open, {}
        for future, _ in left.values():
            _fail(future, self._lost)

    def _where(self) -> str:
        return ""


class Local(Cluster):
    """Workers on this machine, one process a job."""

    def __init__(self, function: Callable[[Job], Result], jobs: int) -> None:
        """Start nothing yet.

        Args:
            function: Runs a job in a worker.
            jobs: How many jobs may run at a time.

        Raises:
            ValueError: If the extra `cluster` is not installed.
        """
        super().__init__(function)
        self.slots = jobs
        self._nannies: Any = {}
        self.about = f"{workers(jobs)} on this machine"

    def _start(self, stack: ExitStack) -> Any:
        import dask
        import distributed

        class Nanny(distributed.Nanny):
            """As Dask's, but the launcher's own environment stays as it is."""

            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                self.pre_spawn_env = {}

        timeout = dask.config.set({"distributed.scheduler.no-workers-timeout": NO_WORKER})
        with timeout, _interrupts_blocked():
            cluster = distributed.LocalCluster(
                n_workers=self.slots,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                worker_class=Nanny,
                env=kernels.ONE_THREAD,
                preload=[__name__],  # `dask_setup` below
                memory_limit=0,  # the kernels need the memory, of which Dask knows nothing
                silence_logs=logging.CRITICAL,
            )
        stack.callback(cluster.close, timeout=ANSWER)
        self._nannies = cluster.workers
        return stack.enter_context(distributed.Client(cluster, set_as_default=False))

    def _kill_kernels(self) -> None:
        import psutil

        processes = []
        for nanny in list(self._nannies.values()):
            nanny.close_gracefully()  # it then starts no other worker
            with suppress(psutil.Error):
                worker = psutil.Process(nanny.pid)
                processes += [worker, *worker.children(recursive=True)]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=ANSWER)


class Connected(Cluster):
    """The workers of a Dask scheduler that is there, which go on after the batch."""

    def __init__(self, function: Callable[[Job], Result], address: str) -> None:
        """Start nothing yet.

        Args:
            function: Runs a job in a worker.
            address: The scheduler's, such as ``tcp://10.0.0.5:8786``.

        Raises:
            ValueError: If the extra `cluster` is not installed.
        """
        super().__init__(function)
        self._scheduler = address
        self.slots = 1  # until it is known
        self.about = f"the Dask workers of {address}"

    def _start(self, stack: ExitStack) -> Any:
        import distributed

        try:
            client = distributed.Client(self._scheduler, timeout=ANSWER, set_as_default=False)
        except (OSError, ValueError):
            raise ValueError(
                f"No Dask scheduler answers at {self._scheduler}: start one with `dask scheduler`, "
                "and copy the address that it prints"
            ) from None
        stack.enter_context(client)
        if not (found := client.ncores()):
            raise ValueError(
                f"The Dask scheduler at {self._scheduler} has no workers: start some with "
                f"`dask worker {self._scheduler} --nthreads 1`"
            )
        try:
            client.run(_ready)
        except Exception as error:
            raise ValueError(
                f"A Dask worker of {self._scheduler} cannot run splitlab "
                f"({type(error).__name__}: {error}): install the same splitlab there"
            ) from None
        self.slots = sum(found.values())
        self.about = f"{workers(len(found))} of {self._scheduler}"
        return client

    def _where(self) -> str:
        return f"at {self._scheduler} "


def dask_setup(worker: Any) -> None:
    """Dask calls this in each worker that `Local` starts: Ctrl-C is the launcher's to see.

    The worker's process started with SIGINT blocked. It now ignores it, so that the kernels, which
    would inherit the block, can be interrupted.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _work(
    function: Callable[[Job], Result], job: Job, started: tuple[str, int], hash_seed: str | None
) -> Result:
    """In a worker: say that the job runs, and run it."""
    import distributed

    # Dask sets it for its workers, but the key of an executed copy depends on it.
    os.environ.pop(HASH_SEED, None)
    if hash_seed is not None:
        os.environ[HASH_SEED] = hash_seed
    topic, number = started
    distributed.get_worker().log_event(topic, number)
    return function(job)


def _ready() -> None:
    """In a worker: unpickling this has imported splitlab."""


def _fail(future: Future[Result], error: BaseException) -> None:
    with suppress(InvalidStateError):  # it is done already
        future.set_exception(error)


def workers(number: int) -> str:
    """Say how many workers."""
    return f"{number} Dask worker{'' if number == 1 else 's'}"


def _silence() -> None:
    """Keep Dask from printing: what concerns the user is raised."""
    import distributed  # noqa: F401 it sets the levels of its loggers

    for name in list(logging.root.manager.loggerDict):
        if name.startswith(QUIET):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Start threads inside whose processes, also those started later, see no Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Python starts this process before another one, and then unblocks SIGINT.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
