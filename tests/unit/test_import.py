"""`import splitlab` is light: what it costs beyond torch is decided by what it imports."""

import subprocess
import sys

import pytest

HEAVY = [
    *("matplotlib", "ipywidgets", "IPython", "sklearn", "pandas", "tqdm", "torchvision", "PIL"),
    *("pooch", "requests", "splitlab.course", "splitlab.show"),
]


def test_import_leaves_the_heavy_packages_alone():
    code = (
        "import sys, torch; before = set(sys.modules); import splitlab; "
        f"new = set(sys.modules) - before; print([m for m in {HEAVY} if m in new])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_on_demand_modules_arrive_on_demand():
    import splitlab as sl

    assert callable(sl.figures.show)
    assert callable(sl.stepper.frames)
    assert callable(sl.scrubber.Scrubber)
    assert callable(sl.frontier.Frontier)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = sl.no_such_thing
