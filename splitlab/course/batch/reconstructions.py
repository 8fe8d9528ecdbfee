"""The picture of a run's reconstructions, taken out of its executed notebook.

A chapter tags the code cell whose picture shows private images beside what its attack made of them
in this very run. A slider's picture is its last frame.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from splitlab.course.notebook_files import ChapterError, code_cells, read

TAG = "reconstructions"
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PNG, PREFIX = "image/png", "data:image/png;base64,"
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture of a page.

    Attributes:
        png: The picture, as base64 text.
        alt: What it shows; "" if the notebook does not say.
        caption: The text under it, "" if there is none.
    """

    png: str
    alt: str
    caption: str = ""


def images(copy: Path) -> tuple[Image, ...]:
    """The pictures of the tagged cells of an executed notebook.

    Args:
        copy: The notebook; one that cannot be read has no pictures.
    """
    try:
        notebook = read(copy)
    except ChapterError:
        return ()
    widgets = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    outputs = [output for cell in code_cells(notebook, TAG) for output in cell.outputs]
    return tuple(
        image for output in outputs for image in _of_output(output.get("data", {}), widgets)
    )


def _of_output(data: Mapping[str, Any], widgets: Mapping[str, Any]) -> list[Image]:
    """The pictures of one output, in the richest form that has any."""
    found = []
    if VIEW in data:
        for text in _shown(data[VIEW].get("model_id", ""), widgets):
            found += _of_html(text)
    if not found:
        found = _of_html(data.get("text/html", ""))
    if not found and PNG in data:
        found = [Image("".join(data[PNG].split()), "")]  # it comes on several lines
    return [image for image in found if _is_png(image.png)]


def _shown(model: str, widgets: Mapping[str, Any]) -> Iterator[str]:
    """The HTML texts of a widget and of those in it; a stack shows its last one."""
    widget = widgets.get(model, {})
    state = widget.get("state", {})
    if widget.get("model_name") == "HTMLModel":
        yield state.get("value", "")
    children = [child.removeprefix("IPY_MODEL_") for child in state.get("children", ())]
    if widget.get("model_name") == "StackModel":
        children = children[-1:]
    for child in children:
        yield from _shown(child, widgets)


class _Figures(HTMLParser):
    """Collect the PNG images of an HTML text, and the captions of the figures around them."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[Image] = []
        self._captions: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "img" and given.get("src", "").startswith(PREFIX):
            self.images.append(Image(given["src"].removeprefix(PREFIX), given.get("alt", "")))
        elif tag == "figcaption":
            self._captions = []

    def handle_data(self, data: str) -> None:
        if self._captions is not None:
            self._captions.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "figcaption" and self._captions is not None and self.images:
            last = self.images.pop()
            caption = " ".join("".join(self._captions).split())
            self.images.append(Image(last.png, last.alt, caption))
            self._captions = None


def _of_html(text: str) -> list[Image]:
    parser = _Figures()
    parser.feed(text)
    parser.close()
    return parser.images


def _is_png(text: str) -> bool:
    try:
        return base64.b64decode(text, validate=True).startswith(SIGNATURE)
    except binascii.Error:
        return False
