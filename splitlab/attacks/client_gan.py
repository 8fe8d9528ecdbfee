"""The client-side GAN: a malicious client generates images of a class that only others hold.

Hitaj, Ateniese, Perez-Cruz: "Deep Models Under the GAN: Information Leakage from Collaborative Deep
Learning", CCS 2017, as Pasquini, Ateniese, Bernaschi adapt it to split learning: "Unleashing the
Tiger", CCS 2021, section on client-side attacks. Defaults are those of their public code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam

from splitlab.arguments import IMAGES, NETWORK, count, instance, number
from splitlab.arguments import optimizer as made_optimizer
from splitlab.core import returned, setup
from splitlab.core.client import Client, Turn
from splitlab.core.messages import Gradient, OutputGradient, ServerOutput
from splitlab.core.party import OptimizerFactory
from splitlab.core.randomness import RandomState, with_own_randomness
from splitlab.core.threat import ThreatModel
from splitlab.data import ImageData
from splitlab.nets.evaluation import evaluating, in_parts
from splitlab.nets.shapes import check_shape, output_of
from splitlab.settings import Setting, tiny

PoisonClass = int | Literal["extra"] | None


class ClientGAN(Client):
    """Train a generator until f, server and tail classify its images as the target class.

    The network that all clients train is the discriminator. The attacker sends generated images
    only. Its turns alternate:

    - Generator turn: the images are labeled as the target. At the client, only the generator takes
      a step. The gradient that the server receives is multiplied by `scale`, so that the server
      learns next to nothing from these images, and its answer by 1 / `scale`.
    - Poison turn: the images are labeled as the poison class. f, the tail and the server take an
      ordinary step, and learn to tell generated images from the honest clients' images.

    Scaling hides nothing from a server that compares the lengths of the gradients, and does nothing
    to one that normalizes them. With SGD the server's step is `scale` times as long. With Adam it
    is as long as ever, along the moments of the gradients before, most of them honest clients';
    were these moments fresh, Adam would undo most of the scaling.

    Args:
        net: f, as the honest clients have it.
        like: Images of the task, of which only shape, classes, value range and number are used (the
            number is what the attacker claims to hold). No pixel is kept.
        tail: The tail, as the honest clients have it, with an output for the poison class.
        generator: Noise (B, `noise`) -> images (B, C, H, W).
        target: The class to draw, a number in `like.classes`.
        poison: The label of the poison turns: "extra", the number after the task's classes; another
            class; or None for generator turns only.
        scale: Factor on the gradient that the server receives in a generator turn; 1 for none.
        noise: Numbers that the generator makes an image of.
        optimizer: Makes the optimizer of f and tail.
        generator_optimizer: Makes the generator's.
        batch_size: Images in a batch.
        loss: As in `Client`.
        seed: Seeds the noise and the party's random state.
        device: Where the client computes.
        name: The sender's name on the messages.

    Attributes:
        metrics: Loss and accuracy of the generated images on the labels that it gave them.

    Raises:
        TypeError: If an argument is of another kind, such as a tensor where images are needed.
        ValueError: If there is no tail, or it has no output for a label; if the target, the poison
            class or the scale makes no sense; or if the generator does not make images like `like`.
    """

    threat: ClassVar[ThreatModel] = ThreatModel(
        who="client, malicious (active)",
        goal="draw images of a class that other clients hold",
        sees=(
            "in its own turns, the server's output and the gradient with respect to z",
            "the weights of f and tail, which clients pass on or have averaged",
        ),
        knows=("f and the tail", "the classes", "shape and value range of the images"),
        does_not_know=("any image of the target class", "the server's network"),
        grants=("one more class than the task in all heads, to which all parties agreed",),
        source="Hitaj, Ateniese, Perez-Cruz, CCS 2017; Pasquini, Ateniese, Bernaschi, CCS 2021",
    )
    PROTOCOLS = ("u_shaped",)

    def __init__(
        self,
        net: nn.Module,
        like: ImageData,
        *,
        tail: nn.Module,
        generator: nn.Module,
        target: int,
        poison: PoisonClass = "extra",
        scale: float = 1e-5,
        noise: int = 100,
        optimizer: OptimizerFactory = partial(Adam, lr=1e-4),
        generator_optimizer: OptimizerFactory = partial(Adam, lr=1e-4),
        batch_size: int = 256,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "attacker",
    ) -> None:
        instance("like", like, ImageData, IMAGES)
        extra = isinstance(poison, str) and poison == "extra"
        poison = len(like.classes) if extra else poison
        target, poison = _checked_labels(tail, like, target, poison)
        scale = number("scale", scale, above=True)
        noise, batch_size = count("noise", noise, least=1), count("batch_size", batch_size, least=1)
        _check_generator(generator, like, noise, batch_size)
        super().__init__(
            net,
            _blank(like),
            optimizer=optimizer,
            batch_size=batch_size,
            tail=tail,
            loss=loss,
            seed=seed,
            device=device,
            name=name,
        )
        returned.images(self, self.data.x[:1].to(next(generator.parameters()).dtype))
        self.generator = generator.to(self.device)
        self.generator_optimizer = made_optimizer(
            *(generator_optimizer, self.generator.parameters()),
            who="the generator",
            name="generator_optimizer",
        )
        self.target, self.poison, self.scale, self.noise = target, poison, scale, noise
        self.value_range = like.value_range

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name}, step {self.step}, target {self.target}, "
            f"poison {self.poison}, scale {self.scale:g})"
        )

    @property
    def generator_turn(self) -> bool:
        """Whether the turn in progress, or else the next one, trains the generator."""
        return self.poison is None or self.step % 2 == 0

    def next_turn(self) -> Turn:
        """Generate a batch, and give it the label of the turn."""
        size, learns = self.sampler.batch_size, self.generator_turn
        label = self.target if learns or self.poison is None else self.poison
        self.generator.train()
        with torch.set_grad_enabled(learns):
            x = self.generator(self._noise(size))
        labels = torch.full((size,), label, device=self.device)
        return Turn(x=x, labels=labels, update=not learns)  # whether f and tail take a step

    @with_own_randomness
    def finish(self, message: ServerOutput) -> OutputGradient:
        """Run the tail; in a generator turn, scale down the gradient that the server receives."""
        answer = super().finish(message)
        if not self.generator_turn:
            return answer
        return dataclasses.replace(answer, da=answer.da * self.scale)

    @with_own_randomness
    def backward(self, message: Gradient) -> None:
        """Undo the scaling of the server's gradient, and step the generator; else f and tail."""
        if not self.generator_turn:
            super().backward(message)
            return
        self.generator_optimizer.zero_grad()
        super().backward(dataclasses.replace(message, dz=message.dz / self.scale))
        self.generator_optimizer.step()

    def generate(self, n: int, *, seed: int | None = None) -> Tensor:
        """Return generated images (n, C, H, W), in evaluation mode; changes nothing.

        Args:
            n: How many.
            seed: Draws the noise. By default it comes from the party's own random state as it is,
                so that two calls in a row return the same images.

        Raises:
            ValueError: If `n` is no whole number of at least 1.
        """
        n = count("n", n, least=1)
        own = self.randomness if seed is None else RandomState("generate", seed, self.device)
        with own.lent(keep=False), evaluating(self.generator):
            noise = self._noise(n)
        return in_parts(self.generator, noise).clamp(*self.value_range)

    def _noise(self, n: int) -> Tensor:
        first = next(self.generator.parameters())
        return torch.randn(n, self.noise, dtype=first.dtype, device=self.device)

    @classmethod
    def at(
        cls,
        setting: Setting,
        like: ImageData,
        *,
        target: int,
        poison: PoisonClass = "extra",
        scale: float = 1e-5,
        net: nn.Module | None = None,
        tail: nn.Module | None = None,
        generator: nn.Module | None = None,
        generator_optimizer: OptimizerFactory | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        name: str = "attacker",
    ) -> Self:
        """Make the attack with the values of a setting.

        Args:
            setting: `sl.tiny`, or `sl.settings.client_side`, which is the public code's.
            like: As in the constructor.
            target: As in the constructor.
            poison: As in the constructor.
            scale: As in the constructor.
            net: An f in place of the setting's `strided_client`.
            tail: A tail in place of its `strided_tail`, which has one more class than the task.
            generator: A generator in place of the setting's, of as much noise.
            generator_optimizer: As in the constructor; the setting's client optimizer by default.
            batch_size: As in the constructor; the setting's by default.
            seed: Seeds the networks and the attack.
            device: As in the constructor.
            name: As in the constructor.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: As in the constructor.
        """
        instance("setting", setting, Setting, "pass sl.tiny, or sl.settings.client_side")
        instance("like", like, ImageData, IMAGES)
        nets, (channels, size, _) = setting.nets, like.shape
        if net is None:
            net = nets.strided_client(channels=channels, seed=seed)
        if tail is None:
            tail = nets.strided_tail(classes=len(like.classes) + 1, size=size, seed=seed)
        if generator is None:
            generator = nets.generator(channels=channels, size=size, seed=seed)
        return cls(
            net,
            like,
            tail=tail,
            generator=generator,
            target=target,
            poison=poison,
            scale=scale,
            noise=nets.NOISE,
            optimizer=setting.client_optimizer,
            generator_optimizer=(
                setting.client_optimizer if generator_optimizer is None else generator_optimizer
            ),
            batch_size=setting.batch_size if batch_size is None else batch_size,
            seed=seed,
            device=device,
            name=name,
        )

    @classmethod
    def conformance_example(cls, private: ImageData, public: ImageData) -> Self:
        """Return a small example whose generator has BatchNorm and Dropout."""
        generator = nn.Sequential(
            *(nn.Linear(tiny.nets.NOISE, 64), nn.Dropout(0.2), nn.Unflatten(1, (4, 4, 4))),
            *(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 1, 4, 4), nn.Tanh()),
        )
        tail = nn.Linear(10, len(private.classes) + 1)
        net = tiny.client_net()
        return cls.at(
            tiny, private, target=1, net=net, tail=tail, generator=generator, batch_size=8
        )


