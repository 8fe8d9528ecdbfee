"""Faces drawn by this program: a labeled stand-in for photographs of people, without files.

Every face is a table of numbers (`splitlab.data.face_parameters`), and `render` draws it from back
to front in layers: background, clothes, hair, head, beard, mouth, nose, eyes, glasses, hat, light.
A layer's edge is a signed distance, in pixels, clipped to a share of the pixel: that is the
antialiasing.

The bytes are the same on every machine. Random numbers come from numpy's PCG64; pixels are made
with +, -, *, /, floor and square roots alone, which IEEE 754 rounds in one way only (sine and
exponential differ between processors), and end as one of 256 levels.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from splitlab.arguments import described, whole
from splitlab.data.errors import DataError
from splitlab.data.face_parameters import DISCS, RATES, Array, Parameters, parameters
from splitlab.data.images import ImageData

SIZES = tuple(range(16, 129, 16))
MOST = 200_000  # at 32x32 in color that is 2.5 GB

# Faces drawn at a time: their planes of pixels fit a processor's cache.
CHUNK_PIXELS = 64 * 1024

# Single colors, of shape (1, 3) like those of the faces.
WHITE, PUPIL, TEETH, GLASS, ROSE, REDDER = np.array(
    [
        [[0.97, 0.97, 0.96]],
        [[0.04, 0.04, 0.04]],
        [[0.96, 0.95, 0.92]],
        [[0.85, 0.92, 0.97]],
        [[0.78, 0.22, 0.26]],
        [[1.0, 0.72, 0.72]],
    ],
    dtype=np.float32,
)


def drawn_faces(
    n: int = 10_000,
    size: int = 32,
    channels: int = 3,
    seed: int = 0,
    *,
    labels: str = "smile",
) -> ImageData:
    """Draw faces: an offline stand-in for a set of labeled portraits such as CelebA.

    It has what the attacks need of portraits: images in color that differ in pose,
    light and background, with yes-or-no attributes to infer. It does not stand in for people.
    There is no identity (each face is another person, seen once), no age, no gender, no ancestry;
    skin is a shade drawn like the others. A drawing has flatter texture than a photograph, so a
    reconstruction that succeeds here has still to be tried on photographs. A face and its negative
    have much in common: with some seeds the fast design of `FSHA` draws the negative.

    The attributes are independent of each other, of skin, pose, light and background. `smile` and
    `glasses` are present in half of the faces and so is `long_hair`; `dark_hair` (black to brown,
    else red, fair, gray or white) too; `hat` and `beard` in 3 of 10.

    Face number i depends on `seed` and i alone: not on `n`, `size` or `labels`. There are no
    writers or forms, so every row is a block of its own and `split(seed)` deals random rows.

    Args:
        n: How many faces, from 1 to 200,000.
        size: Height and width in pixels, a multiple of 16 from 16 to 128. Faces can be told apart
            by eye from 32 on; 16 is for the tiny profile.
        channels: 3 for color; 1 for the gray picture (luma) of the same faces.
        seed: Decides every face; the same bytes on every machine.
        labels: The attribute that becomes `y`, 0 for absent and 1 for present.

    Returns:
        n images (channels, size, size) in [-1, 1] (256 levels), 2 classes, n blocks, and every
        attribute in `attributes` as a bool tensor of shape (n,); `labelled(name)` makes another
        one the label.

    Raises:
        DataError: For a number, a size, a number of channels, a seed or an attribute that cannot
            be had.
    """
    _check(n, size, channels, seed)
    faces = parameters(n, seed)
    pixels = torch.from_numpy(render(faces, size, channels))
    x = pixels.to(torch.float32).div_(127.5).sub_(1)
    attributes = {name: torch.from_numpy(faces[name] > 0) for name in RATES}
    data = ImageData(
        x=x,
        y=torch.zeros(n, dtype=torch.int64),
        classes=("unlabelled",),
        name="drawn_faces",
        attributes=attributes,
    )
    return data.labelled(labels)


def _check(n: int, size: int, channels: int, seed: int) -> None:
    if whole(n) is None or not 1 <= n <= MOST:
        raise DataError(
            f"n is the number of faces to draw, from 1 to {MOST:,}, not {described(n)}."
        )
    if whole(size) not in SIZES:
        raise DataError(
            f"size must be a multiple of 16 pixels from 16 to 128, not {described(size)}."
        )
    if whole(channels) not in (1, 3):
        raise DataError(f"channels must be 1 (gray) or 3 (color), not {described(channels)}.")
    if whole(seed) is None or seed < 0:
        raise DataError(f"seed must be a whole number, 0 or more, not {described(seed)}.")


# --- drawing ----------------------------------------------------------------------------------


def render(faces: Mapping[str, Array], size: int, channels: int = 3) -> NDArray[np.uint8]:
    """Draw faces from their parameters.

    Args:
        faces: What `parameters` returns; values may be changed, names not.
        size: Height and width in pixels.
        channels: 3 for color, 1 for luma.

    Returns:
        Pixels from 0 to 255, shape (n, channels, size, size).
    """
    n = len(faces["x"])
    pixels = np.empty((n, channels, size, size), np.uint8)
    step = max(1, CHUNK_PIXELS // size**2)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        red, green, blue = _draw({name: value[rows] for name, value in faces.items()}, size)
        planes = [red, green, blue]
        if channels == 1:
            planes = [0.299 * red + 0.587 * green + 0.114 * blue]
        for channel, plane in enumerate(planes):
            pixels[rows, channel] = np.floor(np.clip(plane, 0, 1) * 255 + 0.5)
    return pixels


class _Picture:
    """Three planes, red, green and blue, each (n, size, size), on which layers are painted.

    Attributes:
        planes: The planes.
        pixel: a pixel's side in each head's own units, shape (n, 1, 1).
    """

    def __init__(self, planes: list[Array], pixel: Array) -> None:
        self.planes = planes
        self.pixel = pixel

    def fill(self, distance: Array) -> Array:
        """Return the share of each pixel inside a shape, from its signed distance (< 0 inside)."""
        return np.clip(0.5 - distance / self.pixel, 0, 1)

    def paint(self, cover: Array, colour: Array | list[Array]) -> None:
        """Paint a color, (n, 3) or three planes, over the picture where `cover` is above 0."""
        if isinstance(colour, np.ndarray):
            colour = [colour[:, c, None, None] for c in range(3)]
        for plane, wanted in zip(self.planes, colour, strict=True):
            plane += cover * (wanted - plane)


def _draw(faces: Mapping[str, Array], size: int) -> list[Array]:
    """Draw a few faces; return red, green and blue planes, each (n, size, size)."""
    # Numbers spread over the pixels of their face; colors stay (n, 3).
    p = {name: v[:, None, None] if v.ndim == 1 else v for name, v in faces.items()}
    centres = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    across, down = centres[None, None, :], centres[None, :, None]
    side = 2 / size
    picture = _Picture(_background(p, across, down, side), side / p["scale"])

    # From the image to the head: move to its middle, turn upright, and undo the scale.
    x, y = (across - p["x"]) / p["scale"], (down - p["y"]) / p["scale"]
    square = p["tilt"] * p["tilt"]
    cosine, sine = (1 - square) / (1 + square), 2 * p["tilt"] / (1 + square)
    u, v = cosine * x + sine * y, cosine * y - sine * x

    _clothes(picture, p, x, y)
    head = _head(picture, p, u, v)
    # Features sit on a round head: turned, they move; the side that they move to gets shorter.
    fu, fv = u - p["turn"], v - p["nod"]
    _beard_and_mouth(picture, p, fu, fv, head)
    _eyes_and_nose(picture, p, fu, fv)
    _hair(picture, p, u, v)
    _glasses(picture, p, fu, fv)
    _hat(picture, p, u, v)
    return _light(picture, p, across, down)


def _soft(distance: Array, width: Array | float) -> Array:
    """Return a blurred shape: 1 inside, falling to 0 at `width` outside."""
    return np.clip(1 - distance / width, 0, 1)


def _ellipse(u: Array, v: Array, half_width: Array | float, half_height: Array | float) -> Array:
    """Return the signed distance to an ellipse about the origin, accurate near its edge."""
    a, b = np.asarray(half_width, np.float32), np.asarray(half_height, np.float32)
    s, t = u / a, v / b
    return (np.sqrt(s * s + t * t) - 1) * np.minimum(a, b)


def _box(u: Array, v: Array, half_width: Array, half_height: Array, radius: Array) -> Array:
    """Return the signed distance to a box with rounded corners about the origin."""
    s, t = np.abs(u) - (half_width - radius), np.abs(v) - (half_height - radius)
    outside_s, outside_t = np.maximum(s, 0), np.maximum(t, 0)
    outside = np.sqrt(outside_s * outside_s + outside_t * outside_t)
    return outside + np.minimum(np.maximum(s, t), 0) - radius


def _wave(at: Array) -> Array:
    """Return a smooth wave of period 1 between -1 and 1, computed without a sine."""
    ramp = np.abs(2 * (at - np.floor(at)) - 1)
    return (6 - 4 * ramp) * ramp * ramp - 1


def _background(p: Parameters, across: Array, down: Array, side: float) -> list[Array]:
    """Return two colors that blend, discs of light and, behind half of the faces, stripes."""
    blend = np.clip(0.5 + 0.5 * (down + p["slope"] * across), 0, 1)
    picture = _Picture(_shaded(p["back_top"], np.ones_like(blend)), side)
    picture.paint(blend, p["back_bottom"])
    for disc in range(DISCS):
        u, v = across - p[f"disc{disc}_x"], down - p[f"disc{disc}_y"]
        distance = np.sqrt(u * u + v * v) - p[f"disc{disc}_radius"]
        cover = p[f"disc{disc}_opacity"] * _soft(distance, 0.08 + side)
        picture.paint(cover, p[f"disc{disc}"])
    shade = 1 + p["weave"] * _wave(p["weave_x"] * across + p["weave_y"] * down + p["weave_start"])
    return [plane * shade for plane in picture.planes]


def _shaded(colour: Array, shade: Array) -> list[Array]:
    """Return three planes: a color, (n, 3), times a shade, (n, size, size)."""
    return [colour[:, c, None, None] * shade for c in range(3)]


def _clothes(picture: _Picture, p: Parameters, x: Array, y: Array) -> None:
    shoulders = picture.fill(_ellipse(x, y - 1.42, p["shoulders"], 0.62))
    picture.paint(shoulders, _shaded(p["clothes"], 1 + p["stripes"] * _wave(5 * y)))
    collar = picture.fill(_ellipse(x, y - 0.8, 0.24, p["neckline"]))
    picture.paint(shoulders * collar, 0.88 * p["skin"])


def _head(picture: _Picture, p: Parameters, u: Array, v: Array) -> Array:
    """Paint long hair, neck, ears and head; return the head's signed distance."""
    beside = np.abs(u)
    middle, half = (p["length"] - 0.66) / 2, (p["length"] + 0.66) / 2
    flowing = _box(u, v - middle, p["width"] + p["flow"], half, p["width"])
    flowing = flowing + 0.03 * p["curls"] * _wave(p["curl_size"] * v / 2)
    cover = p["long_hair"] * picture.fill(flowing) * _below_hat(picture, p, v)
    strands = 1 - 0.06 * (1 + _wave(6 * u + v))
    picture.paint(cover, _shaded(p["hair"], 0.85 * strands))
    neck = picture.fill(_box(u, v - 0.55, 0.19, 0.3, 0.05))
    picture.paint(neck, 0.8 * p["skin"])
    ear = _ellipse(beside - p["width"], v - 0.02, p["ear"], 0.12)
    picture.paint((1 - p["long_hair"]) * picture.fill(ear), 0.9 * p["skin"])
    # An oval, narrower towards the chin, a little squarer than an ellipse.
    s, t = u / (p["width"] * (1 - p["taper"] * v)), v / p["height"]
    s, t = s * s, t * t
    reach = s + t - p["square"] * s * t
    head = (np.sqrt(np.maximum(reach, 0)) - 1) * p["width"]
    # Far out in a corner the product wins, and would make a second head there: cut it off.
    head = np.maximum(head, np.sqrt(t) - 1)
    shade = 1 - 0.16 * np.clip(reach, 0, 1)
    picture.paint(picture.fill(head), _shaded(p["skin"], shade))
    cheek = _ellipse(beside - 0.25, v - 0.15, 0.05, 0.04)
    picture.paint(p["blush"] * _soft(cheek, 0.1), p["skin"] * REDDER)
    return head


