"""Run the jobs of a batch: what is missing, with progress, until all is done or it is stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress

from tqdm import tqdm

from splitlab.course import exits, records, runner
from splitlab.course.batch.engines import ROOT, Engine
from splitlab.course.batch.jobs import Job, Outcome
from splitlab.course.notebook_files import one_line
from splitlab.course.runner import Result
from splitlab.course.timing import SECONDS

BAR = "{desc}: {n_fmt} of {total_fmt} jobs{postfix} |{bar}| {remaining} left"


def finished(jobs: Sequence[Job]) -> dict[Job, Result]:
    """The jobs that an earlier batch has done, with nothing changed since.

    Raises:
        ChapterError: If a notebook cannot be read.
    """
    done = {}
    for job in jobs:
        key = runner.key(job.notebook, job.parameters, ROOT)
        if result := runner.cached(job.notebook, job.out, key):
            done[job] = result
    return done


def launch(
    jobs: Sequence[Job], done: Mapping[Job, Result], start: Callable[[], Engine]
) -> tuple[list[Outcome], BaseException | None]:
    """Run the jobs that are not done; the longest first, by recorded seconds.

    Ctrl-C lets the running jobs finish, and a second one ends them. SIGTERM ends them at once.

    Args:
        jobs: All jobs.
        done: The results of those that need not run.
        start: Makes the engine; called if a job has to run.

    Returns:
        What came of each job, in order; and what stopped the batch, if something did: Ctrl-C,
        SIGTERM, or a `ConnectionError` where the engine was lost.
    """
    results = dict(done)
    waiting = _longest_first([job for job in jobs if job not in done])
    stopped: BaseException | None = None
    if waiting:
        try:
            with start() as engine:
                stopped = _run(waiting, engine, results, len(jobs))
        except (KeyboardInterrupt, ConnectionError) as error:
            stopped = error
    return [Outcome(job, results.get(job)) for job in jobs], stopped


def _run(
    waiting: list[Job], engine: Engine, results: dict[Job, Result], total: int
) -> KeyboardInterrupt | None:
    """Fill in the results; return what asked to stop, once the running jobs have ended."""
    print(
        f"{len(waiting)} jobs to run, {len(results)} done before; {engine.about}.",
        file=sys.stderr,
    )
    progress = _Progress(total, len(results))
    running: dict[Future[Result], Job] = {}
    told = False
    try:
        with exits.patient() as asked:
            while running or (waiting and not asked):
                while waiting and not asked and len(running) < engine.slots:
                    job = waiting.pop(0)
                    running[engine.submit(job)] = job
                for future in wait(running, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    result = results[job] = _result(job, future)
                    progress.add(job, result)
                if asked and running and not told:
                    told = True
                    progress.say(
                        f"stopping: {len(running)} running jobs finish first; Ctrl-C again ends "
                        "them now"
                    )
                progress.show(sum(future.running() for future in running))
            return asked[0] if asked else None
    except BaseException:
        engine.kill()
        for job in running.values():
            _forget(job)
        raise
    finally:
        progress.close()


def _result(job: Job, future: Future[Result]) -> Result:
    """What a job's worker gave.

    Raises:
        ConnectionError: If the engine is lost, for then no other job can run.
    """
    try:
        return future.result()
    except ConnectionError:
        raise
    except Exception as error:  # a fault of one job, of whatever kind, leaves the others alone
        kind = "" if isinstance(error, ChildProcessError) else f"{type(error).__name__}: "
        said = one_line(f"{kind}{error}", 240)
        return Result(job.chapter, 0.0, False, "", f"{job.chapter} did not run ({said}).")


def _forget(job: Job) -> None:
    """Leave no trace of a failure where it was the batch that ended a job."""
    with suppress(OSError):
        runner.forget(job.out)
    with suppress(OSError), job.log.open("a", encoding="utf-8") as log:
        log.write("stopped: the batch was ended before this job was done\n")


def _longest_first(jobs: list[Job]) -> list[Job]:
    """Sort the jobs so that none of the long ones is left at the end; otherwise keep the order."""
    seconds: dict[tuple[str, str], float] = {}
    for profile in {str(job.parameters.get("profile", "tiny")) for job in jobs}:
        path = records.path_of(f"{SECONDS}{profile}")
        if path.exists():
            rows = records.rows_of(path).values()
            seconds |= {(profile, row["run"]): row["cpu_seconds"] for row in rows}
    known = {
        job: seconds.get((str(job.parameters.get("profile", "tiny")), job.chapter), 0.0)
        for job in jobs
    }
    return sorted(jobs, key=lambda job: -known[job])


class _Progress:
    """A bar on a terminal, a line for each job elsewhere; failures are said at once on both."""

    def __init__(self, total: int, done: int) -> None:
        self._bar = tqdm(
            total=total,
            initial=done,
            desc="batch",
            bar_format=BAR,
            dynamic_ncols=True,
            leave=False,
            file=sys.stderr,
            disable=None,  # where nobody watches
        )
        self._total, self._ended, self._failed = total, done, 0

    def add(self, job: Job, result: Result) -> None:
        """Count a job that has ended."""
        self._ended += 1
        self._failed += bool(result.error)
        self._bar.update()
        how = f"FAILED: {result.error}" if result.error else f"done in {result.seconds:.0f} s"
        if result.error or self._bar.disable:
            self.say(f"[{self._ended}/{self._total}] {job.name}: {how}")

    def show(self, running: int) -> None:
        """Bring the bar up to date."""
        done = self._ended - self._failed
        self._bar.set_postfix_str(f"{done} done, {self._failed} failed, {running} running")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
