"""Draws the README's picture: one hijack, from the first step to the last.

python benchmarks/picture.py    # writes book/hijack.png
"""

from __future__ import annotations

from pathlib import Path

import torch

import splitlab as sl

TARGET = Path(__file__).parent.parent / "book" / "hijack.png"


def main() -> None:
    """Run the hijack of chapter 32 and draw four moments of it."""
    torch.set_num_threads(1)
    private, public, _ = sl.tiny.split("digits", 0)
    client = sl.Client(sl.tiny.client_net(), private, **sl.tiny.client())
    attack = sl.FSHA.at(sl.tiny, public)
    steps = sl.tiny.default_steps("digits")
    watched = sl.Snapshots(every=steps // 30)
    sl.train([client], attack, steps, observers=[sl.Progress(), watched])
    rows = {"private": watched.private}
    rows |= {f"step {watched.taken[n].step}": watched.taken[n].images for n in (0, 3, 8, 30)}
    figure = sl.figures.strip(rows, value_range=watched.value_range)
    TARGET.write_bytes(sl.figures.png(figure))


if __name__ == "__main__":
    main()
