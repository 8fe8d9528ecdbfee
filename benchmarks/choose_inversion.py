"""How the passive inversions' settings were chosen: on data cut from the public part of digits.

    python benchmarks/choose_inversion.py
    python benchmarks/choose_inversion.py --attack query-free --cut 2

The private part is never touched. The public part of each split is cut once more, into
pseudo-private and pseudo-public; every candidate attacks the first hundred pseudo-private images.
Prints the error relative to the nearest pseudo-public image's, and the share matched (1 of 200), of
each candidate over the seeds, and its seconds: choose by the worst seed.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import torch

import splitlab as sl
from splitlab.course import exits
from splitlab.course.options import Parser
from splitlab.referee.floors import nearest_public
from splitlab.referee.metrics import matched, mse

SEEDS = range(3)
STEPS = 400  # of the honest training
IMAGES, CANDIDATES = 100, 200


def options(**values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return every combination of the values."""
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


CHOICES: dict[str, list[dict[str, Any]]] = {
    "query-free": [
        *options(surrogate_steps=(100, 200, 400), rate=(0.1,), weight=(0.3, 1.0)),
        {"inversion": "decoder", "steps": 300},
    ],
    "white-box": options(steps=(200,), rate=(0.1, 0.2), weight=(0.03, 0.1)),
    "black-box": options(steps=(200, 300)),
}


def make(name: str, cut: int, public: sl.ImageData, seed: int, chosen: dict[str, Any]) -> Any:
    """Return an attack of this name that has not been granted anything yet."""
    arguments = {"net": sl.tiny.server_net(cut=cut, seed=seed), "public": public, "seed": seed}
    if name == "black-box":
        return sl.BlackBoxInversion(**arguments, **chosen)
    own = sl.tiny.client_net(cut=cut, seed=1000 + seed)
    if name == "white-box":
        return sl.WhiteBoxInversion(**arguments, f=own, **chosen)
    return sl.QueryFreeInversion(**arguments, surrogate=own, **chosen)


def main() -> None:
    """Print one row per candidate."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--attack", choices=CHOICES, help="one attack")
    parser.add_argument("--cut", type=int, choices=(1, 2, 3, 4), help="one cut (1, 2 and 4)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for cut in [chosen.cut] if chosen.cut else (1, 2, 4):
        trained = [_train(cut, seed) for seed in SEEDS]
        for name in [chosen.attack] if chosen.attack else CHOICES:
            for candidate in CHOICES[name]:
                began = time.process_time()
                scores = [_score(name, cut, candidate, *one) for one in trained]
                seconds = (time.process_time() - began) / len(trained)
                errors, matches = zip(*scores, strict=True)
                print(
                    f"cut {cut} {name} {candidate}: error / nearest: worst {max(errors):.2f}, mean "
                    f"{sum(errors) / len(errors):.2f}; matched: worst {min(matches):.2f}, mean "
                    f"{sum(matches) / len(matches):.3f}; {seconds:.1f} s",
                    flush=True,
                )


def _train(cut: int, seed: int) -> tuple[int, sl.Client, sl.HonestServer, sl.ImageData]:
    private, public, _ = sl.tiny.split("digits", seed).public.split(seed, shares=(2, 2, 1))
    f, s = sl.tiny.client_net(cut=cut, seed=seed), sl.tiny.server_net(cut=cut, seed=seed)
    client = sl.Client(f, private, **sl.tiny.client(seed=seed))
    server = sl.HonestServer(s, optimizer=sl.tiny.client_optimizer, seed=seed)
    sl.train([client], server, STEPS)
    return seed, client, server, public


def _score(
    name: str,
    cut: int,
    candidate: dict[str, Any],
    seed: int,
    client: sl.Client,
    server: sl.HonestServer,
    public: sl.ImageData,
) -> tuple[float, float]:
    """Return relative error and matched of one candidate."""
    attack = make(name, cut, public, seed, candidate)
    attack.net.load_state_dict(server.net.state_dict())
    sl.grant(attack, client)
    private = client.data.x[:CANDIDATES]
    x = private[:IMAGES]
    images = attack.reconstruct(client.smash(x))
    error = mse(images, x) / mse(nearest_public(x, public.x), x)
    return error, matched(images, private, torch.arange(IMAGES))


if __name__ == "__main__":
    sys.exit(exits.run("choose_inversion.py", main))
