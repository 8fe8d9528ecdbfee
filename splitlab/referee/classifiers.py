"""The referee's own classifiers, trained on its own part of the data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from splitlab.arguments import IMAGES, TENSOR, count, instance, number, torch_seed
from splitlab.data.images import ImageData
from splitlab.data.pixels import stored_channels

LOOKED_AT = 500  # images, to see whether a network says one thing of everything
HALVINGS = 3  # of a learning rate at which the referee's network learned nothing


class Classifier(Protocol):
    """What `metrics.recognized` needs: images (B, C, H, W) in, labels (B,) out."""

    def __call__(self, images: Tensor) -> Tensor:
        """Predict the label of each image.

        Args:
            images: float32, shape (B, C, H, W), on the scale that it was trained on.

        Returns:
            Labels, int64, shape (B,).
        """
        ...


class _Trained:
    """The common part of both classifiers: one gray channel for gray data, on the CPU."""

    def __init__(self, data: ImageData) -> None:
        self.shape = data.shape
        self.grey = data.grey

    def _inputs(self, images: Tensor) -> Tensor:
        instance("images", images, Tensor, TENSOR)
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(
                f"this classifier was trained on images {self.shape}, not "
                f"{tuple(images.shape[1:])}; train one on data of the same size."
            )
        # Reconstructions of grey images may have three unlike channels: judge their mean.
        x = images.mean(1, keepdim=True) if self.grey else images
        return x.detach().cpu()


class CNNClassifier(_Trained):
    """A small convolutional network; made by `train_cnn_classifier`."""

    def __init__(self, data: ImageData, network: nn.Module) -> None:
        super().__init__(data)
        self.network = network.eval()

    def __call__(self, images: Tensor) -> Tensor:
        """Predict labels, int64 of shape (B,), for images of shape (B, C, H, W)."""
        with torch.no_grad():
            labels: Tensor = self.network(self._inputs(images)).argmax(1)
            return labels

    def __repr__(self) -> str:
        return f"CNNClassifier({'x'.join(map(str, self.shape))})"


class SVMClassifier(_Trained):
    """A support vector machine on pixels; made by `train_svm_classifier`."""

    def __init__(self, data: ImageData, machine: Any) -> None:
        super().__init__(data)
        self.machine = machine

    def __call__(self, images: Tensor) -> Tensor:
        """Predict labels, int64 of shape (B,), for images of shape (B, C, H, W)."""
        return torch.from_numpy(
            self.machine.predict(self._inputs(images).flatten(1).numpy())
        ).long()

    def __repr__(self) -> str:
        return f"SVMClassifier({'x'.join(map(str, self.shape))})"


def _network(channels: int, height: int, width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(32 * (height // 4) * (width // 4), classes),
    )


def _warp(x: Tensor, linear: float, shift: float) -> Tensor:
    """Deform each image by a small random affine map, as another writer might have written it.

    Args:
        x: Images, shape (B, C, H, W).
        linear: Standard deviation of the four numbers of the linear part about the identity.
        shift: Standard deviation of the shift, as a share of half the image's side.

    Returns:
        Images of the same shape; what comes in from outside repeats the border.
    """
    maps = torch.eye(2, 3).repeat(len(x), 1, 1)
    maps[:, :, :2] += linear * torch.randn(len(x), 2, 2)
    maps[:, :, 2] += shift * torch.randn(len(x), 2)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


@contextlib.contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """Seed the CPU's random stream for a while, then put the caller's stream back."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed every GPU.
        torch.default_generator.manual_seed(torch_seed(seed))
        yield


