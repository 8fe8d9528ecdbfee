"""Pictures with alt text, for pages and the scrubber, and one color for each party."""

import base64
import html
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from splitlab.arguments import TENSOR, count, described, instance, one_of, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which readers with the common (red-green) deficiencies can distinguish.
# They are dark enough for lines on white; in black and white, the line styles differ.
# Use: ax.plot(x, y, **PARTY["attacker"], label="attacker").
PARTY: Final[dict[str, dict[str, str]]] = {
    "client": {"color": "#0072B2", "linestyle": "-"},
    "server": {"color": "#404040", "linestyle": "--"},
    "attacker": {"color": "#D55E00", "linestyle": "-."},
    "defender": {"color": "#009E73", "linestyle": ":"},
}

# Inches. A phone shows a picture of this width at three quarters of its size, so that its letters,
# 8 points and more, stay readable; a wide page shows it as it is.
WIDTH: Final = 4.8

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CSS_DPI = 96  # a CSS pixel is 1/96 inch by definition
_ENLARGED = 300  # a row of at most so many pixels is drawn about twice as wide, or wider
_DPI = 144  # one and a half times that: sharp on dense screens, small in the page


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a scrubber.

    Attributes:
        png: The picture, as PNG bytes (see `png`).
        alt: What it shows, for readers who do not see it; not empty.
        label: Where in the sequence it stands, such as the step's number.
    """

    png: bytes
    alt: str
    label: str

    def __post_init__(self) -> None:
        _check_png(self.png)
        _check_alt(self.alt)


def png(fig: "Figure", *, colors: int = 64, dpi: int = _DPI) -> bytes:
    """Draw a matplotlib figure as a PNG with a palette, a quarter of the usual size.

    The same figure gives the same bytes. The figure stays open. A figure without a layout engine
    gets the constrained one, so that no label is cut off.

    Args:
        fig: The figure.
        colors: The size of the palette, 2 to 256.
        dpi: How many pixels an inch has. It does not change the picture's size on the page.

    Raises:
        TypeError: If it is no figure.
        ValueError: If the palette's size is out of range, or `dpi` is no whole number above 0.
    """
    _check_figure(fig)
    if whole(colors) is None or not 2 <= colors <= 256:
        raise ValueError(f"A PNG palette has 2 to 256 colors, not {described(colors)}.")
    dpi = count("dpi", dpi, least=1)
    if fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")
    drawn = io.BytesIO()
    # White even where the style asks for none: pages have a dark mode, axes labels do not.
    fig.savefig(drawn, format="png", dpi=dpi, facecolor="white")
    picture = Image.open(drawn).convert("RGB")
    # This method keeps the color of a thin line, which by its few pixels would count for nothing.
    # No dithering: it would put noise into flat areas and make the file larger.
    how = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    small = picture.quantize(colors, **how)
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True, dpi=(dpi, dpi))
    return out.getvalue()


def img(png: bytes, alt: str) -> str:
    """An HTML image that carries its own bytes, its size on the page, and its alt text."""
    _check_png(png)
    _check_alt(alt)
    picture = Image.open(io.BytesIO(png))
    dpi = float(picture.info.get("dpi", (_CSS_DPI, _CSS_DPI))[0])
    width, height = (round(side * _CSS_DPI / dpi) for side in picture.size)
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<img alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}" '
        f'style="max-width:100%;height:auto" src="data:image/png;base64,{data}">'
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture for a page: PNG bytes, alt text, and optionally a caption and its run record."""

    png: bytes
    alt: str
    caption: str = ""
    record: str = ""

    def __post_init__(self) -> None:
        _check_png(self.png)
        _check_alt(self.alt)

    def _repr_html_(self) -> str:
        parts = [html.escape(self.caption)] if self.caption else []
        if self.record:
            parts.append(f"<small>(run {html.escape(self.record)})</small>")
        caption = f"<figcaption>{' '.join(parts)}</figcaption>" if parts else ""
        return f'<figure class="splitlab">{img(self.png, self.alt)}{caption}</figure>'

    def __repr__(self) -> str:
        return f"<picture: {self.alt}>"


def show(fig: "Figure", *, alt: str, caption: str = "", record: str = "") -> Picture:
    """Turn a figure into a picture for the page, and close the figure.

    Put it on the last line of a cell. Closing keeps Jupyter from showing the figure a second time.

    Args:
        fig: The matplotlib figure.
        alt: What the picture shows, for readers who do not see it; required.
        caption: a line of text under the picture.
        record: The run record it was drawn from.
    """
    _check_alt(alt)
    import matplotlib.pyplot as plt

    picture = Picture(png(fig), alt, caption, record)
    plt.close(fig)
    return picture


def draw_row(axis: "Axes", images: Tensor, value_range: tuple[float, float]) -> None:
    """Draw images side by side on one axis, a thin gap between them.

    Args:
        axis: Where to draw; its ticks and its frame are taken away.
        images: Shape (n, C, H, W), with one or three channels.
        value_range: The smallest and largest value that a pixel can take.

    Raises:
        TypeError: If the images are no tensor.
        ValueError: If they have another shape.
    """
    check_images("images", images)
    low, high = value_range
    padded = F.pad(images.detach().cpu().clamp(low, high), (1, 1, 0, 0), value=high)
    row = torch.cat(list(padded), dim=-1).permute(1, 2, 0)
    scaled = ((row - low) / (high - low)).numpy()
    # Enlarged pixels keep their edges; smoothed ones also make a PNG twice as large.
    style = {"interpolation": "nearest" if row.shape[1] <= _ENLARGED else "auto"}
    shown = scaled if scaled.shape[-1] == 3 else scaled[..., 0]
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1, **style)
    axis.set(xticks=[], yticks=[])
    for spine in axis.spines.values():
        spine.set_visible(False)


def check_images(name: str, images: Tensor) -> None:
    """Refuse what cannot be drawn as images, (n, C, H, W) with one or three channels."""
    instance(name, images, Tensor, TENSOR)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        raise ValueError(
            f"{name} has the shape {tuple(images.shape)}: pass images (n, C, H, W) with one or "
            "three channels, at least one"
        )


def color_of(party: str) -> str:
    """Return the color of a party, gray for ""; a ValueError where there is none of this name."""
    one_of("party", party, ("", *PARTY))
    return PARTY[party]["color"] if party else "#707070"


def _check_figure(fig: object) -> None:
    if not callable(getattr(fig, "savefig", None)) or not hasattr(fig, "get_layout_engine"):
        raise TypeError(f"fig is {described(fig)}: pass a matplotlib figure")


def _check_alt(alt: str) -> None:
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("A picture needs alt text: say in one sentence what it shows.")


def _check_png(png: bytes) -> None:
    if not isinstance(png, bytes) or not png.startswith(_SIGNATURE):
        raise ValueError("A picture must be PNG bytes; figures.png(figure) makes them.")