def _blank(like: ImageData) -> ImageData:
    """Return blank images with the number, shape, range and classes that all clients know."""
    x = like.x.new_full((1, 1, 1, 1), like.value_range[0]).expand(like.x.shape)
    y = torch.zeros_like(like.y)
    return ImageData(x, y, like.classes, name=like.name, value_range=like.value_range)


def _checked_labels(
    tail: nn.Module | None, like: ImageData, target: Any, poison: Any
) -> tuple[int, int | None]:
    """Return target and poison; a ValueError if they are invalid or have no output."""
    classes = len(like.classes)
    tail = setup.can_label(tail)
    instance("tail", tail, nn.Module, NETWORK)
    target = setup.class_number(target, classes, name="target")
    if poison is not None:
        poison = count("poison", poison, least=0)
    if poison == target:
        raise ValueError(
            f"poison is {poison} and target {target}: choose another class for the poison turns, "
            'or poison="extra"'
        )
    outputs = [layer.out_features for layer in tail.modules() if isinstance(layer, nn.Linear)]
    wanted = max(classes, (poison or 0) + 1)
    if outputs and outputs[-1] < wanted:
        raise ValueError(
            f"the tail has {outputs[-1]} outputs and the attack needs {wanted}: give all heads one "
            "more class than the task, or choose poison=None"
        )
    return target, poison


def _check_generator(generator: nn.Module, like: ImageData, noise: int, batch_size: int) -> None:
    """Raise a ValueError if the generator cannot learn or its images have another shape."""
    instance("generator", generator, nn.Module, NETWORK)
    first = next(generator.parameters(), None)
    if first is None or not any(one.requires_grad for one in generator.parameters()):
        raise ValueError("the generator has no weights to train: pass a network that has some")
    if batch_size < 2 and any(isinstance(m, nn.BatchNorm1d) for m in generator.modules()):
        raise ValueError(
            f"batch_size is {batch_size} and the generator has a BatchNorm1d, which needs several "
            "images: choose at least 2"
        )
    zeros = torch.zeros(2, noise, dtype=first.dtype, device=first.device)
    do = "change noise=, or its first layer"
    made = output_of("the generator", generator, zeros, what="noise", do=do)
    do = "give it the shape of the task's images"
    check_shape("the generator", made, like.shape, what="the task's images have", do=do)
