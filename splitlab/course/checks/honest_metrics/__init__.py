"""Checks of the exercises to chapter 13, Threat models and honest metrics."""

from splitlab.course.checks.honest_metrics.explained_variance import explained_variance
from splitlab.course.checks.honest_metrics.figure import figure
from splitlab.course.checks.honest_metrics.interval import interval
from splitlab.course.checks.honest_metrics.nearest_public import nearest_public
from splitlab.course.checks.honest_metrics.psnr import psnr

__all__ = ["explained_variance", "figure", "interval", "nearest_public", "psnr"]
