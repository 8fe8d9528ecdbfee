"""The rendered API reference: every public name is on a page, and links lead to its source."""

import re
from types import ModuleType

import pytest

from splitlab.course import api_reference

PAGES = ("98_api", "98_api_attacks", "98_api_referee")


@pytest.fixture(scope="module")
def texts(pages):
    return {name: pages[f"book/{name}"].read_text(encoding="utf-8") for name in PAGES}


@pytest.mark.parametrize("package", api_reference.PACKAGES)
def test_every_public_name_is_on_a_page(package, texts):
    ids = set(re.findall(r'\bid="([^"]+)"', "".join(texts.values())))
    for name, value in api_reference.public_names(package).items():
        path = name.replace("sl.", "splitlab.", 1)
        module = isinstance(value, ModuleType)
        assert (f"module-{value.__name__}" if module else path) in ids, name


@pytest.mark.parametrize("name", PAGES)
def test_no_docstring_is_broken_markup(name, texts):
    assert "problematic" not in texts[name]
    assert "<!-- api:" not in texts[name]
    assert texts[name].count("[source]") >= 30
    assert '.conformance_example"' not in texts[name], "it is for the tests"
