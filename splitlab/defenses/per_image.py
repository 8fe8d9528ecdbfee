"""Gradients per image, by opacus, of a network that treats every image separately."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# What opacus leaves on layers and weights.
ON_LAYERS = ("activations", "max_batch_len")
ON_WEIGHTS = ("grad_sample", "_forward_counter", "_current_grad_sample")


def clipped_sums(
    weights: list[nn.Parameter], per_image: list[Tensor | None], clip: float
) -> list[Tensor]:
    """Return the sum of the images' gradients, each clipped to a norm over all weights.

    Args:
        weights: The weights.
        per_image: For each of them, (B, *its shape), or None for zero.
        clip: The largest norm. An image whose gradient is not finite adds nothing, since one NaN
            in the weights would reveal it.

    Returns:
        For each weight, a tensor of its shape.
    """
    given = [None if g is None else g.to(w.dtype) for w, g in zip(weights, per_image, strict=True)]
    norms = [one.flatten(1).norm(dim=1) for one in given if one is not None]
    if not norms:
        return [torch.zeros_like(weight) for weight in weights]
    norm = torch.stack(norms).norm(dim=0)
    finite = norm.isfinite()
    factor = (clip / norm[finite]).clamp(max=1.0)  # a norm of 0 gives infinity, and so 1
    return [
        torch.zeros_like(weight) if one is None else torch.tensordot(factor, one[finite], dims=1)
        for weight, one in zip(weights, given, strict=True)
    ]


def learned(net: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are trained."""
    return [one for one in net.parameters() if one.requires_grad]


def opacus(part: str) -> Any:
    """Return a module of opacus, imported late because that takes seconds."""
    try:
        import_module("opacus")
        return import_module(f"opacus.{part}")
    except ImportError:
        raise ImportError(
            'DPSGD needs opacus, which is not installed: run pip install "splitlab[dp]"'
        ) from None


def hook(net: nn.Module) -> Any:
    """Return hooks that make a backward pass leave `grad_sample` (B, ...) on every weight."""
    return opacus("grad_sample").GradSampleModule(net, loss_reduction="mean")


def unhook(hooked: Any) -> None:
    """Remove the hooks, and what they have left on layers and weights."""
    layers = list(hooked.iterate_submodules(hooked._module))
    net = hooked.to_standard_module()
    for held, names in ((layers, ON_LAYERS), (net.parameters(), ON_WEIGHTS)):
        for one in held:
            for name in names:
                vars(one).pop(name, None)


def without_batch_norm(net: nn.Module) -> tuple[nn.Module, dict[int, nn.Parameter]]:
    """Replace each BatchNorm in place; return the network, and id of an old weight -> new one."""
    made: dict[int, nn.Module] = {}
    replaced: dict[int, nn.Parameter] = {}
    for layer in [one for one in net.modules() if isinstance(one, _BatchNorm)]:
        features = layer.num_features
        groups = max(n for n in range(1, 33) if features % n == 0 and (n == 1 or 4 * n <= features))
        norm = nn.GroupNorm(groups, features, eps=layer.eps, affine=layer.affine)
        if layer.affine:
            norm.to(layer.weight.device, layer.weight.dtype)
            for old, new in zip(layer.parameters(), norm.parameters(), strict=True):
                new.requires_grad = old.requires_grad
                replaced[id(old)] = new
        made[id(layer)] = norm.train(layer.training)
    for parent in list(net.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in made:
                setattr(parent, name, made[id(child)])
    return made.get(id(net), net), replaced


def check_layers(net: nn.Module, x: Tensor) -> None:
    """Raise a ValueError unless the gradients per image are right and depend on one image only.

    Args:
        net: A copy of the network, which is changed.
        x: Four images, (4, ...).
    """
    for layer in net.modules():
        if isinstance(layer, _BatchNorm):
            raise ValueError(
                "the client's network has BatchNorm, which mixes the images of a batch, so no "
                "image has its own gradient: use GroupNorm, or pass replace_batch_norm=True"
            )
    net.train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    x = x.detach().clone().requires_grad_()
    z = net(x.clone())  # the network may change its input in place
    for name, buffer in net.named_buffers():
        if not torch.equal(before[name], buffer):
            raise ValueError(
                f"the client's network keeps statistics of its images in {name}, without "
                "noise: use layers without them, such as GroupNorm"
            )
    (mixed,) = torch.autograd.grad((z[0] * torch.randn_like(z[0])).sum(), x, allow_unused=True)
    if mixed is not None and mixed[1:].any():
        raise ValueError(
            "z of one image depends on the other images of its batch, so no image has its "
            "own gradient: use layers that treat each image separately"
        )
    try:
        hooked = hook(net)
        z = net(x)
        z.backward(torch.randn_like(z))
    except Exception as error:  # whatever opacus, or torch with its hooks, does not like
        raise ValueError(
            "opacus computes no gradients per image in the client's network: use layers without "
            "buffers, and without inplace=True"
        ) from error
    # A bias before a normalization has a gradient of 0, but for rounding.
    norms = [float(one.grad.norm()) for one in net.parameters() if one.grad is not None]
    rounding = 1e-4 * max(norms, default=0.0)
    for name, weight in net.named_parameters():
        if weight.grad is None:
            continue
        of_each = getattr(weight, "grad_sample", None)
        # Of the same backward pass. Opacus ignores the padding mode of a convolution, for one.
        off = weight.grad if of_each is None else of_each.mean(0) - weight.grad
        if off.norm() > 0.01 * weight.grad.norm() + rounding:
            raise ValueError(
                f"opacus gives wrong gradients per image for {name} of the client's network: "
                "use plain layers for it, such as Conv2d with zero padding"
            )
    unhook(hooked)
