"""The parameters of a drawn face: one number, or one color, for each of its features."""

import zlib

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Parameters = dict[str, Array]

# How often each attribute is present; each is drawn on its own, whatever the others are.
RATES = {
    "smile": 0.5,
    "glasses": 0.5,
    "hat": 0.3,
    "beard": 0.3,
    "long_hair": 0.5,
    "dark_hair": 0.5,
}
DISCS = 14  # out-of-focus lights in the background

# Anchors of two ramps (red, green, blue from 0 to 1); a face lies anywhere between them.
SKIN = ((0.98, 0.86, 0.77), (0.92, 0.74, 0.6), (0.78, 0.57, 0.42), (0.56, 0.38, 0.27))
SKIN += ((0.36, 0.24, 0.18),)
DARK_HAIR = ((0.06, 0.05, 0.06), (0.13, 0.09, 0.07), (0.25, 0.15, 0.09))
OTHER_HAIR = ((0.62, 0.3, 0.13), (0.78, 0.58, 0.3), (0.9, 0.78, 0.5), (0.62, 0.62, 0.64))
OTHER_HAIR += ((0.88, 0.88, 0.88),)
IRIS = ((0.2, 0.12, 0.07), (0.3, 0.2, 0.1), (0.25, 0.38, 0.25), (0.25, 0.42, 0.6))