def train_cnn_classifier(
    data: ImageData,
    seed: int = 0,
    *,
    steps: int = 600,
    batch_size: int = 64,
    learning_rate: float = 6e-3,
    noise: float = 0.15,
    deform: float | None = None,
) -> CNNClassifier:
    """Train the referee's first classifier, a small convolutional network.

    Always on the CPU, whatever the device of the data: the score then does not depend on the
    machine, and neither the global random stream nor a GPU's is moved. The images are deformed a
    little at random: a small referee's part holds few writers, and others will be judged. Where the
    step was too large, and the network calls everything by one name, it is trained anew with half
    of it, up to three times.

    Args:
        data: The referee's own part of the data, at least 4x4 pixels.
        seed: Initial weights, batches, deformations, noise and dropout.
        steps: How many batches to train on.
        batch_size: Images in a batch, drawn at random with replacement.
        learning_rate: Adam's step size at the start; it falls linearly to 0. See above for when
            it is halved.
        noise: Standard deviation of the Gaussian noise added to the images, as a share of half
            the value range (so .15 means .15 on [-1, 1]).
        deform: Strength of the random affine deformation (standard deviation of its linear
            part); None: .16 for fewer than 5,000 images, .05 for more, which hold more variety.

    Returns:
        A classifier of images of the same shape as the data's.

    Raises:
        TypeError: If the data are no images.
        ValueError: If they are too small, or a number is out of range.
    """
    instance("data", data, ImageData, IMAGES)
    if min(data.shape[1:]) < 4:
        raise ValueError(f"the images have the shape {data.shape}: use at least 4x4 pixels")
    steps, batch_size = count("steps", steps, least=1), count("batch_size", batch_size, least=1)
    learning_rate = number("learning_rate", learning_rate, above=True)
    noise = number("noise", noise)
    x, y = stored_channels(data.x).cpu(), data.y.cpu()
    if deform is None:
        deform = 0.16 if len(data) < 5000 else 0.05
    deform = number("deform", deform)
    sigma = noise * (data.value_range[1] - data.value_range[0]) / 2
    for halvings in range(HALVINGS + 1):
        with _own_random_state(seed):
            channels, height, width = x.shape[1:]
            network = _network(channels, height, width, len(data.classes))
            rate = learning_rate / 2**halvings
            optimizer = torch.optim.Adam(network.parameters(), lr=rate)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, total_iters=steps)
            for _ in range(steps):
                rows = torch.randint(len(x), (batch_size,))
                images = _warp(x[rows], linear=deform, shift=0.6 * deform)
                images += sigma * torch.randn(images.shape)
                with torch.enable_grad():
                    loss = F.cross_entropy(network(images), y[rows])
                    optimizer.zero_grad()
                    loss.backward()
                optimizer.step()
                schedule.step()
        classifier = CNNClassifier(data, network)
        if not _says_one_thing(classifier, data):
            break
    return classifier


def _says_one_thing(classifier: Classifier, data: ImageData) -> bool:
    """Whether a classifier gives all images of several classes the same label."""
    x, y = data.x[:LOOKED_AT], data.y[:LOOKED_AT]
    return len(y.unique()) > 1 and len(classifier(x).unique()) == 1


def train_svm_classifier(data: ImageData, seed: int = 0, *, rows: int = 4000) -> SVMClassifier:
    """Train the referee's second classifier, of a different kind: an SVM with a Gaussian kernel.

    Args:
        data: The referee's own part of the data, with images of at least two classes.
        seed: Which rows are used, and how copies are deformed.
        rows: How many images to train on, since the time grows with their square: a random
            choice of the data's, or all of them and slightly deformed copies up to this number.

    Returns:
        A classifier of images of the same shape as the data's.

    Raises:
        TypeError: If the data are no images.
        ValueError: If they hold one class only, or `rows` is out of range.
    """
    from sklearn.svm import SVC

    instance("data", data, ImageData, IMAGES)
    rows = count("rows", rows, least=2)
    if len(data.y.unique()) < 2:
        raise ValueError(
            f"{data.name}, {data.part}: all images are of one class; "
            f"train a classifier on at least two."
        )
    source = stored_channels(data.x).cpu()
    with _own_random_state(seed):
        chosen = torch.randperm(len(source)).repeat(-(-rows // len(source)))[:rows]
        images = source[chosen]
        if rows > len(source):
            images[len(source) :] = _warp(images[len(source) :], linear=0.08, shift=0.05)
    pixels = images.flatten(1).numpy()
    machine = SVC(kernel="rbf", C=10.0, gamma="scale").fit(pixels, data.y.cpu()[chosen].numpy())
    return SVMClassifier(data, machine)
