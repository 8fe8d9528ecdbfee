"""The figures of chapter 06, over seeds that chose no setting: writes `book/runs/*.json`.

    python benchmarks/hijack.py digits            # fast and paper's design, and no hijack; 6 seeds
    python benchmarks/hijack.py mnist             # the fast design at the paper's scale; 3 seeds
    python benchmarks/hijack.py mnist-fast-1e-5   # the same at the paper's client rate
    python benchmarks/hijack.py mnist-paper-1e-5  # the paper's design for ten minutes of CPU time
    python benchmarks/hijack.py mnist-paper-3e-4

The MNIST runs read the original files from SPLITLAB_DATA. One thread; minutes to half an hour each.
A run that was stopped continues with the seeds that are missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import splitlab as sl

RUNS = Path(__file__).parent.parent / "book" / "runs"
DIGITS_SEEDS = range(100, 106)
MNIST_SEEDS = (1, 2, 3)
CPU_BUDGET = 600.0  # seconds


class Deadline(sl.Observer):
    """Ends a run when the process has used its seconds of CPU time."""

    def start(self, clients: Any, server: Any, steps: int) -> None:
        """Start the clock."""
        self.started = time.process_time()

    def step(self, step: int, client: Any, server: Any) -> None:
        """Stop the run when the budget is used up."""
        if time.process_time() - self.started > CPU_BUDGET:
            raise TimeoutError


def run(
    setting: sl.settings.Setting,
    data: str,
    seed: int,
    *,
    design: str | None,
    steps: int,
    rate: float | None = None,
    observers: tuple[sl.Observer, ...] = (),
) -> tuple[sl.Client, Any, Any, float]:
    """Train one attack (design None: the honest server); return the parties and CPU seconds."""
    private, public, referee = setting.split(data, seed)
    net = setting.client_net(seed=seed)
    client = sl.Client(net, private, **setting.client(seed=seed, rate=rate))
    attack = sl.FSHA(**setting.fsha(public, design=design or "fast", steps=steps, seed=seed))
    if design is None:
        server_net = setting.server_net(seed=seed)
        attack = sl.NoHijack(server_net, attack, optimizer=setting.client_optimizer, seed=seed)
    started = time.process_time()
    progress = sl.Progress(f"{data} {design or 'no hijack'} seed {seed}")
    with suppress(TimeoutError):  # from Deadline: the run is cut short on purpose
        sl.train(
            [client], attack, steps, observers=[progress, *observers], autocast=setting.autocast
        )
    return client, attack, referee, time.process_time() - started


def digits() -> None:
    """Both designs, and the honest server, on digits at tiny scale."""
    jobs = {
        "fast": {"design": "fast", "steps": 300},
        "paper": {"design": "paper", "steps": 300},
        "paper, ten times the steps": {"design": "paper", "steps": 3000},
        "no hijack": {"design": None, "steps": 300},
    }
    for seed in DIGITS_SEEDS:
        for name, job in jobs.items():
            record("digits_tiny", f"{name}/{seed}", partial(digits_row, seed, name, job))


def digits_row(seed: int, name: str, job: dict[str, Any]) -> dict[str, Any]:
    """One run on digits."""
    client, attack, referee, seconds = run(sl.tiny, "digits", seed, **job)
    report = sl.evaluate(client, attack, referee)
    return {"run": name, "seed": seed, **job, "cpu_seconds": seconds, **report.to_dict()}


def mnist() -> None:
    """The fast design against the paper's client at cut 4, on real MNIST."""
    for seed in MNIST_SEEDS:
        record("mnist_paper_scale", f"fast/{seed}", partial(mnist_row, "fast", seed))


def mnist_slow_client() -> None:
    """The fast design against a client at the paper's rate, for 480 steps."""
    name = "fast, client rate 1e-05"
    record("mnist_paper_scale", f"{name}/1", partial(mnist_row, name, 1, steps=480, rate=1e-5))


def mnist_row(
    name: str, seed: int, *, steps: int = 240, rate: float = sl.paper.client_rate
) -> dict[str, Any]:
    """One run of the fast design on MNIST."""
    received = sl.ReceivedError()
    client, attack, referee, seconds = run(
        sl.paper, "mnist", seed, design="fast", steps=steps, rate=rate, observers=(received,)
    )
    report = sl.evaluate(client, attack, referee)
    return {
        "run": name,
        "seed": seed,
        "steps": steps,
        "client_rate": rate,
        "cpu_seconds": seconds,
        "received_mse": [round(value, 4) for value in received.mse],
        **report.to_dict(),
    }


def mnist_paper(rate: float) -> None:
    """The paper's own design, for as many steps as the budget of CPU time allows."""
    name = f"paper, client rate {rate:g}"
    record("mnist_paper_scale", f"{name}/1", partial(mnist_paper_row, name, rate))


def mnist_paper_row(name: str, rate: float) -> dict[str, Any]:
    """One run of the paper's design on MNIST."""
    received = sl.ReceivedError()
    client, attack, referee, seconds = run(
        sl.paper,
        "mnist",
        1,
        design="paper",
        steps=sl.paper.paper_steps,
        rate=rate,
        observers=(received, Deadline()),
    )
    report = sl.evaluate(client, attack, referee)
    return {
        "run": name,
        "seed": 1,
        "steps": len(received.mse),
        "client_rate": rate,
        "cpu_seconds": seconds,
        "received_mse": [round(value, 4) for value in received.mse],
        **report.to_dict(),
    }


def record(file: str, key: str, make: Any) -> None:
    """Add one row to a file of runs, unless it is there already."""
    path = RUNS / f"{file}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    if key in rows:
        print(f"{file}: {key} is there already")
        return
    row = make()
    # Read again: another process may have added its rows meanwhile.
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    rows[key] = row
    about = {
        "made_by": "benchmarks/hijack.py",
        "splitlab": sl.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": "one CPU core",
    }
    RUNS.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    text = json.dumps({"about": about, "rows": dict(sorted(rows.items()))}, indent=1)
    part.write_text(text + "\n")
    part.replace(path)
    metrics = row["received"] or row["metrics"]
    print(f"{file}: {key}: " + ", ".join(f"{name} {metrics[name]:.4f}" for name in metrics))


EXPERIMENTS = {
    "digits": digits,
    "mnist": mnist,
    "mnist-fast-1e-5": mnist_slow_client,
    "mnist-paper-1e-5": partial(mnist_paper, 1e-5),
    "mnist-paper-3e-4": partial(mnist_paper, 3e-4),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    torch.set_num_threads(1)
    EXPERIMENTS[parser.parse_args().experiment]()
