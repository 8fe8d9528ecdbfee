"""The batch on Dask: what dies starts again, what is lost is said, nothing is left behind."""

import os
import re
import shlex
import signal
import subprocess
import sys
from concurrent.futures import CancelledError
from functools import partial

import batch_jobs
import nbformat
import one_node_slurm
import psutil
import pytest
from batch_jobs import began, dask_command, run_job, until, waiting, write

from splitlab.course.batch import cluster, slurm
from splitlab.course.batch.slurm import Allocation
from splitlab.course.notebook_files import ChapterError

dask = pytest.importorskip("dask")
pytest.importorskip("dask_jobqueue")  # now, for it adds to dask.config
distributed = pytest.importorskip("distributed")
HASH_SEED = os.environ.get("PYTHONHASHSEED")  # the key of an executed copy depends on it


SHOWS = """
import os, signal
print(os.environ.get("PYTHONHASHSEED"))
print(signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def gone(*numbers):
    """Whether none of these processes runs."""

    def over(number):
        try:
            return psutil.Process(number).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return all(over(number) for number in numbers)


def family(number=None):
    """The numbers of the processes below one, but for the one that Python keeps to clean up."""
    processes = psutil.Process(number).children(recursive=True)
    return {one.pid for one in processes if "resource_tracker" not in " ".join(one.cmdline())}


@pytest.fixture(scope="module")
def two_workers():
    with cluster.Local(run_job, 2) as workers:
        yield workers
    assert os.environ.get("PYTHONHASHSEED") == HASH_SEED  # Dask would set it here, too


def test_one_failure_is_one_jobs_own(two_workers, tmp_path):
    jobs = [
        write(tmp_path, "fails", "assert profile == 'gpu'"),
        write(tmp_path, "unforeseen", ""),
        write(tmp_path, "works", SHOWS),
    ]
    fails, unforeseen, works = [two_workers.submit(job) for job in jobs]
    assert works.result().error is None
    printed = nbformat.read(jobs[2].out, as_version=4).cells[-1].outputs[0].text
    assert printed == f"{HASH_SEED}\nset()\n"  # Dask would set one; a kernel can be interrupted
    assert isinstance(fails.exception(), ChapterError)
    assert "`assert profile == 'gpu'`" in str(fails.exception())
    assert isinstance(unforeseen.exception(), ZeroDivisionError)


def test_a_job_runs_again_when_its_worker_was_killed(two_workers, tmp_path):
    job, other = waiting(tmp_path, "one"), waiting(tmp_path, "other")
    futures = [two_workers.submit(job), two_workers.submit(other)]
    until(lambda: began(job) and began(other), "the jobs begin")
    ((kernel, worker),) = began(job)
    os.kill(worker, signal.SIGKILL)
    until(lambda: len(began(job)) == 2, "the job begins again")
    until(lambda: gone(kernel), "the kernel of the dead worker ends")
    assert all(future.running() for future in futures)
    (tmp_path / "go").touch()
    assert [future.result().error for future in futures] == [None, None]
    assert len(began(job)) == 2 and len(began(other)) == 1


def test_a_job_that_kills_its_workers_is_said_in_a_sentence_and_kill_ends_everything(tmp_path):
    before = family()
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster.Local(run_job, 1) as worker,
    ):
        error = worker.submit(write(tmp_path, "deadly", "")).exception()
        assert isinstance(error, cluster.Killed)
        assert "started 2 times" in str(error) and "\n" not in str(error)
        job, late = waiting(tmp_path, "one"), waiting(tmp_path, "late")
        futures = [worker.submit(job), worker.submit(late)]
        until(lambda: began(job), "the job begins")
        assert len(family() - before) == 2  # a worker and its kernel
        worker.kill()
        assert family() - before == set()
        for future in futures:
            with pytest.raises(CancelledError):
                future.result(timeout=0)
    assert not began(late)


def test_the_end_of_all_workers_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "NO_WORKER", 1)
    job = waiting(tmp_path, "one")
    with cluster.Local(run_job, 1) as worker:
        future = worker.submit(job)
        until(lambda: began(job), "the job begins")
        for nanny in worker._nannies.values():
            nanny.close_gracefully()  # it starts no other worker, as where memory is short
        os.kill(began(job)[0][1], signal.SIGKILL)
        error = future.exception(timeout=90)
        assert isinstance(error, cluster.Lost) and "no Dask worker any more" in str(error)


def test_a_launcher_sees_ctrl_c_alone_and_takes_everything_with_it(tmp_path):
    first, second = waiting(tmp_path, "first", "go1"), waiting(tmp_path, "second", "go2")
    errors = tmp_path / "stderr"
    empty = tmp_path / "started here"
    empty.mkdir()
    with errors.open("wb") as stderr:
        launcher = subprocess.Popen(
            [sys.executable, batch_jobs.__file__, str(tmp_path)],
            cwd=empty,
            env=batch_jobs.ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    try:
        until(lambda: began(first), "the job begins")
        os.kill(began(first)[0][1], signal.SIGKILL)
        until(lambda: len(began(first)) == 2, "the job begins again")
        os.killpg(launcher.pid, signal.SIGINT)  # as a terminal does
        assert launcher.stdout.readline() == "interrupted\n"
        (tmp_path / "go1").touch()
        assert launcher.stdout.readline() == "None\n"
        assert len(began(first)) == 2  # the worker, too, has survived it

        until(lambda: began(second), "the second job begins")
        below = family(launcher.pid)
        assert set(began(second)[0]) <= below
        assert errors.read_text() == ""
    finally:
        launcher.kill()
        launcher.communicate()
    until(lambda: gone(*below), "the worker and the kernel end")
    assert list(empty.iterdir()) == []


@pytest.fixture
def start(tmp_path):
    """Start Dask's own commands; a scheduler's address and process, a worker's process."""
    processes = []

    def scheduler():
        file = tmp_path / f"scheduler{len(processes)}.json"
        where = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        processes.append(dask_command("scheduler", *where, folder=tmp_path))
        # Dask writes the file first, and then what is in it.
        text = until(lambda: file.exists() and file.read_text().endswith("}"), "a scheduler starts")
        return re.search(r"tcp://[0-9.:]+", file.read_text())[0] if text else "", processes[-1]

    def worker(address):
        options = ("--nthreads", "1", "--local-directory", str(tmp_path / "dask"))
        processes.append(dask_command("worker", address, *options, folder=tmp_path))
        with distributed.Client(address, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=90)
        return processes[-1]

    yield scheduler, worker
    for process in processes:
        process.kill()
        process.wait()


