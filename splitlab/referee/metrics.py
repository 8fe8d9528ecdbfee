"""How close reconstructions come: pure functions of tensors, each returning a Python float.

Images have the shape (N, C, H, W). Wherever the scale of the pixels matters, `value_range` has to
be passed: nobody guesses between [-1, 1] and [0, 1]. Sums are taken in float64.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.arguments import TENSOR, call, ends, function, instance, tensor_of
from splitlab.arguments import images as check_images

METRICS = ("mse", "psnr", "ssim", "explained_variance", "recognized", "matched")

CHUNK = 500  # images compared at a time: bounds the memory for float64 copies
SSIM_WINDOW = 7
SSIM_K1, SSIM_K2 = 0.01, 0.03

# Distances come from a matrix product, whose rounding is about 1e-15 of the squared norms; two
# distances that differ by less than this share of them count as equal.
TIE = 1e-9
# An image that deviates from its mean by less than this share of its norm counts as constant.
CONSTANT = 1e-6


def _check_pair(reconstructed: Tensor, true: Tensor) -> None:
    for name, images in {"reconstructed": reconstructed, "true": true}.items():
        instance(name, images, Tensor, TENSOR)
    if reconstructed.shape != true.shape:
        raise ValueError(
            f"the reconstructions have the shape {tuple(reconstructed.shape)} and the true images "
            f"{tuple(true.shape)}; compare images one to one."
        )
    check_images("reconstructed", reconstructed, finite=True)
    check_images("true", true, finite=True)


def _span(value_range: tuple[float, float]) -> float:
    low, high = ends(value_range)
    return high - low


@torch.no_grad()
def mse(reconstructed: Tensor, true: Tensor) -> float:
    """Mean squared error over all images and pixels, on the data's own scale.

    It is averaged within each image first, so no batch size can change its weight.

    Args:
        reconstructed: Images, shape (N, C, H, W).
        true: The images they should equal, same shape.

    Returns:
        The error, 0 or more, in squared pixel values. On [-1, 1] it is 4 times that on [0, 1].

    Raises:
        ValueError: If the shapes differ or a value is not finite.
    """
    _check_pair(reconstructed, true)
    errors = [
        (x.double() - y.double()).square().flatten(1).mean(1)
        for x, y in zip(reconstructed.split(CHUNK), true.split(CHUNK), strict=True)
    ]
    return float(torch.cat(errors).mean())


def psnr(reconstructed: Tensor, true: Tensor, value_range: tuple[float, float]) -> float:
    """Peak signal-to-noise ratio of the whole set: 10 log10(span^2 / MSE).

    Args:
        reconstructed: Images, shape (N, C, H, W).
        true: The images they should equal, same shape.
        value_range: The smallest and largest value that a pixel can take.

    Returns:
        The ratio in decibels, of the mean error over all images (not the mean of the images'
        ratios); infinity for identical images.

    Raises:
        ValueError: If the shapes differ, a value is not finite, or the range is empty.
    """
    span = _span(value_range)
    error = mse(reconstructed, true)
    return math.inf if error == 0 else 10 * math.log10(span**2 / error)


@torch.no_grad()
def ssim(reconstructed: Tensor, true: Tensor, value_range: tuple[float, float]) -> float:
    """Structural similarity (Z. Wang et al., 2004), averaged over images and channels.

    A uniform 7x7 window, no padding, sample covariance, K1 = .01 and K2 = .03: what scikit-image
    computes by default. Its definition is for pixels that start at 0, so pixels are first shifted
    to run from 0 to the width of their range: on [-1, 1] as they are, a negative would count as
    similar, because the signs of means and of covariances cancel. Alone it misleads: the mean
    image, which explains nothing, scores well above 0.

    Args:
        reconstructed: Images, shape (N, C, H, W), at least 7x7 pixels.
        true: The images they should equal, same shape.
        value_range: The smallest and largest value that a pixel can take.

    Returns:
        The similarity, from -1 to 1; 1 for identical images.

    Raises:
        ValueError: If the shapes differ, the images are smaller than the window, a value is not
            finite, or the range is empty.
    """
    span = _span(value_range)
    _check_pair(reconstructed, true)
    if min(true.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM looks through a window of {SSIM_WINDOW}x{SSIM_WINDOW} pixels, but these images "
            f"are {true.shape[-2]}x{true.shape[-1]}; use larger images or another metric."
        )
    low = float(value_range[0])
    pairs = zip(reconstructed.split(CHUNK), true.split(CHUNK), strict=True)
    similar = [_ssim_per_image(x.double() - low, y.double() - low, span) for x, y in pairs]
    return float(torch.cat(similar).mean())


def _ssim_per_image(x: Tensor, y: Tensor, span: float) -> Tensor:
    """Mean SSIM of each pair; x and y float64, (B, C, H, W), from 0 to span; returns (B,)."""

    def window_mean(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, SSIM_WINDOW, stride=1)

    pixels = SSIM_WINDOW**2
    sample = pixels / (pixels - 1)  # from the mean of squares to the sample (co)variance
    mean_x, mean_y = window_mean(x), window_mean(y)
    var_x = sample * (window_mean(x * x) - mean_x * mean_x)
    var_y = sample * (window_mean(y * y) - mean_y * mean_y)
    cov = sample * (window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (SSIM_K1 * span) ** 2, (SSIM_K2 * span) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    )
    return similarity.flatten(1).mean(1)


@torch.no_grad()
def explained_variance(reconstructed: Tensor, true: Tensor) -> float:
    """Share of the true images' variance that the reconstructions explain: 1 - MSE / variance.

    The variance is the mean squared deviation from the mean of the true images, so 0 is as good
    as the true mean image, 1 is perfect, and the scale of the pixels cancels.

    Args:
        reconstructed: Images, shape (N, C, H, W).
        true: The images they should equal, same shape.

    Returns:
        1 or less; below 0 for reconstructions worse than the mean image.

    Raises:
        ValueError: If the shapes differ, a value is not finite, or all true images are the same.
    """
    error = mse(reconstructed, true)
    mean_image = _mean_image(true)
    variance = mse(mean_image.expand(true.shape), true)
    # Rounding leaves a trace of variance in identical images; compare with their own size.
    if variance <= 1e-12 * float(mean_image.square().mean()):
        raise ValueError(
            "the true images are all the same, so there is no variance to explain; "
            "use at least two different images."
        )
    return 1 - error / variance


def _mean_image(images: Tensor) -> Tensor:
    """Mean image in float64, shape (1, C, H, W), without a float64 copy of all images."""
    total = sum(chunk.double().sum(0, keepdim=True) for chunk in images.split(CHUNK))
    mean: Tensor = total / len(images)
    return mean


@torch.no_grad()
def matched(reconstructed: Tensor, true: Tensor, ids: Tensor | None = None) -> float:
    """Matched (1 of N): how often the nearest of N true images is the right one.

    Nearest is by Euclidean distance over all pixels. It depends on N, so state N; and on
    brightness, so report `matched_by_correlation` beside it. When k candidates are equally near
    and the right one is among them, it counts 1/k, the chance of picking it at random: one and
    the same picture for every image scores 1/N on average.

    Args:
        reconstructed: Images, shape (M, C, H, W).
        true: The N candidates, shape (N, C, H, W).
        ids: The candidate that each reconstruction should match, int64, shape (M,), each in
            0..N-1; None: the i-th belongs to the i-th, and M = N.

    Returns:
        The share of reconstructions matched, from 0 to 1.

    Raises:
        ValueError: If the shapes or `ids` do not fit, or a value is not finite.
    """
    ids = _check_candidates(reconstructed, true, ids)
    return _share_nearest(reconstructed, _rows(true), ids, _rows)


@torch.no_grad()
def matched_by_correlation(reconstructed: Tensor, true: Tensor, ids: Tensor | None = None) -> float:
    """`matched`, but nearest means highest Pearson correlation over the pixels of an image.

    Blind to each image's brightness and contrast. A constant image correlates 0 with everything.

    Args:
        reconstructed: Images, shape (M, C, H, W).
        true: The N candidates, shape (N, C, H, W).
        ids: The candidate that each reconstruction should match, int64, shape (M,), each in
            0..N-1; None: the i-th belongs to the i-th, and M = N.

    Returns:
        The share of reconstructions matched, from 0 to 1; ties count as in `matched`.

    Raises:
        ValueError: If the shapes or `ids` do not fit, or a value is not finite.
    """
    ids = _check_candidates(reconstructed, true, ids)
    return _share_nearest(reconstructed, _unit_rows(true), ids, _unit_rows)


def _check_candidates(reconstructed: Tensor, true: Tensor, ids: Tensor | None) -> Tensor:
    check_images("reconstructed", reconstructed, finite=True)
    check_images("true", true, finite=True)
    if reconstructed.shape[1:] != true.shape[1:]:
        raise ValueError(
            f"a reconstruction has the shape {tuple(reconstructed.shape[1:])} and a true image "
            f"{tuple(true.shape[1:])}; compare images of one shape."
        )
    count = len(reconstructed)
    if ids is None:
        if count != len(true):
            raise ValueError(
                f"there are {count} reconstructions and {len(true)} true images; pass ids, the "
                f"row of each reconstruction's own image among the true images."
            )
        return torch.arange(count, device=true.device)
    ids = tensor_of("ids", ids).to(true.device)
    if ids.dtype != torch.int64 or ids.shape != (count,):
        raise ValueError(
            f"ids must be {count} whole numbers, one for each reconstruction, "
            f"not {ids.dtype} of shape {tuple(ids.shape)}."
        )
    if ids.min() < 0 or ids.max() >= len(true):
        raise ValueError(f"ids must lie between 0 and {len(true) - 1}, the last true image.")
    return ids


def _rows(images: Tensor) -> Tensor:
    """Flatten images to float64 rows, shape (N, C*H*W)."""
    return images.flatten(1).double()


def _unit_rows(images: Tensor) -> Tensor:
    """Flatten to rows of mean 0 and norm 1 (constant images: all 0), so distance is correlation."""
    rows = _rows(images)
    centred = rows - rows.mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    constant = norm <= CONSTANT * rows.norm(dim=1, keepdim=True)
    return torch.where(constant, 0.0, centred / norm.clamp_min(torch.finfo(norm.dtype).tiny))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances between rows, by a matrix product.

    Args:
        a: Rows, shape (M, D).
        b: Rows, shape (N, D).

    Returns:
        Distances, shape (M, N), 0 or more.
    """
    squares = a.square().sum(1)[:, None] + b.square().sum(1)[None]
    return (squares - 2 * a @ b.T).clamp_min_(0)


