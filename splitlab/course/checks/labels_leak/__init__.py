"""Checks of the exercises to chapter 23, Labels leak through gradients."""

from splitlab.course.checks.labels_leak.auc import leak_auc
from splitlab.course.checks.labels_leak.cosine import cosine_score
from splitlab.course.checks.labels_leak.equalized_norms import max_norm
from splitlab.course.checks.labels_leak.labels import infer_labels
from splitlab.course.checks.labels_leak.norm import norm_score

__all__ = ["cosine_score", "infer_labels", "leak_auc", "max_norm", "norm_score"]
