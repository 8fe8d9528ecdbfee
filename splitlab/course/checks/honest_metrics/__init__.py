"""Checks of the exercises to chapter 13, Threat models and honest metrics."""

from splitlab.course.checks.base import Answer, Score, check
from splitlab.course.checks.honest_metrics import scoring
from splitlab.course.checks.honest_metrics.pixels import explained_variance, psnr
from splitlab.course.checks.honest_metrics.retrieval import nearest_public
from splitlab.course.checks.honest_metrics.seeds import interval

__all__ = ["explained_variance", "figure", "interval", "nearest_public", "psnr"]


@check()
def figure(answer: Answer) -> Score:
    """`figure(pictures, private)`: how much of the private images the pictures show, 0 to 1."""
    return scoring.score(answer)
