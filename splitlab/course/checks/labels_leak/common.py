"""What the checks of chapter 23 share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from splitlab.course.checks.base import Answer, expect_tensor, wrong


def undisturbed(answer: Answer, *given: Any, what: str) -> Any:
    """Call the function, and see that it leaves the tensors that it was given as they were.

    Args:
        answer: The student's function.
        given: Its arguments.
        what: What they are, in the field's words: "the gradients".

    Raises:
        CheckFailed: If it does not.
    """
    tensors = [one for one in given if isinstance(one, Tensor)]
    before = [one.clone() for one in tensors]
    value = answer(*given)
    if not all(map(torch.equal, tensors, before)):
        wrong(f"{answer.name} changes {what} that it is given: work on copies")
    return value


def expect_scores(value: Any, dz: Tensor) -> Tensor:
    """Return `value` if it is one score for each row of dz.

    Args:
        value: What the student's function returned.
        dz: Gradients, (B, ...), with B greater than 1.

    Raises:
        CheckFailed: Saying which axes were summed in place of all but the first.
    """
    if isinstance(value, Tensor) and value.shape != dz.shape[:1]:
        rows = dz.shape[0]
        if value.shape == ():
            wrong(
                f"there is one score for the whole batch: {rows} images have {rows} gradients, "
                "and each of them gets its own score"
            )
        if value.shape == dz.shape[:2]:
            wrong(
                "there is a score for each channel: one image's gradient runs over its channels "
                "and positions together"
            )
        if value.shape == dz.shape[1:]:
            wrong(
                "the score is taken over the batch, for each number of z: take it over the numbers "
                "of z, for each image of the batch"
            )
        if value.shape == dz.shape[:1] + dz.shape[2:]:
            wrong(
                "there is a score for each position: one image's gradient runs over its channels "
                "and positions together"
            )
    return expect_tensor(value, "the tensor of scores", dz.shape[:1])
