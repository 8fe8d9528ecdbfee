"""Checks of the exercises to chapter 23, Labels leak through gradients."""

from splitlab.course.checks.labels_leak.cosine_score import cosine_score
from splitlab.course.checks.labels_leak.infer_labels import infer_labels
from splitlab.course.checks.labels_leak.leak_auc import leak_auc
from splitlab.course.checks.labels_leak.max_norm import max_norm
from splitlab.course.checks.labels_leak.norm_score import norm_score

__all__ = ["cosine_score", "infer_labels", "leak_auc", "max_norm", "norm_score"]