def _beard_and_mouth(picture: _Picture, p: Parameters, u: Array, v: Array, head: Array) -> None:
    # Its upper edge is lower on the cheeks and goes up to the ears; a narrow one stays on the chin.
    square, narrow = u * u, p["beard_narrow"]
    rise = 1.2 + 1.5 * narrow - 12 * (1 - narrow) * square
    edge = p["beard_top"] + square * rise
    beard = picture.fill(head - 0.025) * _soft(edge - v, 0.05 + picture.pixel)
    mouth_v = v - p["mouth_down"]
    bare = picture.fill(_ellipse(u, mouth_v, p["mouth_width"] * 0.95, 0.055))
    cover = p["beard"] * p["beard_thick"] * beard * (1 - bare)
    strands = 1 - 0.05 * (1 + _wave(5 * u + v) * _wave(4 * v - u))
    picture.paint(cover, _shaded(p["hair"], 0.9 * strands))

    # A smile lifts the corners and is wider; without one the mouth is straight or droops a little.
    wide = p["mouth_width"] * (1 + 0.2 * p["smile"])
    bend = np.where(p["smile"] > 0, 0.07 + 0.04 * p["curve"], -0.015 * p["curve"])
    s = u / wide
    middle = mouth_v + bend * (s * s - 0.5)
    ends = np.abs(u) - wide
    lips = np.maximum(np.abs(middle) - p["lip"] * (1 - 0.6 * s * s), ends)
    skin = p["skin"]
    shade = 0.62 * skin
    picture.paint(picture.fill(lips), shade + 0.3 * p["lip_red"][:, 0] * (ROSE - shade))
    # Open: the upper edge is flatter than the lower one, and teeth show between them.
    open_height = (0.06 + 0.03 * p["curve"]) * (1 - s * s)
    gap = np.maximum(np.abs(middle) - open_height, ends)
    picture.paint(p["smile"] * p["teeth"] * picture.fill(gap), TEETH)


