"""What the reference and the slips of an exercise do in a world, for all the answers of the gate.

The judge plays the reference beside every answer, and every slip beside an answer that fails. In
equal worlds they do the same each time, unless they take what the answer has drawn.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from splitlab.course.checks.guard import Guard


@contextmanager
def remembered(exercise):
    """Play the reference and the slips of a closed exercise once in each world, in the block."""
    play, known = exercise._play, {}

    def replay(function, world, kept):
        if exercise.draws or isinstance(function, Guard):
            return play(function, world, kept)
        key = function, world.case, world.seed, torch.get_default_dtype()
        if key not in known:
            known[key] = _Recording(play(function, world, kept))
        return iter(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exercise, "_play", replay)
        yield exercise


class _Recording:
    """What an iterator yields, for anyone who asks; it goes on as far as somebody has asked."""

    def __init__(self, source: Iterator) -> None:
        self.source, self.past = source, []

    def __iter__(self):
        for place in itertools.count():
            if place == len(self.past):
                try:
                    self.past.append(next(self.source))
                except StopIteration:
                    return
            yield self.past[place]