def test_a_lost_scheduler_is_said_at_once_and_a_second_run_does_what_is_missing(start, tmp_path):
    start_scheduler, start_worker = start
    address, scheduler = start_scheduler()
    worker = start_worker(address)
    done, job, late = (waiting(tmp_path, n, go) for n, go in (("a", "."), ("b", "go"), ("c", "go")))
    with cluster.Connected(run_job, address) as workers:
        assert workers.about == f"1 Dask worker of {address}"
        assert not workers.submit(done).result().cached
        futures = [workers.submit(job), workers.submit(late)]
        until(lambda: began(job), "the job begins")
        below = family(worker.pid)
        assert set(began(job)[0]) <= below
        scheduler.kill()
        for future in [*futures, workers.submit(done)]:
            error = future.exception(timeout=60)
            assert isinstance(error, cluster.Lost)
            assert address in str(error) and "run the same command again" in str(error)
    assert not late.out.exists()
    (tmp_path / "go").touch()  # whether or not the worker still finishes its job is its own affair
    worker.wait(90)
    until(lambda: gone(*below), "the worker and the kernel end")

    address, scheduler = start_scheduler()
    worker = start_worker(address)
    with cluster.Connected(run_job, address) as workers:
        results = [workers.submit(job).result() for job in (done, job, late)]
        assert results[0].cached and not results[2].cached
        assert len(began(done)) == len(began(late)) == 1

        endless = waiting(tmp_path, "endless", "never")
        future = workers.submit(endless)
        until(lambda: began(endless), "the job begins")
    until(lambda: gone(began(endless)[0][0]), "the kernel ends with the batch")
    with pytest.raises(CancelledError):
        future.result(timeout=0)
    assert worker.poll() is None and not gone(began(endless)[0][1])  # they are somebody else's