def _eyes_and_nose(picture: _Picture, p: Parameters, u: Array, v: Array) -> None:
    skin = p["skin"]
    # The nose sticks out, so it turns further than the rest.
    nose_u = u - 0.5 * p["turn"]
    tip = p["nose_length"]
    wings = _ellipse(nose_u, v - tip, p["nose_width"], 0.032)
    picture.paint(0.75 * picture.fill(wings), 0.68 * skin)
    bridge = _box(nose_u, v - tip / 2, 0.022, tip / 2, 0.02)
    lit = np.minimum(1.12 * skin + 0.03, 1)
    picture.paint(0.6 * picture.fill(bridge), lit)

    beside = np.abs(u) - p["apart"]
    at = v + 0.05
    shape = _ellipse(beside, at, p["eye_width"], p["eye_height"])
    socket = _ellipse(beside, at, p["eye_width"] + 0.03, p["eye_height"] + 0.03)
    picture.paint(0.5 * picture.fill(socket), 0.75 * skin)
    inside = picture.fill(shape)
    picture.paint(inside, WHITE)
    look = beside - p["gaze"] * np.sign(u)
    picture.paint(inside * picture.fill(_ellipse(look, at, 0.046, 0.046)), p["iris"])
    picture.paint(inside * picture.fill(_ellipse(look, at, 0.022, 0.022)), PUPIL)
    lid = np.maximum(np.abs(shape) - 0.012, at)
    picture.paint(0.8 * picture.fill(lid), 0.35 * skin)
    arch = at + p["brow_height"] - (p["brow_slope"] + 2 * beside) * beside
    brow = np.maximum(np.abs(arch) - p["brow_width"] / 2, np.abs(beside) - 0.115)
    picture.paint(0.85 * picture.fill(brow), 0.75 * p["hair"] + 0.05 * skin)


