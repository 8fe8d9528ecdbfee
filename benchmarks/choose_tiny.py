"""How the tiny fast design's settings were chosen: on pseudo-private data cut from the public part.

    python benchmarks/choose_tiny.py

The private part is never touched. The public part of each split (five writers' forms) is cut once
more, into pseudo-private, pseudo-public and a rest; every candidate attacks the pseudo-private
images with the pseudo-public ones. Prints the error relative to the nearest pseudo-public image's,
and the share matched, for each candidate over the seeds: choose by the worst seed.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from torch.optim import Adam

import splitlab as sl
from splitlab.baselines import nearest_public
from splitlab.metrics import matched, mse
from splitlab.settings import falling

SEEDS = range(6)
STEPS = 300


def constant(step: int) -> float:
    """A gradient that is never scaled."""
    return 1.0


CANDIDATES: dict[str, dict[str, Any]] = {
    "constant gradient, two critic steps": {"gradient_scale": constant, "critic_steps": 2},
    "falling gradient, two critic steps": {"critic_steps": 2},
    "falling from a third, two critic steps": {
        "gradient_scale": falling(STEPS, start=1 / 3),
        "critic_steps": 2,
    },
    "falling gradient, three critic steps": {},  # chosen
    "falling gradient, two steps at 2e-3": {
        "critic_optimizer": partial(Adam, lr=2e-3, betas=(0.5, 0.9)),
        "critic_steps": 2,
    },
}


def score(seed: int, changes: dict[str, Any]) -> tuple[float, float]:
    """Attack pseudo-private data once; return relative error and matched."""
    _, public, _ = sl.tiny.split("digits", seed)
    private, public, _ = public.split(seed, shares=(2, 2, 1))
    client = sl.Client(sl.tiny.client_net(seed=seed), private, **sl.tiny.client(seed=seed))
    attack = sl.FSHA(**(sl.tiny.fsha(public, steps=STEPS, seed=seed) | changes))
    sl.train([client], attack, STEPS)
    x = private.x
    z = client.smash(x, training_mode=True)
    images = attack.reconstruct(sl.SmashedData(z=z, sender="client", step=STEPS))
    return mse(images, x) / mse(nearest_public(x, public.x), x), matched(images, x)


def main() -> None:
    """Print one row per candidate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CANDIDATES, help="one candidate")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [options.only] if options.only else CANDIDATES:
        scores = [score(seed, CANDIDATES[name]) for seed in SEEDS]
        errors, matches = zip(*scores, strict=True)
        print(
            f"{name:40} error / nearest: worst {max(errors):.2f}, "
            f"mean {sum(errors) / len(errors):.2f}; "
            f"matched of {len(matches)} seeds: worst {min(matches):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
