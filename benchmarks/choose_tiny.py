"""How the tiny fast design's settings were chosen: on pseudo-private data cut from the public part.

    python benchmarks/choose_tiny.py
    python benchmarks/choose_tiny.py --data drawn_faces

The private part is never touched. The public part of each split (five writers' forms) is cut once
more, into pseudo-private, pseudo-public and a rest; every candidate attacks the pseudo-private
images with the pseudo-public ones. Prints the error relative to the nearest pseudo-public image's,
and the share matched, for each candidate over the seeds: choose by the worst seed. Last, the share
matched of the negatives, light for dark: where the critic takes them for the real thing, the attack
may settle on them, as it does on drawn faces.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch
from torch.optim import Adam

import splitlab as sl
from splitlab.attacks.critic import Critic
from splitlab.attacks.schedules import falling, half_at
from splitlab.course import exits
from splitlab.course.options import Parser
from splitlab.referee.floors import nearest_public
from splitlab.referee.metrics import matched, mse

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


def score(seed: int, changes: dict[str, Any], data: str = "digits") -> tuple[float, float, float]:
    """Attack pseudo-private data once.

    Returns:
        Relative error, matched, and matched of the negatives: the reconstructions mirrored at the
        mean public image, light for dark.
    """
    _, public, _ = sl.tiny.split(data, seed)
    private, public, _ = public.split(seed, shares=(2, 2, 1))
    client = sl.Client(sl.tiny.client_net(seed=seed), private, **sl.tiny.client(seed=seed))
    faster = changes.pop("critic_optimizer", None)
    attack = sl.FSHA.at(sl.tiny, public, steps=STEPS, seed=seed, **changes)
    if faster is not None:
        net, options = attack.critic.net, {"penalty": "sample", "penalty_weight": 10.0}
        attack.critic = Critic(
            net, through=attack.decoder, optimizer=faster, rate=half_at(STEPS), **options
        )
    sl.train([client], attack, STEPS)
    x = private.x[:1000]
    images = attack.reconstruct(client.smash(x, training_mode=True))
    negatives = (2 * public.x.mean(0) - images).clamp(*public.value_range)
    error = mse(images, x) / mse(nearest_public(x, public.x), x)
    return error, matched(images, x), matched(negatives, x)


def main() -> None:
    """Print one row per candidate."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=CANDIDATES, help="one candidate")
    parser.add_argument("--data", choices=sl.tiny.steps, default="digits", help="data set (digits)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in [options.only] if options.only else CANDIDATES:
        scores = [score(seed, dict(CANDIDATES[name]), options.data) for seed in SEEDS]
        errors, matches, negatives = zip(*scores, strict=True)
        print(
            f"{name:40} error / nearest: worst {max(errors):.2f}, "
            f"mean {sum(errors) / len(errors):.2f}; "
            f"matched of {len(matches)} seeds: worst {min(matches):.3f}, best {max(matches):.3f}; "
            f"negatives matched: " + " ".join(f"{value:.2f}" for value in negatives),
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(exits.run("choose_tiny.py", main))
