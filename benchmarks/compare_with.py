"""Scaffolding: compares this tree with another one, run by run; it goes when the house stands.

Every kind of recorded experiment, every protocol included, runs for a few steps in either tree, in
a process of its own. Figures, and a hash of every weight and every optimizer's state after each
training, must be equal to the last bit. Times are left out.

    git worktree add /tmp/before COMMIT
    python benchmarks/compare_with.py /tmp/before
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

SEED, STEPS = 107, 20  # a seed that is not recorded
MORE_STEPS = {"protocols_tiny": 30, "labels_tiny": 200}  # whole rounds; early and late gradients
TIMES = ("seconds", "cpu_seconds")
HERE = Path(__file__).resolve().parents[1]


def main() -> int:
    """Compare, print what differs, and return 1 if anything does."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other tree")
    parser.add_argument("--only", default="", help="tables whose names begin so")
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        for name, result in results(options.only):
            print(json.dumps([name, result], sort_keys=True), flush=True)
        return 0
    here, there = (read(tree, options) for tree in (HERE, options.other))
    differing = [name for name in here.keys() | there.keys() if here.get(name) != there.get(name)]
    for name in sorted(differing):
        print(f"{name}: {first_difference(here.get(name), there.get(name))}")
    refused = sum(isinstance(result, str) for result in here.values())
    equal = len(here) - len(differing)
    print(f"{equal} of {len(here)} kinds are equal; {refused} of them stop with one sentence")
    return int(bool(differing) or not here)


def read(tree: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a tree's runs give; from a file beside it where it has been asked before."""
    kept = tree.resolve().parent / f"{tree.resolve().name}-runs{options.only}.jsonl"
    if tree == HERE or not kept.exists():
        command = [sys.executable, __file__, str(tree), "--write", "--only", options.only]
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "SPLITLAB_OFFLINE": "1"}
        environment = {**os.environ, **threads, "PYTHONPATH": str(tree)}
        run = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        if tree == HERE:
            return dict(json.loads(line) for line in run.stdout.splitlines())
        kept.write_text(run.stdout)
    return dict(json.loads(line) for line in kept.read_text().splitlines())


def results(only: str) -> Any:
    """Yield the name of each kind, and its figures and weights, or the sentence it stopped with."""
    import torch

    import splitlab as sl

    torch.set_num_threads(1)
    for module in (sys.modules.get(f"splitlab.{m}") for m in ("referee", "referee.images")):
        if hasattr(module, "ORACLE_STEPS"):
            module.ORACLE_STEPS = 20  # its training is the same whatever its length
    trained: list[Any] = []
    train = sl.train

    def watched(clients: Any, server: Any, *arguments: Any, **options: Any) -> Any:
        log = train(clients, server, *arguments, **options)
        trained.append([tensors(clients), tensors(server), log.state_dict()["metrics"]])
        return log

    sl.train = watched
    kinds = {(one.table, one.run): one for one in sl.experiments.experiments()}
    for (table, run), one in kinds.items():
        if not table.startswith(only) or one.profile != "tiny" or one.data == "orl_faces":
            continue
        trained.clear()
        try:
            steps = min(one.steps, MORE_STEPS.get(table, STEPS))
            row: Any = replace(one, seed=SEED, steps=steps).row()
            row = {name: value for name, value in row.items() if name not in TIMES}
            result: Any = {"figures": plain(row), "trained": plain(trained)}
        except Exception as error:
            result = f"{type(error).__name__}: {error}"
        yield f"{table}/{run}", result


def tensors(root: Any) -> list[str]:
    """Hashes of the weights, buffers and optimizer states in reach, whatever they are called."""
    import torch

    found, seen, queue = [], {}, deque([root])
    while queue:
        value = queue.popleft()
        if id(value) in seen or isinstance(value, torch.Tensor | str | int | float | type):
            continue
        seen[id(value)] = value
        if isinstance(value, torch.nn.Module):
            for tensor in [*value.parameters(recurse=False), *value.buffers(recurse=False)]:
                if id(tensor) not in seen:
                    seen[id(tensor)] = tensor
                    found.append(digest(tensor))
            queue.extend(value._modules.values())
        elif isinstance(value, torch.optim.Optimizer):
            for state in value.state.values():
                found += [digest(t) for t in state.values() if isinstance(t, torch.Tensor)]
            continue
        if isinstance(value, dict):
            queue.extend(value.values())
        elif isinstance(value, list | tuple):
            queue.extend(value)
        else:
            queue.extend(getattr(value, "__dict__", {}).values())
    return sorted(found)


def digest(tensor: Any) -> str:
    """A short hash of a tensor's shape and content."""
    array = tensor.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=6).hexdigest()


def plain(value: Any) -> Any:
    """A value as JSON brings it back, floats with all of their digits."""
    return json.loads(json.dumps(value, default=str))


def first_difference(here: Any, there: Any, path: str = "") -> str:
    """Say where two results differ first."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in here.keys() | there.keys():
            if here.get(key) != there.get(key):
                return first_difference(here.get(key), there.get(key), f"{path}.{key}")
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        for number, (one, other) in enumerate(zip(here, there, strict=True)):
            if one != other:
                return first_difference(one, other, f"{path}[{number}]")
    return f"{path or 'all'}: {str(here)[:150]} here, {str(there)[:150]} there"


if __name__ == "__main__":
    sys.exit(main())