def test_what_cannot_be_started_is_refused_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(cluster, "ANSWER", 0.5)
    closed = f"tcp://127.0.0.1:{one_node_slurm.free_port()}"
    for address in (closed, "nowhere", "tcp://"):
        with pytest.raises(ValueError, match=r"^No Dask scheduler answers at "):
            cluster.Connected(run_job, address).__enter__()
    with pytest.raises(ValueError, match=r"^--memory much is no amount"):
        slurm.script(Allocation("short", tmp_path, memory="much"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"^There is no `sbatch` here"):
        slurm.Slurm(run_job, 1, Allocation("short", tmp_path)).__enter__()
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'splitlab\[cluster\]'"):
        cluster.Local(run_job, 1)


def test_a_scheduler_without_workers_is_refused(start):
    address, _ = start[0]()
    with pytest.raises(ValueError, match=f"^The Dask scheduler at {address} has no workers: "):
        cluster.Connected(run_job, address).__enter__()


def test_the_script_for_slurm_asks_for_one_core_and_this_python(tmp_path):
    allocation = Allocation("short", tmp_path / "my logs", "course", "01:30:00", "2GiB", gpus=1)
    lines = slurm.script(allocation).splitlines()
    directives = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert {"-p short", "-A course", "-t 01:30:00", "--mem=2G", "-n 1", "--cpus-per-task=1"} <= set(
        directives
    )
    assert {f'--output="{tmp_path}/my logs/%j.log"', "--gres=gpu:1"} <= set(directives)
    assert "export OMP_NUM_THREADS=1" in lines
    command = shlex.split(lines[-1])
    assert command[:3] == [sys.executable, "-m", "distributed.cli.dask_worker"]
    assert command[command.index("--nthreads") + 1] == "1"
    assert not (tmp_path / "my logs").exists()


@pytest.fixture(scope="module")
def one_node(tmp_path_factory):
    if reason := one_node_slurm.missing():
        pytest.skip(f"only the script for Slurm was tested: {reason}")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("slurm")
        with one_node_slurm.running(folder) as configuration:
            patch.setenv("SLURM_CONF", str(configuration))
            # Where there is no network, Dask finds no address of this machine.
            patch.setenv("PYTHONPATH", batch_jobs.ENVIRONMENT["PYTHONPATH"])
            with dask.config.set({"jobqueue.slurm.interface": "lo"}):
                yield
            assert queue() == []


allocation = partial(Allocation, walltime="00:10:00", memory="500MB")


def queue():
    squeue = ["squeue", "--noheader", "--format=%A"]
    return subprocess.run(squeue, capture_output=True, text=True, check=True).stdout.split()


def test_slurm_runs_jobs_and_says_when_it_has_ended_them(one_node, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "LOOK", 0.5)
    logs = tmp_path / "my logs"
    with pytest.raises(ValueError, match=r"^Slurm does not take the job \(.*invalid partition"):
        slurm.Slurm(run_job, 1, Allocation("nowhere", logs)).__enter__()
    assert queue() == []
    with slurm.Slurm(run_job, 1, allocation("short", logs)) as workers:
        assert workers.about == "1 Dask worker in Slurm's partition short"
        assert workers.submit(write(tmp_path, "works", "")).result(timeout=120).error is None
        (number,) = queue()
        assert (logs / f"{number}.log").exists()

        job = waiting(tmp_path, "one")
        future = workers.submit(job)
        until(lambda: began(job), "the job begins")
        subprocess.run(["scancel", number], check=True)
        error = future.exception(timeout=60)
        assert isinstance(error, cluster.Lost) and "--walltime" in str(error)
    until(lambda: gone(*began(job)[0]), "the worker and the kernel end")


def test_a_wait_for_nothing_in_slurms_queue_is_said(one_node, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "LOOK", 0.5)
    with slurm.Slurm(run_job, 1, allocation("short", tmp_path, walltime="04:00:00")) as workers:
        error = workers.submit(write(tmp_path, "waits", "")).exception(timeout=60)
        assert isinstance(error, cluster.Lost) and "PartitionTimeLimit" in str(error)
    until(lambda: queue() == [], "the queue is empty")


def test_killing_a_batch_on_slurm_empties_the_queue(one_node, tmp_path):
    job = waiting(tmp_path, "one")
    with slurm.Slurm(run_job, 1, allocation("short", tmp_path)) as workers:
        workers.submit(job)
        until(lambda: began(job), "the job begins")
        workers.kill()
    until(lambda: queue() == [], "the queue is empty")
    until(lambda: gone(*began(job)[0]), "the worker and the kernel end")
