"""Floors: guesses that need no attack."""

from __future__ import annotations

import torch
from torch import Tensor

from splitlab.arguments import IMAGES, TENSOR, count, instance, tensor_of
from splitlab.arguments import images as check_images
from splitlab.data.images import ImageData
from splitlab.data.pixels import repeats_grey, stored_channels, take_rows
from splitlab.referee.metrics import squared_distances

PRIVATE_CHUNK, PUBLIC_CHUNK = 500, 4000  # bounds the distance table to 16 MB


def mean_public(public: ImageData, n: int) -> Tensor:
    """Repeat the mean public image: a guess without seeing any message.

    Args:
        public: The attacker's own images.
        n: How many private images there are to guess.

    Returns:
        n times the same image, float32, shape (n, C, H, W).

    Raises:
        ValueError: If `n` is less than 1.
    """
    instance("public", public, ImageData, IMAGES)
    n = count("n", n, least=1)
    mean = stored_channels(public.x).mean(0, dtype=torch.float64).float()
    return mean.expand(n, *public.shape).clone()


@torch.no_grad()
def nearest_public(private_x: Tensor, public_x: Tensor) -> Tensor:
    """Find, for each private image, the public image nearest to it: retrieval by an oracle.

    No attacker can do this, since choosing needs the private image. It bounds what handing out
    public images can reach, so an attack that reconstructs should beat it.

    Args:
        private_x: Images, shape (n, C, H, W).
        public_x: Images, shape (N, C, H, W).

    Returns:
        Public images, shape (n, C, H, W), nearest in Euclidean distance over all pixels. If the
        public images repeat a grey channel, so do these.

    Raises:
        ValueError: If the images differ in shape or there are none.
    """
    _refuse_shapes(private_x, public_x)
    if repeats_grey(private_x) and repeats_grey(public_x):
        candidates = stored_channels(public_x)
        rows = [_nearest(x, candidates) for x in stored_channels(private_x).split(PRIVATE_CHUNK)]
    else:
        rows = [_nearest(x, public_x) for x in private_x.split(PRIVATE_CHUNK)]
    return take_rows(public_x, torch.cat(rows))


def _nearest(images: Tensor, candidates: Tensor) -> Tensor:
    """Row of the nearest candidate for each image, int64, shape (len(images),)."""
    wanted = images.flatten(1).double()
    best = torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    best_row = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for start in range(0, len(candidates), PUBLIC_CHUNK):
        chunk = candidates[start : start + PUBLIC_CHUNK].flatten(1).double()
        distance, row = squared_distances(wanted, chunk.to(images.device)).min(1)
        closer = distance < best
        best = torch.where(closer, distance, best)
        best_row = torch.where(closer, row + start, best_row)
    return best_row


def class_mean_public(public: ImageData, labels: Tensor) -> Tensor:
    """Guess the mean public image of each label's class: a floor if labels are sent.

    A class of which the attacker has no image gets the mean of all public images, the best guess
    that is left.

    Args:
        public: The attacker's own images, with labels.
        labels: The private images' labels, int64, shape (n,), each a class of `public`.

    Returns:
        One image for each label, float32, shape (n, C, H, W).

    Raises:
        ValueError: If a label is not a class of the public data.
    """
    instance("public", public, ImageData, IMAGES)
    labels = tensor_of("labels", labels).to(public.x.device)
    if labels.dtype not in (torch.int64, torch.int32, torch.uint8) or labels.ndim != 1:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}: pass one whole number for "
            "each image"
        )
    if labels.numel() == 0 or labels.min() < 0 or labels.max() >= len(public.classes):
        raise ValueError(
            f"labels must be at least one number from 0 to {len(public.classes) - 1}, the classes "
            f"of {public.name}."
        )
    x = stored_channels(public.x)
    means = mean_public(public, len(public.classes))[:, : x.shape[1]]
    for label in public.y.unique():
        means[label] = x[public.y == label].mean(0, dtype=torch.float64).float()
    return take_rows(means, labels).expand(-1, public.shape[0], -1, -1).clone()


@torch.no_grad()
def pca_public(private_x: Tensor, public_x: Tensor, k: int) -> Tensor:
    """Keep k numbers of each private image: its principal components, learned on public images.

    Mean and the k leading directions are those of the public images. Each private image is
    projected onto the directions and put back together from its k coordinates. No attacker can do
    this, since projecting needs the private image. It shows what k numbers per image can carry, so
    an attack that reads k numbers from z and explains less has not read all that fits into them.

    Args:
        private_x: Images, shape (n, C, H, W).
        public_x: Images, shape (N, C, H, W).
        k: Numbers kept of each image, at least 1. There are no more directions than the public
            images vary in; a larger k keeps all of these.

    Returns:
        Images, float32, shape (n, C, H, W), not clamped to a range.

    Raises:
        ValueError: If the images differ in shape, there are none, or `k` is less than 1.
    """
    _refuse_shapes(private_x, public_x)
    k = count("k", k, least=1)
    grey = repeats_grey(private_x) and repeats_grey(public_x)
    private, public = (stored_channels(x) if grey else x for x in (private_x, public_x))
    mean = public.mean(0, dtype=torch.float64).flatten()
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for chunk in public.split(PUBLIC_CHUNK):
        deviations = chunk.flatten(1).double() - mean
        scatter += deviations.T @ deviations
    variances, directions = torch.linalg.eigh(scatter)  # from the smallest to the largest
    varied = int((variances > 1e-10 * variances[-1]).sum())
    kept = directions[:, len(mean) - min(k, varied) :].to(private.device)
    mean = mean.to(private.device)
    shown: Tensor = (private.flatten(1).double() - mean) @ kept @ kept.T + mean
    return shown.float().view(private.shape).expand(-1, private_x.shape[1], -1, -1).clone()


def _refuse_shapes(private_x: Tensor, public_x: Tensor) -> None:
    """Raise an error unless there are private and public images of one shape, (C, H, W)."""
    for name, images in {"private_x": private_x, "public_x": public_x}.items():
        instance(name, images, Tensor, TENSOR)
    private, public = tuple(private_x.shape), tuple(public_x.shape)
    if private[1:] != public[1:] or not len(private_x) or not len(public_x):
        raise ValueError(
            f"private images {private} and public images {public} "
            f"must be of one shape (C, H, W), with at least one of each."
        )
    for name, images in {"private_x": private_x, "public_x": public_x}.items():
        check_images(name, images, finite=True)


def refuse_overlap(private: ImageData, public: ImageData) -> None:
    """Raise a ValueError where the same image is both private and public; TypeError for others."""
    for name, data in {"private": private, "public": public}.items():
        instance(name, data, ImageData, IMAGES)
    shared = private.row_hashes() & public.row_hashes()
    if shared:
        raise ValueError(
            f"{len(shared)} images are both private and public: an attack that already holds what "
            "it is after proves nothing, so split the data with .split(seed)"
        )
