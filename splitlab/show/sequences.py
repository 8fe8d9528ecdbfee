"""Sequences of frames for the scrubber: a run, a hijack in the plane, thresholds on a score."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from splitlab.arguments import count as whole_number
from splitlab.arguments import described, tensor_of
from splitlab.show.pictures import PARTY, WIDTH, Frame, draw_row, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from splitlab.core.observers import Log
    from splitlab.referee.watching import Snapshots


def frames(snapshots: "Snapshots", log: "Log") -> list[Frame]:
    """Draw one frame of a scrubber for each snapshot of a run.

    Each shows the private images, what the attacker has of them at that step, and how far the
    losses, the error and the gradient that the client receives have come.

    Args:
        snapshots: The observer that watched the run.
        log: What `train` returned.

    Raises:
        TypeError: If these are none.
    """
    import matplotlib.pyplot as plt

    if not hasattr(snapshots, "taken") or not hasattr(log, "names"):
        raise TypeError(
            f"frames draws Snapshots and a Log, and was given {described(snapshots)} and "
            f"{described(log)}: write frames(snapshots, log), with what train returned as the log"
        )
    errors = [(taken.step, taken.mse) for taken in snapshots.taken]
    drawn = []
    for taken in snapshots.taken:
        figure, (top, middle, error, norm) = plt.subplots(
            4, 1, figsize=(WIDTH, 4.4), layout="constrained", height_ratios=[1, 1, 1.2, 1.2]
        )
        draw_row(top, snapshots.private, snapshots.value_range)
        top.set_title("the client's private images", fontsize=9, loc="left")
        draw_row(middle, taken.images, snapshots.value_range)
        middle.set_title("what the server decodes", fontsize=9, loc="left")
        _draw_progress(error, errors, taken.step, "error of the pictures (MSE)", "attacker")
        received = list(enumerate(log["dz_norm"], start=1)) if "dz_norm" in log.names() else []
        _draw_progress(
            norm, received, taken.step, "norm of the gradient, all that f sees", "client"
        )
        norm.set_xlabel("step", fontsize=9)
        alt = (
            f"After {taken.step} steps: {len(taken.images)} private images above what the server "
            f"decodes of them; mean squared error {taken.mse:.3f}. Below, the error and the norm "
            "of the gradient that the client receives, up to this step."
        )
        drawn.append(Frame(png(figure), alt, str(taken.step)))
        plt.close(figure)
    return drawn


def planes(
    snapshots: "Snapshots", scores: Sequence[Callable[[Tensor], Tensor]], public: Tensor
) -> list[Frame]:
    """Draw one frame of a scrubber for each snapshot of a hijack in the plane.

    Left is what the server sees: its own points z_public, the client's z, level lines of the
    critic's score, and arrows down the score, the way that the client is told to go. Right is what
    only the referee sees: lines from private points to what is decoded of them.

    Args:
        snapshots: The observer that watched a run whose images are points, (N, 1, 1, 2), and whose
            decoder is the identity.
        scores: The critic at each snapshot: points (N, 1, 1, 2) -> scores (N, 1).
        public: z_public, (N, 1, 1, 2).
    """
    import matplotlib.pyplot as plt

    side = torch.linspace(-3, 3, 41)
    across, up = torch.meshgrid(side, side, indexing="xy")
    grid = torch.stack([across, up], dim=-1)
    few = grid[2::4, 2::4]
    drawn = []
    for taken, score in zip(snapshots.taken, scores, strict=True):
        with torch.no_grad():
            levels = score(grid.view(-1, 1, 1, 2)).view(41, 41)
        points = few.reshape(-1, 1, 1, 2).requires_grad_()
        (up_the_score,) = torch.autograd.grad(score(points).sum(), points)
        arrows = -F.normalize(up_the_score.flatten(1))  # the client's Adam takes their way only
        figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3), layout="constrained")
        left.contour(across, up, levels, levels=12, colors="#b0b0b0", linewidths=0.7)
        left.quiver(*few.reshape(-1, 2).T, *arrows.T, color="#707070", scale=22, width=0.004)
        for where, party, marker, label in (
            (public, "attacker", "x", "z_public, the server's"),
            (taken.images, "client", "o", "z, the client's"),
        ):
            style = {"color": PARTY[party]["color"], "marker": marker, "label": label}
            left.scatter(*where[:150].flatten(1).T, s=9, linewidths=0.8, **style)
        left.set_title("what the server sees", fontsize=9, loc="left")
        private = snapshots.private.cpu().flatten(1)[:60]
        ends = torch.stack([private, taken.images.flatten(1)[:60]])
        right.plot(*ends.movedim(-1, 0), color="#b0b0b0", linewidth=0.6)
        right.scatter(*ends[0].T, s=9, color="black", marker="s", label="private")
        decoded = {"color": PARTY["attacker"]["color"], "marker": "^", "label": "decoded"}
        right.scatter(*ends[1].T, s=9, **decoded)
        right.set_title("what the referee sees", fontsize=9, loc="left")
        for axis in (left, right):
            axis.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xticks=[], yticks=[])
            below = {"loc": "upper left", "bbox_to_anchor": (-0.06, 0), "frameon": False}
            axis.legend(fontsize=8, handletextpad=0.2, **below)
        alt = (
            f"After {taken.step} steps, two planes. Left: the server's points, the client's z, and "
            "arrows down the critic's score. Right: lines from private points to what is decoded "
            f"of them; mean squared error {taken.mse:.3f}."
        )
        drawn.append(Frame(png(figure, colors=24), alt, str(taken.step)))
        plt.close(figure)
    return drawn


def thresholds(
    scores: Tensor,
    labels: Tensor,
    *,
    xlabel: str,
    names: tuple[str, str],
    log: bool = False,
    count: int = 13,
) -> list[Frame]:
    """Draw one frame of a scrubber for each threshold on a score of two classes.

    Each shows how the scores of either class are spread, where the threshold is, and which shares
    of either class lie above it; beside it, these two shares for all thresholds (the ROC curve).

    Args:
        scores: One score for each row, (n,).
        labels: 0 or 1, (n,); both occur.
        xlabel: What the score is.
        names: What label 0 and label 1 mean.
        log: Whether scores are on a logarithmic scale, those of 0 at its lower end.
        count: How many thresholds, evenly from the lowest score to the highest.

    Raises:
        TypeError: If scores or labels are no numbers.
        ValueError: If one of the labels does not occur, or a score is not finite.
    """
    import matplotlib.pyplot as plt

    count = whole_number("count", count, least=1)
    if not isinstance(names, tuple | list) or len(names) != 2:
        raise TypeError(f"names is {described(names)}: pass what label 0 and label 1 mean")
    scores, labels = tensor_of("scores", scores), tensor_of("labels", labels)
    if scores.ndim != 1 or scores.shape != labels.shape or not len(scores):
        raise ValueError(
            f"scores have the shape {tuple(scores.shape)} and labels {tuple(labels.shape)}: pass "
            "one of each for each row"
        )
    if not scores.isfinite().all() or (log and not (scores > 0).any()):
        raise ValueError(
            f"a score is not finite{', or none is above 0' * log}: leave out what has no score"
        )
    if labels.min() == labels.max():
        raise ValueError(
            f"all labels are {int(labels[0])}: a threshold needs rows of both to tell apart"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("a label is neither 0 nor 1: pass the labels of one class against another")
    scores, labels = scores.double().cpu(), labels.cpu()
    if log:
        scores = scores.clamp_min(float(scores[scores > 0].min())).log10()
    groups = [scores[labels == label] for label in (0, 1)]
    ends = [float(v) for v in scores.aminmax()]
    shown = (lambda value: 10**value) if log else (lambda value: value)
    edges = shown(torch.linspace(*ends, 31, dtype=torch.float64)).tolist()
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 2.6), layout="constrained", width_ratios=[1.6, 1]
    )
    for group, name, party, hatch in zip(
        groups, names, ("client", "attacker"), ("", "//"), strict=True
    ):
        style = {"color": PARTY[party]["color"], "alpha": 0.55, "hatch": hatch}
        share = [1 / len(group)] * len(group)
        left.hist(shown(group).tolist(), bins=edges, weights=share, label=name, **style)
    line = left.axvline(edges[0], color="black", linewidth=1.5)
    left.set(xscale="log" if log else "linear")
    left.set_xlabel(xlabel, fontsize=9)
    left.set_ylabel("share of its class", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    for axis in (left, right):
        axis.tick_params(labelsize=8)
    every = torch.cat([torch.tensor([-torch.inf]), scores.sort().values])
    roc = [1 - torch.searchsorted(g.sort().values, every, right=True) / len(g) for g in groups]
    right.plot(*roc, color=PARTY["attacker"]["color"])
    right.plot([0, 1], [0, 1], color="#707070", linewidth=0.8, linestyle=":")
    (dot,) = right.plot([0], [0], "o", color="black")
    right.set_xlabel(f"share of '{names[0]}' above", fontsize=9)
    right.set_ylabel(f"share of '{names[1]}' above", fontsize=9)
    right.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves from here on but a line and a dot
    drawn = []
    for threshold in torch.linspace(*ends, count, dtype=torch.float64):
        wrong, found = (float((group > threshold).double().mean()) for group in groups)
        line.set_xdata([float(shown(threshold))] * 2)
        dot.set_data([wrong], [found])
        label = f"{float(shown(threshold)):.3g}"
        alt = (
            f"Two histograms of the {xlabel} with a threshold at {label}: above it lie "
            f"{found:.0%} of the rows '{names[1]}' and {wrong:.0%} of the rows '{names[0]}'. "
            "Beside them the curve of these two shares for all thresholds, with this one marked."
        )
        drawn.append(
            Frame(png(figure, colors=16), alt, f"{label} ({found:.0%} against {wrong:.0%} above)")
        )
    plt.close(figure)
    return drawn


def _draw_progress(
    axis: "Axes", points: Sequence[tuple[int, float]], now: int, label: str, party: str
) -> None:
    """Draw a line up to `now`, on axes that fit the whole run."""
    if points:
        steps, values = zip(*points, strict=True)
        axis.set(xlim=(0, steps[-1]), ylim=(0, 1.05 * max(values)))
        shown = [(step, value) for step, value in points if step <= now]
        if shown:
            axis.plot(*zip(*shown, strict=True), **PARTY[party])
            axis.plot(*shown[-1], marker="o", markersize=4, color=PARTY[party]["color"])
    axis.set_title(label, fontsize=9, loc="left")
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
