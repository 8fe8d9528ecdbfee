"""Checks for the exercises: a package for each chapter, a file for each exercise.

A check takes the student's function and says what is wrong in the field's words:

    from splitlab.course.checks import split_learning_from_scratch as check
    check.deliver(deliver)

An open exercise's check returns a `Score`: a table of the answer beside simple ones.
"""

from splitlab.course.checks.guard import CheckFailed, NotWrittenYet
from splitlab.course.checks.verdict import Score, Verdict

__all__ = ["CheckFailed", "NotWrittenYet", "Score", "Verdict"]