def parameters(n: int, seed: int) -> Parameters:
    """Draw the parameters of `n` faces at random.

    Lengths are in units of half the image's side at scale 1; a head is about 1.2 high. Across
    goes to the right and down goes down, from the middle of the head.

    Args:
        n: How many faces.
        seed: Decides every face; each number has a random stream of its own.

    Returns:
        For each name a float32 array of shape (n,), or (n, 3) for a color. An attribute of
        `RATES` is 1 where it is present and 0 elsewhere.
    """

    def stream(name: str) -> NDArray[np.float64]:
        return np.random.default_rng([seed, zlib.crc32(name.encode())]).random(n)

    def between(name: str, low: float, high: float) -> Array:
        return (low + (high - low) * stream(name)).astype(np.float32)

    def often(name: str, rate: float) -> Array:
        return (stream(name) < rate).astype(np.float32)

    def tint(name: str, saturation: float, dark: float, bright: float) -> Array:
        return _colour(
            stream(f"{name} hue"),
            saturation * stream(f"{name} saturation"),
            dark + (bright - dark) * stream(f"{name} value"),
        )

    face = {name: often(name, rate) for name, rate in RATES.items()}
    face |= {
        # Pose. `turn` and `nod` move the features within the head.
        "x": between("x", -0.22, 0.22),
        "y": between("y", -0.1, 0.2),
        "scale": between("scale", 0.82, 1.12),
        "tilt": between("tilt", -0.13, 0.13),  # tangent of half the angle
        "turn": between("turn", -0.09, 0.09),
        "nod": between("nod", -0.05, 0.05),
        "gaze": between("gaze", -0.03, 0.03),
        # Head.
        "width": between("width", 0.41, 0.51),
        "height": between("height", 0.57, 0.66),
        "taper": between("taper", 0.1, 0.5),
        "square": between("square", 0.0, 0.5),
        "ear": between("ear", 0.06, 0.11),
        "skin": _ramp(stream("skin"), SKIN),
        "blush": between("blush", 0.0, 0.3),
        # Eyes, brows, nose.
        "apart": between("apart", 0.17, 0.22),
        "eye_width": between("eye_width", 0.075, 0.105),
        "eye_height": between("eye_height", 0.04, 0.07),
        "iris": _ramp(stream("iris"), IRIS),
        "brow_height": between("brow_height", 0.115, 0.165),
        "brow_slope": between("brow_slope", -0.12, 0.12),
        "brow_width": between("brow_width", 0.028, 0.06),
        "nose_length": between("nose_length", 0.13, 0.21),
        "nose_width": between("nose_width", 0.055, 0.095),
        # Mouth. `teeth` opens a smile.
        "mouth_width": between("mouth_width", 0.13, 0.2),
        "mouth_down": between("mouth_down", 0.31, 0.37),
        "lip": between("lip", 0.025, 0.05),
        "lip_red": between("lip_red", 0.0, 1.0),
        "curve": between("curve", 0.0, 1.0),
        "teeth": often("teeth", 0.6),
        # Hair and beard.
        "hairline": between("hairline", -0.43, -0.3),
        "hair_sides": between("hair_sides", 1.0, 1.9),
        "parting": between("parting", -0.13, 0.13),
        "volume": between("volume", 0.02, 0.13),
        "curls": between("curls", 0.0, 1.0) * often("curly", 0.4),
        "curl_size": between("curl_size", 7.0, 11.0),
        "cropped": often("is cropped", 0.25) * between("cropped", 0.2, 0.5),
        "length": between("length", 0.55, 1.1),
        "flow": between("flow", 0.03, 0.16),
        "beard_top": between("beard_top", 0.19, 0.25),
        "beard_narrow": between("beard_narrow", 0.0, 1.0),
        "beard_thick": between("beard_thick", 0.75, 1.0),
        # Glasses and hat.
        "lens_width": between("lens_width", 0.125, 0.155),
        "lens_height": between("lens_height", 0.1, 0.14),
        "lens_round": between("lens_round", 0.25, 1.0),
        "frame": between("frame", 0.044, 0.066),
        "frame_colour": tint("frame", 0.9, 0.02, 0.35),
        "crown": between("crown", 0.34, 0.48),
        "brim_width": between("brim_width", 0.8, 1.75),
        "hat_down": between("hat_down", -0.34, -0.25),
        "hat_colour": tint("hat", 0.85, 0.15, 0.95),
        "band_shade": between("band_shade", 0.55, 1.35),
        # Clothes, background, light.
        "clothes": tint("clothes", 0.85, 0.1, 0.95),
        "shoulders": between("shoulders", 0.75, 1.1),
        "neckline": between("neckline", 0.12, 0.3),
        "stripes": often("striped", 0.35) * between("stripes", 0.1, 0.4),
        "back_top": tint("back_top", 0.7, 0.1, 1.0),
        "back_bottom": tint("back_bottom", 0.7, 0.1, 1.0),
        "slope": between("slope", -1.0, 1.0),
        "weave": often("woven", 0.5) * between("weave", 0.05, 0.3),
        "weave_x": between("weave_x", -4.0, 4.0),
        "weave_y": between("weave_y", -4.0, 4.0),
        "weave_start": between("weave_start", 0.0, 1.0),
        "exposure": between("exposure", 0.76, 1.12),
        "light_x": between("light_x", -0.35, 0.35),
        "light_y": between("light_y", -0.25, 0.15),
        "warmth": between("warmth", -0.05, 0.09),
    }
    for disc in range(DISCS):
        face[f"disc{disc}_x"] = between(f"disc{disc}_x", -1.1, 1.1)
        face[f"disc{disc}_y"] = between(f"disc{disc}_y", -1.1, 0.9)
        face[f"disc{disc}_radius"] = between(f"disc{disc}_radius", 0.12, 0.42)
        face[f"disc{disc}_opacity"] = between(f"disc{disc}_opacity", 0.2, 1.0)
        face[f"disc{disc}"] = tint(f"disc{disc}", 0.8, 0.05, 1.0)
    hair = [_ramp(stream("hair"), colours) for colours in (DARK_HAIR, OTHER_HAIR)]
    face["hair"] = np.where(face["dark_hair"][:, None] > 0, *hair)
    return face


def _colour(hue: NDArray, saturation: NDArray, value: NDArray) -> Array:
    """Convert hue, saturation and value, each (n,) in 0..1, to red, green and blue, (n, 3)."""
    # Each primary is full for a third of the circle of hues and falls linearly on both sides.
    turned = (hue[:, None] + np.array([0.0, 2 / 3, 1 / 3])) % 1
    primary = np.clip(np.abs(6 * turned - 3) - 1, 0, 1)
    return (value[:, None] * (1 - saturation[:, None] * (1 - primary))).astype(np.float32)


def _ramp(at: NDArray, colours: tuple[tuple[float, float, float], ...]) -> Array:
    """Return colors, (n, 3), at positions (n,) in 0..1 along a ramp through the anchors given."""
    anchors = np.array(colours)
    place = at * (len(anchors) - 1)
    low = np.minimum(place.astype(np.int64), len(anchors) - 2)
    share = (place - low)[:, None]
    return (anchors[low] * (1 - share) + anchors[low + 1] * share).astype(np.float32)
