"""pyproject.toml, constraints.txt, environment.yml and Makefile say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["optional-dependencies"].items()
}
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())


def pinned(requirement):
    return {canonicalize_name(pin.name): pin for pin in PINS}.get(
        canonicalize_name(requirement.name)
    )


def only_version(pin):
    (specifier,) = pin.specifier
    return specifier.version


def test_the_core_has_floors_only():
    # Colab brings these packages; anything but a floor makes pip replace its torch or widgets.
    for requirement in CORE:
        assert {specifier.operator for specifier in requirement.specifier} == {">="}, requirement


def test_constraints_are_exact_versions_of_indexed_releases():
    for pin in PINS:
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert pin.url is None and "+" not in str(pin), pin
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert len(names) == len(set(names))


def test_constraints_leave_torch_to_the_makefile():
    # sympy too: some torch versions pin it, and a second pin would contradict them.
    assert not {"torch", "sympy", "mpmath", "splitlab"} & {pin.name for pin in PINS}


INSTALLED = [*CORE, *(line for name in ("book", "test", "dp", "cluster") for line in EXTRAS[name])]


@pytest.mark.parametrize("requirement", INSTALLED, ids=str)
def test_constraints_cover_and_satisfy_the_project(requirement):
    if requirement.name == "torch":
        return
    pin = pinned(requirement)
    assert pin is not None, f"constraints.txt lacks {requirement.name}"
    assert requirement.specifier.contains(only_version(pin)), (requirement, pin)


def test_the_makefiles_torch_is_allowed_by_the_project():
    makefile = (ROOT / "Makefile").read_text()
    (default,) = re.findall(r"^TORCH \?= (\S+)$", makefile, flags=re.M)
    (torch,) = [requirement for requirement in CORE if requirement.name == "torch"]
    assert torch.specifier.contains(only_version(Requirement(default)))


def test_environment_yml_follows_pyproject():
    assert set(CONDA) == {"name", "channels", "dependencies"}
    assert CONDA["channels"] == ["conda-forge", "nodefaults"]
    conda = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert "pip" in conda, "conda warns when pip's list has no pip"

    (python,) = [entry for entry in conda if entry.startswith("python=")]
    floor = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert floor.contains(python.removeprefix("python=") + ".0")

    (torch,) = [requirement for requirement in CORE if requirement.name == "torch"]
    assert f"pytorch{torch.specifier}" in conda

    (editable,) = pip
    extras = re.fullmatch(r"-e \.\[([a-z,]+)\]", editable)[1].split(",")
    assert set(extras) <= set(EXTRAS)
    assert {"book", "test"} <= set(extras)
