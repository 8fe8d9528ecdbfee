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
from contextlib import suppress
from pathlib import Path
from typing import Any

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


class Kernel(AsyncKernelManager):
    """A kernel on this interpreter, no matter which kernels Jupyter knows by name."""

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
            await super().start_kernel(**options)
        except BaseException:
            self._forget()
            raise

    async def cleanup_resources(self, restart: bool = False) -> None:
        """Remove what is left when the kernel has ended."""
        await super().cleanup_resources(restart=restart)
        if not restart:
            self._forget()

    def _forget(self) -> None:
        _running.discard(self)
        if self._settings is not None:
            self._settings.cleanup()


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
    """The folders that PYTHONPATH names, but for the library's own; absolute."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [published.absolute(folder) for folder in named if folder]
    return [str(folder) for folder in folders if folder.resolve() != LIBRARY.parent]


def fault() -> str:
    """What keeps a kernel from starting, in a few words; "" where one starts."""
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
