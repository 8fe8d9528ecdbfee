"""What an attack reached, between floors that it should beat and ceilings that it cannot."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from splitlab.core.tables import Table
from splitlab.referee.metrics import METRICS

Scores = dict[str, float]


PICTURES = 8


@dataclass(frozen=True)
class Report:
    """What an attack reached, between floors that it should beat and ceilings that it cannot.

    Attributes:
        metrics: Scores of the reconstructions: f in evaluation mode, active defenses on.
        received: The same for what the server truly receives during training (BatchNorm and
            Dropout in training mode); None when f has no such layer.
        floors: Scores that need no attack.
        ceilings: Scores with more than the attacker has.
        n_match: Number of private images scored, and of candidates when matching.
        other: Further figures: matching by correlation, a second classifier, the real images.
        notes: What a reader must know to read the figures.
        pictures: A few rows of images (label -> (n, C, H, W)).
        value_range: The range of the pixels.
    """

    metrics: Scores
    received: Scores | None
    floors: dict[str, Scores]
    ceilings: dict[str, Scores]
    n_match: int
    other: Scores
    notes: tuple[str, ...] = ()
    pictures: dict[str, Tensor] = field(default_factory=dict, repr=False)
    value_range: tuple[float, float] = (-1.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without the pictures, ready for JSON."""
        return {
            "n_match": self.n_match,
            "metrics": self.metrics,
            "received": self.received,
            "floors": self.floors,
            "ceilings": self.ceilings,
            "other": self.other,
            "notes": list(self.notes),
        }

    def rows(self) -> list[tuple[str, Scores]]:
        """Return (what, scores): floors first, then the attack, then the ceilings."""
        attack = [("attack", self.metrics)]
        if self.received is not None:
            attack.append(("attack, as received in training", self.received))
        return [
            *[(f"floor: {_words(name)}", scores) for name, scores in self.floors.items()],
            *attack,
            *[(f"ceiling: {_words(name)}", scores) for name, scores in self.ceilings.items()],
        ]

    def table(self) -> Table:
        """Return the scores as a table: floors, attack, ceilings."""
        rows = [(what, *(scores[name] for name in METRICS)) for what, scores in self.rows()]
        head = ("", *(_words(name) for name in METRICS))
        return Table(head, rows, strong=len(self.floors))

    def remarks(self) -> list[str]:
        """Return the notes and the further figures as sentences."""
        other = "; ".join(f"{_words(name)} {value:.3f}" for name, value in self.other.items())
        return [*self.notes, f"Also: {other}."]

    def __str__(self) -> str:
        return "\n".join([str(self.table()), *self.remarks()])

    def _repr_html_(self) -> str:
        remarks = "".join(f"<li>{html.escape(remark)}</li>" for remark in self.remarks())
        return f"{self.table()._repr_html_()}<ul>{remarks}</ul>{self._strip()}"

    def _strip(self) -> str:
        """The pictures as HTML, a row for each label."""
        rows = []
        for label, images in self.pictures.items():
            alt = f"{len(images)} small images in a row: {label}"
            image = f'<img src="{_row(images, self.value_range)}" alt="{html.escape(alt)}" style="'
            style = 'height: 4em; image-rendering: pixelated">'
            head = f'<th scope="row">{html.escape(label)}</th>'
            rows.append(f"<tr>{head}<td>{image}{style}</td></tr>")
        return f"<table>{''.join(rows)}</table>" if rows else ""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _row(images: Tensor, value_range: tuple[float, float]) -> str:
    """Images (n, C, H, W) side by side, a white gap between them, as the address of a PNG."""
    from PIL import Image  # whoever only counts need not wait for it

    low, high = value_range
    padded = pad(images.detach().float().cpu().clamp(low, high), (1, 1, 1, 1), value=high)
    row = torch.cat(list(padded), dim=-1).expand(3, -1, -1).permute(1, 2, 0)
    levels = ((row - low) * (255 / (high - low))).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
