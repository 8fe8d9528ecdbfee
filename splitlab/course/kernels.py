"""The kernels that run the book's notebooks: the interpreter and the library that build the book.

Jupyter looks a kernel up by its name, and what it finds may belong to another environment. Here the
kernels are started by path, with an environment in which no setting of the machine changes what a
chapter computes or shows.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from splitlab.data import published

LIBRARY = Path(__file__).resolve().parents[1]

# One thread per kernel: sums come out in one order, and two kernels do not fight for two cores.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}

# PYTHONOPTIMIZE removes the asserts of the verdicts, PYTHONSTARTUP runs code before the first cell,
# and with MPLBACKEND the pages would have no figures.
LEFT_OUT = {"PYTHONOPTIMIZE", "PYTHONSTARTUP", "MPLBACKEND"}

# What goes wrong when a kernel starts is raised, and said in a sentence; these loggers would print
# it a second time, as a traceback.
for _name in ("papermill", "traitlets"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_running: set[Kernel] = set()


@dataclass
class KernelRun:
    """What a run passes to its kernel, and what it learns about it.

    Attributes:
        variables: Further environment variables of the kernel.
        client: The connection to the kernel, once there is one.
        cpu_seconds: The CPU seconds of the kernel and of its own children that have ended, once the
            kernel is to end; None if it died before.
        memory: The most memory that the kernel had, in bytes, as `cpu_seconds`.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    client: AsyncKernelClient | None = None
    cpu_seconds: float | None = None
    memory: int | None = None

    def manager(self) -> type[Kernel]:
        """The class of this run's kernel, for papermill, which makes the kernel itself."""
        return type("Kernel", (Kernel,), {"kernel_run": self})


class Kernel(AsyncKernelManager):
    """A kernel on this interpreter, no matter which kernels Jupyter knows by name."""

    kernel_run: KernelRun | None = None
    _settings: tempfile.TemporaryDirectory[str] | None = None

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")

    async def start_kernel(self, **options: Any) -> None:
        """Start it, without the startup files and settings of the user's own IPython."""
        self._settings = tempfile.TemporaryDirectory(
            prefix="splitlab-ipython-", ignore_cleanup_errors=True
        )
        _running.add(self)
        try:
            options["env"] = environment() | {"IPYTHONDIR": self._settings.name}
            if self.kernel_run is not None:
                options["env"] |= self.kernel_run.variables
            await super().start_kernel(**options)
        except BaseException:
            self._forget()
            raise

    def client(self, **options: Any) -> AsyncKernelClient:
        """Connect to it."""
        client = super().client(**options)
        if self.kernel_run is not None:
            self.kernel_run.client = client
        return client

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:
        """End it, after recording the resources that it used."""
        process = getattr(self.provisioner, "process", None)
        if self.kernel_run is not None and process is not None:
            self.kernel_run.cpu_seconds, self.kernel_run.memory = usage(process.pid)
        await super().shutdown_kernel(now=now, restart=restart)

    async def cleanup_resources(self, restart: bool = False) -> None:
        """Clean up after the kernel has ended."""
        await super().cleanup_resources(restart=restart)
        if not restart:
            self._forget()

    def _forget(self) -> None:
        _running.discard(self)
        if self._settings is not None:
            self._settings.cleanup()


def usage(pid: int) -> tuple[float | None, int | None]:
    """The CPU seconds of a process and its ended children, and its peak memory in bytes.

    Where the system does not keep the most memory, it is that of now. None of a process that is
    not there.
    """
    try:
        process = psutil.Process(pid)
        used = process.memory_info()
        memory = getattr(used, "peak_wset", used.rss)  # Windows
        status = Path(f"/proc/{pid}/status")  # Linux
        if status.exists():
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            memory = int(lines["VmHWM"].split()[0]) * 1024
        times = process.cpu_times()
        seconds = times.user + times.system + times.children_user + times.children_system
    except (psutil.Error, OSError, LookupError):  # a process that is ending has no memory
        return None, None
    return round(seconds, 2), memory


def environment() -> dict[str, str]:
    """The environment variables of a kernel."""
    variables = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    variables |= ONE_THREAD
    # A kernel starts in its notebook's folder, where a relative path would name another folder.
    for name in (published.DATA, published.CACHE):
        if folder := published.folder_from(name):
            variables[name] = str(folder)
    # What the builder imports may lie in the folder where it was started, not in the environment.
    variables["PYTHONPATH"] = os.pathsep.join([str(LIBRARY.parent), *further_path()])
    return variables


def further_path() -> list[str]:
    """The folders that PYTHONPATH names, except the library's own; absolute."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [published.absolute(folder) for folder in named if folder]
    return [str(folder) for folder in folders if folder.resolve() != LIBRARY.parent]


def fault() -> str:
    """Why a kernel does not start, in a few words; "" if one starts."""
    command = [sys.executable, "-m", "ipykernel_launcher", "--version"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"]
    return lines[-1] if tried.returncode else ""


def kill_all() -> None:
    """Kill the kernels that this process has started, with their own children."""
    for kernel in list(_running):
        process = getattr(kernel.provisioner, "process", None)
        if process is None or process.poll() is not None:
            continue
        with suppress(OSError):
            if hasattr(os, "killpg"):  # a kernel leads a process group of its own
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
