"""Every defense that `splitlab.defenses` exports passes the list that is shipped with it."""

import splitlab as sl
from splitlab.course.conformance.every_defense import *  # noqa: F403
from splitlab.course.conformance.examples import classes_of

DEFENSES = classes_of(sl.defenses, sl.Defense, sl.LabelDefense, sl.Server)


def test_the_list_holds_every_defense():
    classes = {name for name in sl.defenses.__all__ if name[0].isupper()}
    assert {kind.__name__ for kind in DEFENSES} == classes
