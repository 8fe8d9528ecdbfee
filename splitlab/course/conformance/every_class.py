"""Tests for attacks and defenses alike, and how all tests are run over classes and protocols.

A test asks for what it is tried on by the names of its arguments: `kind` is any class, `passive` an
honest but curious one, `serving` a server; beside each, `protocol` is a protocol in which the class
takes part, and `other_protocol` one in which it does not.
"""

import functools

import pytest
import torch

import splitlab as sl
from splitlab.course.conformance.chosen import CHOSEN
from splitlab.course.conformance.examples import PROTOCOLS, few, made

NAMES = ("kind", "passive", "serving", "protocol", "other_protocol")


def lay_over(metafunc, kinds):
    """Parametrize a test: an item for each class, or for each class and protocol."""
    names = [name for name in NAMES if name in metafunc.fixturenames]
    if not names:
        return
    if "passive" in names:
        kinds = [kind for kind in kinds if is_passive(kind)]
    if "serving" in names:
        kinds = [kind for kind in kinds if issubclass(kind, sl.Server)]
    if len(names) == 1:
        items = [pytest.param(kind, id=kind.__name__) for kind in kinds]
    else:
        items = [
            pytest.param(kind, protocol, id=f"{kind.__name__}-{protocol}")
            for kind in kinds
            for protocol in PROTOCOLS
            if (protocol in kind.PROTOCOLS) == (names[1] != "other_protocol")
        ]
    if not items:
        whys = {"passive": "no class is passive", "serving": "no class is a server"}
        why = whys.get(names[0], "it takes part in every protocol")
        items = [pytest.param(*names, marks=pytest.mark.skip(reason=why), id="none")]
    metafunc.parametrize(names, items)


def kinds_of(metafunc, what, exported):
    """The classes to test: those of the module that imports the list, or those named to pytest."""
    if hasattr(metafunc.module, exported):
        return getattr(metafunc.module, exported)
    if CHOSEN not in metafunc.config.stash:
        raise pytest.UsageError(f"this list needs a class: add --splitlab-{what} module:Class")
    return metafunc.config.stash[CHOSEN][what]


def is_passive(kind):
    return issubclass(kind, sl.PassiveServer | sl.PassiveClient)


@functools.cache
def _digits():
    return sl.tiny.split("digits", 0)


@pytest.fixture
def data():
    """A few private and a few public images."""
    return few(_digits())


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order: equal runs give equal bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_it_wrote_no_state_method(kind):
    for cls in kind.__mro__:
        if not cls.__module__.startswith("splitlab.core."):
            written = {"state_dict", "load_state_dict"} & vars(cls).keys()
            assert not written, (
                f"{cls.__name__} writes {', '.join(written)}: state is collected, so name what "
                "changes in STATE, PASSING or LATER instead"
            )


def test_its_repr_is_a_line_that_names_it(kind, data):
    shown = repr(made(kind, data, kind.PROTOCOLS[0])[0])
    assert shown.startswith(f"{kind.__name__}(") and shown.endswith(")")
    assert "\n" not in shown and " at 0x" not in shown
    assert len(shown) < 250
