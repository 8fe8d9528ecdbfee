"""Draws the picture of the README and of the book's first page: one hijack, playing once.

python benchmarks/picture.py    # writes book/hijack.gif, and its last frame as book/hijack.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

import splitlab as sl
from splitlab.course import exits
from splitlab.course.options import Parser

TARGET = Path(__file__).parent.parent / "book" / "hijack.gif"
PLAYING = 4500  # milliseconds; a page must offer a pause for what moves for over 5 seconds
SIDE, GRAYS = 4, 15  # pixels of the picture for one of an image; steps from black to white


def main() -> None:
    """Run the hijack of chapter 32 and draw a frame for every tenth step."""
    Parser(description=__doc__.splitlines()[0]).parse_args()  # it takes no arguments
    torch.set_num_threads(1)
    private, public, _ = sl.tiny.split("digits", 0)
    client = sl.Client(sl.tiny.client_net(), private, **sl.tiny.client())
    attack = sl.FSHA.at(sl.tiny, public)
    watched = sl.Snapshots(every=10)
    sl.train([client], attack, sl.tiny.default_steps("digits"), observers=[sl.Progress(), watched])
    first, *others = [_frame(watched.private, taken.images) for taken in watched.taken]
    each = PLAYING // len(watched.taken)
    first.save(TARGET, save_all=True, append_images=others, duration=each, optimize=True)
    others[-1].save(TARGET.with_suffix(".png"), optimize=True)  # for paper, and who wants no motion


def _frame(*rows: Tensor) -> Image.Image:
    """Draw rows of images (n, 1, H, W), values -1 to 1, one below the other on white."""
    padded = [pad(images.clamp(-1, 1), (1, 1, 1, 1), value=1.0) for images in rows]
    values = torch.cat([torch.cat(list(row), dim=-1) for row in padded], dim=-2)[0]
    levels = ((values + 1) / 2 * GRAYS).round() * (255 // GRAYS)
    pixels = levels.repeat_interleave(SIDE, 0).repeat_interleave(SIDE, 1)
    return Image.fromarray(pixels.to(torch.uint8).numpy())


if __name__ == "__main__":
    sys.exit(exits.run("picture.py", main))