def _below_hat(picture: _Picture, p: Parameters, v: Array) -> Array:
    """Return 1 where hair may show: everywhere without a hat, and below its edge with one."""
    return 1 - p["hat"] * picture.fill(v - p["hat_down"])


def _hair(picture: _Picture, p: Parameters, u: Array, v: Array) -> None:
    curl = p["curls"] * _wave(p["curl_size"] * u / 2) * _wave(p["curl_size"] * v / 2)
    volume = p["volume"] * (1 + p["curls"])
    outer = _ellipse(u, v + 0.03, p["width"] + volume * 0.7, p["height"] + volume)
    outer = outer - 0.04 * curl
    aside = u - p["turn"] / 2 - p["parting"] * (1 - 0.5 * p["long_hair"])
    line = p["hairline"] + p["nod"] / 2 + p["hair_sides"] * aside * aside
    edge = v - line - 0.03 * curl
    # Short hair ends at the ears, long hair runs on.
    sides = 0.02 + 0.43 * p["long_hair"]
    cover = picture.fill(np.maximum(np.maximum(outer, edge), v - sides))
    cover = cover * (1 - p["cropped"] * (1 - p["long_hair"])) * _below_hat(picture, p, v)
    shine = 0.22 * np.clip(1 - np.abs(v + 0.47) * 6, 0, 1)
    strands = 1 - 0.05 * (1 + _wave(5 * aside + 2 * v)) + 0.16 * curl + shine
    picture.paint(cover, _shaded(p["hair"], strands))


