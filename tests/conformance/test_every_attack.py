"""Every attack that `splitlab.attacks` exports passes the list that is shipped with the package."""

import pytest

import splitlab as sl
from splitlab.course.conformance.every_attack import *  # noqa: F403
from splitlab.course.conformance.examples import classes_of, made

ATTACKS = classes_of(sl.attacks, sl.Server, sl.Client)
ACTIVE = [
    *(sl.FSHA, sl.MultitaskFSHA, sl.GuardAwareFSHA, sl.PropertyInference, sl.ClientGAN),
    *(sl.Backdoor, sl.LabelFlipping, sl.ServerBackdoor),
]
NO_ATTACKS = {"LabelInference", "Received", "Trigger", "Patch", "Blend"}
FLOORS = [sl.NoHijack]  # published by nobody


def test_its_card_names_the_paper(kind):
    assert kind.threat.source or kind in FLOORS


def test_a_class_that_gives_no_example_is_asked_for_one(data):
    kind = type("Mute", (sl.Server,), {"reply": lambda self, message: None})
    with pytest.raises(NotImplementedError, match=r"Mute does not say .* give it a classmethod"):
        made(kind, data)


def test_the_list_holds_every_attack_and_no_base_class():
    names = {kind.__name__ for kind in ATTACKS}
    assert names == set(sl.attacks.__all__) - NO_ATTACKS
    passive = [kind for kind in ATTACKS if issubclass(kind, sl.PassiveServer | sl.PassiveClient)]
    assert len(passive) == len(ATTACKS) - len(ACTIVE)