def _share_nearest(
    reconstructed: Tensor, candidates: Tensor, ids: Tensor, to_rows: Callable[[Tensor], Tensor]
) -> float:
    """Share of reconstructions nearest to the right candidate row; k-fold ties count 1/k."""
    largest = float(candidates.square().sum(1).max())
    score = 0.0
    for images, right in zip(reconstructed.split(CHUNK), ids.split(CHUNK), strict=True):
        rows = to_rows(images.to(candidates.device))
        distance = squared_distances(rows, candidates)
        slack = TIE * (rows.square().sum(1, keepdim=True) + largest)
        nearest = distance <= distance.min(1, keepdim=True).values + slack
        hit = nearest.gather(1, right[:, None]).squeeze(1)
        score += float((hit / nearest.sum(1)).sum())
    return score / len(reconstructed)


@torch.no_grad()
def recognized(classifier: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> float:
    """Accuracy of a classifier on images, such as reconstructions.

    Where labels are sent, it leaks nothing by itself: compare it with the class-mean image.

    Args:
        classifier: Takes images (B, C, H, W) and returns predicted labels, int64, shape (B,).
        images: Shape (N, C, H, W).
        labels: The true labels, int64, shape (N,).

    Returns:
        The share recognized, from 0 to 1.

    Raises:
        ValueError: If shapes do not fit or a value is not finite.
    """
    function("classifier", classifier, "pass a function of images, to one label for each")
    check_images("images", images, finite=True)
    labels = tensor_of("labels", labels)
    if labels.shape != (len(images),):
        raise ValueError(
            f"there are {len(images)} images, but labels have the shape {tuple(labels.shape)}; "
            f"pass one label for each image."
        )
    do = "pass a classifier of images of this shape"
    answers = [
        call("the classifier", partial(classifier, chunk), do) for chunk in images.split(CHUNK)
    ]
    for answer in answers:
        instance("what the classifier returns", answer, Tensor, "let it return a tensor of labels")
    predicted = torch.cat([answer.cpu() for answer in answers])
    if predicted.shape != labels.shape:
        raise ValueError(
            f"the classifier returned the shape {tuple(predicted.shape)} for {len(images)} "
            f"images; it must return one label for each image."
        )
    return float((predicted == labels.cpu()).double().mean())


def image_metrics(
    reconstructed: Tensor,
    true: Tensor,
    *,
    value_range: tuple[float, float],
    candidates: Tensor | None = None,
    ids: Tensor | None = None,
    classifier: Callable[[Tensor], Tensor] | None = None,
    labels: Tensor | None = None,
) -> dict[str, float]:
    """Compute the fixed metrics (`METRICS`) in one go.

    Args:
        reconstructed: Images, shape (M, C, H, W).
        true: The images they should equal, same shape.
        value_range: The smallest and largest value that a pixel can take.
        candidates: The N images to match among, shape (N, C, H, W); None: `true`.
        ids: Each reconstruction's own row among the candidates, shape (M,); see `matched`.
        classifier: See `recognized`; None: "recognized" is left out.
        labels: The true labels, shape (M,); needed with a classifier.

    Returns:
        The metrics by name, in the order of `METRICS`.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or labels are missing.
    """
    if classifier is not None and labels is None:
        raise ValueError("a classifier was given without labels; pass the true labels too.")
    candidates = true if candidates is None else candidates
    values = {
        "mse": mse(reconstructed, true),
        "psnr": psnr(reconstructed, true, value_range),
        "ssim": ssim(reconstructed, true, value_range),
        "explained_variance": explained_variance(reconstructed, true),
        "matched": matched(reconstructed, candidates, ids),
    }
    if classifier is not None:
        assert labels is not None
        values["recognized"] = recognized(classifier, reconstructed, labels)
    return {name: values[name] for name in METRICS if name in values}
