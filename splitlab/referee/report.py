"""What an attack reached, between floors that it should beat and ceilings that it cannot."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from splitlab.core.tables import Table

Goal = Literal["images", "labels", "property", "prototypes", "poisoning"]
Kind = Literal["floor", "attack", "ceiling"]
Figures = dict[str, float | None]  # None where a figure makes no sense
Scores = dict[str, float]

PICTURES = 8
AS_RECEIVED = "as_received"


@dataclass(frozen=True)
class Report:
    """What an attack reached, between floors that it should beat and ceilings that it cannot.

    `report["nearest_public"]["matched"]` is a figure; the rows' names differ, whatever their kind.

    Attributes:
        goal: What the attack was after: "images", "labels", "property", "prototypes" or
            "poisoning".
        n: How many private images were scored; of prototypes, how many generated ones; of
            poisoning, how many attacked ones.
        columns: Figure -> its heading, in the order of the table.
        leading: The figure that says most about the attack.
        floors: Row -> figures that need no attack.
        attack: Row -> figures of the attack: "attack", with f in evaluation mode and active
            defenses on, and where f has BatchNorm or Dropout "as_received", with f as in training;
            for labels, windows of training steps.
        ceilings: Row -> figures with more than the attacker has.
        further: Figures that belong to no row.
        notes: What a reader must know to read the figures.
        pictures: A few rows of images (label -> (n, C, H, W)).
        value_range: The range of the pixels.
        lower_is_better: Whether that is so of the leading figure.
    """

    goal: Goal
    n: int
    columns: Mapping[str, str]
    leading: str
    floors: Mapping[str, Mapping[str, float | None]]
    attack: Mapping[str, Mapping[str, float | None]]
    ceilings: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pictures: dict[str, Tensor] = field(default_factory=dict, repr=False)
    value_range: tuple[float, float] = (-1.0, 1.0)
    lower_is_better: bool = False

    def __getitem__(self, row: str) -> Mapping[str, float | None]:
        rows = {**self.floors, **self.attack, **self.ceilings}
        if row not in rows:
            raise KeyError(f"this report has no row {row!r}: choose from {', '.join(rows)}")
        return rows[row]

    @property
    def headline(self) -> str:
        """The leading figure of the attack, and of the best floor, in a sentence."""

        def best(rows: Mapping[str, Mapping[str, float | None]]) -> tuple[float, str]:
            found = [(figures.get(self.leading), name) for name, figures in rows.items()]
            known = [(value, name) for value, name in found if value is not None]
            return min(known) if self.lower_is_better else max(known)

        attack, row = best(self.attack)
        of = "" if len(self.attack) == 1 else f" ({_words(row)})"
        reached = f"{self.columns[self.leading]} {attack:.3f}{of}"
        if not self.floors:
            return f"{reached}; there is no floor."
        floor, name = best(self.floors)
        return f"{reached}; best floor {floor:.3f} ({_words(name)})."

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, without the pictures, ready for JSON: row -> kind and figures."""
        return {
            "goal": self.goal,
            "n": self.n,
            "rows": as_rows(floor=self.floors, attack=self.attack, ceiling=self.ceilings),
            "further": self.further,
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """Return the figures as JSON; numbers that JSON lacks (PSNR can be infinite) are text."""
        return json.dumps(_for_json(self.to_dict()), allow_nan=False)

    def table(self) -> Table:
        """Return the figures as a table: floors, attack, ceilings."""
        named = {f"floor: {_words(name)}": figures for name, figures in self.floors.items()}
        named |= {_attack_words(name): figures for name, figures in self.attack.items()}
        named |= {f"ceiling: {_words(name)}": figures for name, figures in self.ceilings.items()}
        rows = [
            (what, *(_shown(f.get(name)) for name in self.columns)) for what, f in named.items()
        ]
        return Table(("", *self.columns.values()), rows, strong=len(self.floors))

    def remarks(self) -> list[str]:
        """Return the headline, the notes, and the further figures as sentences."""
        numbers = {k: v for k, v in self.further.items() if isinstance(v, float)}
        further = "; ".join(f"{_words(name)} {value:.3f}" for name, value in numbers.items())
        return [self.headline, *self.notes, *([f"Also: {further}."] if further else [])]

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


def as_rows(**kinds: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows as a report's dictionary has them: name -> kind and figures.

    Args:
        kinds: `floor`, `attack` and `ceiling`, each with name -> figures.
    """
    return {
        name: {"kind": kind, **figures}
        for kind, rows in kinds.items()
        for name, figures in rows.items()
    }


def _words(name: str) -> str:
    return name.replace("_", " ")


def _attack_words(name: str) -> str:
    return "attack, as received in training" if name == AS_RECEIVED else _words(name)


def _shown(value: float | None) -> float | str:
    return "-" if value is None else value


def _for_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _for_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_for_json(item) for item in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _row(images: Tensor, value_range: tuple[float, float]) -> str:
    """Images (n, C, H, W) side by side, a white gap between them, as the address of a PNG."""
    from PIL import Image  # a caller that only counts need not wait for it

    low, high = value_range
    padded = pad(images.detach().float().cpu().clamp(low, high), (1, 1, 1, 1), value=high)
    row = torch.cat(list(padded), dim=-1).expand(3, -1, -1).permute(1, 2, 0)
    levels = ((row - low) * (255 / (high - low))).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