def _glasses(picture: _Picture, p: Parameters, u: Array, v: Array) -> None:
    beside, at = np.abs(u), v + 0.045
    radius = p["lens_round"] * np.minimum(p["lens_width"], p["lens_height"])
    lens = _box(beside - p["apart"], at, p["lens_width"], p["lens_height"], radius)
    picture.paint(0.3 * p["glasses"] * picture.fill(lens), GLASS)
    half = p["frame"] / 2
    rim = np.abs(lens) - half
    # Bridge and temples: one bar at the height of the eyes, outside of the lenses.
    ends = beside - p["width"] * 0.97
    bar = np.maximum(np.maximum(np.abs(at + 0.03) - half, ends), -lens)
    frame = picture.fill(np.minimum(rim, bar))
    picture.paint(p["glasses"] * frame, p["frame_colour"])


def _hat(picture: _Picture, p: Parameters, u: Array, v: Array) -> None:
    up = v - p["hat_down"]
    half_width = p["width"] * 1.08 + 0.02
    crown = np.maximum(_ellipse(u, up, half_width, p["crown"]), up)
    knit = 1 + 0.07 * _wave(6 * u) - 0.2 * np.abs(u)
    picture.paint(p["hat"] * picture.fill(crown), _shaded(p["hat_colour"], knit))
    # A wide brim is thin; a narrow one is the peak of a cap or the fold of a woollen hat.
    thick = 0.14 - 0.055 * p["brim_width"]
    brim = _box(u, up, p["width"] * p["brim_width"], thick, thick)
    cover = p["hat"] * picture.fill(brim)
    picture.paint(cover, np.minimum(p["hat_colour"] * p["band_shade"][:, 0], 1))


def _light(picture: _Picture, p: Parameters, across: Array, down: Array) -> list[Array]:
    gain = p["exposure"] * (1 + p["light_x"] * across + p["light_y"] * down)
    red, green, blue = picture.planes
    return [red * (gain * (1 + p["warmth"])), green * gain, blue * (gain * (1 - p["warmth"]))]
