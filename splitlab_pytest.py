"""A pytest plugin: `pytest --splitlab-attack my_module:MyAttack` runs our tests on your class.

It is a module of its own, outside the package `splitlab`, because pytest loads it in every run:
here it imports torch and splitlab only where one of its options is used.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

OPTIONS = {
    "attack": "a Server or a Client",
    "defense": "a Defense, a LabelDefense, or a HonestServer that defends itself",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("splitlab", "splitlab: attacks and defenses of your own")
    for what, bases in OPTIONS.items():
        group.addoption(
            f"--splitlab-{what}",
            action="append",
            default=[],
            metavar="MODULE:CLASS",
            help=f"run splitlab's list of tests for every {what} on this class, {bases}; "
            "may be repeated",
        )


def pytest_configure(config: pytest.Config) -> None:
    """Find the classes, and collect the shipped tests in addition to any that were named."""
    asked = {what: config.getoption(f"splitlab_{what}") for what in OPTIONS}
    if not any(asked.values()):
        return
    pytest.register_assert_rewrite("splitlab.course.conformance")
    sys.path.insert(0, os.fspath(config.invocation_params.dir))  # as `python -m` would have it
    from splitlab.course.conformance import chosen

    try:
        config.stash[chosen.CHOSEN] = {
            what: [chosen.chosen(what, path) for path in paths] for what, paths in asked.items()
        }
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = []
    folder = Path(chosen.__file__).parent
    lists = [str(folder / f"every_{what}.py") for what, paths in asked.items() if paths]
    config.args += [path for path in lists if path not in config.args]
