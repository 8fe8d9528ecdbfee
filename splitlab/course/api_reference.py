"""The API reference: a Sphinx extension that fills pages with the library's public names.

On a page of the book, this line stands for everything public in a package:

    <!-- api: attacks -->

A name joins the reference once `splitlab` or its package exports it. In docstrings, a name in
single backticks is code, and a link if the reference has it; no other character is markup.
"""

from __future__ import annotations

import importlib
import inspect
import re
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import splitlab as sl

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PACKAGES = ("core", "settings", "attacks", "defenses", "referee", "nets", "data", "show")
PLACE = re.compile(r"^<!-- api: (\w+) -->$", re.MULTILINE)
EXTENSIONS = ("sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.linkcode")
OPTIONS = {
    "autodoc_default_options": {"members": True, "show-inheritance": True},
    "autodoc_member_order": "bysource",
    "autodoc_preserve_defaults": True,
    "autodoc_typehints_format": "short",
    "napoleon_numpy_docstring": False,
    "napoleon_attr_annotations": False,
    "napoleon_custom_sections": [("Attributes", "params_style")],
    "python_maximum_signature_line_length": 60,
    "python_use_unqualified_type_names": True,
    "toc_object_entries_show_parents": "hide",
}
# Values have no docstring: the package in which each is defined, and what it is.
VALUES = {
    "BUILT_IN": ("data", "The data sets that need no files, each with its origin."),
    "EVALUATION_BATCH": ("nets", "How many rows go through a network at a time in evaluation."),
    "NUMERICS": (
        "core",
        "The version of the mathematics. Records and checkpoints of an older version are stale.",
    ),
    "PROFILES": ("settings", "The three settings, by name."),
    "PUBLISHED": ("data", "The files of the data sets that come as files, by name."),
    "gpu": ("settings", "The paper's networks and fewer private images, for a GPU."),
    "paper": ("settings", "The paper's networks, numbers of images and steps."),
    "tiny": ("settings", "Small networks and images of 16x16 pixels: seconds on a CPU core."),
}
HIDDEN = {"conformance_example"}  # a small instance, for the tests

LIBRARY = Path(__file__).parents[1]


def public_names(package: str) -> dict[str, Any]:
    """Return everything public in a package: name, such as "sl.train" -> object.

    That is what `splitlab` exports and the package defines, and what the package itself exports.
    Modules come last.

    Args:
        package: A name of `PACKAGES`.
    """
    owner = importlib.import_module(f"splitlab.{package}")
    top = {f"sl.{name}": getattr(sl, name) for name in (*sl.__all__, *sl._MODULES)}
    found = {name: value for name, value in top.items() if _package_of(name, value) == package}
    for name in getattr(owner, "__all__", ()):
        if not any(getattr(owner, name) is value for value in found.values()):
            found[f"sl.{package}.{name}"] = getattr(owner, name)
    found = {name: value for name, value in found.items() if value is not owner}
    return dict(sorted(found.items(), key=_order))


def filled(package: str) -> str:
    """Return the Markdown that asks autodoc for everything public in a package."""
    owner = importlib.import_module(f"splitlab.{package}")
    names = public_names(package)
    members = ":no-members:" if hasattr(owner, "__path__") else ":members:"
    blocks = [f".. automodule:: {owner.__name__}\n   {members}\n"]
    text, inside = "", [name.split(".")[-1] for name in names]
    for name, value in names.items():
        if isinstance(value, ModuleType):
            text += _block(blocks) + f"\n### `{name}`\n\n"
            without = f":exclude-members: {', '.join(inside)}"
            blocks = [f".. automodule:: {value.__name__}\n   :members:\n   {without}\n"]
        else:
            blocks.append(_directive(name, value))
    return text + _block(blocks)


def as_markup(text: str) -> str:
    """Return a docstring as reStructuredText: names in backticks become links."""
    pieces = re.split(r"(?<!`)(`[^`]+`)(?!`)", text)
    return "".join(_code(p[1:-1]) if n % 2 else _escaped(p) for n, p in enumerate(pieces))


def source_link(address: str, domain: str, info: dict[str, str]) -> str | None:
    """Return the address of a name's source; None for a value, which has no source.

    Args:
        address: That of the repository's files at a branch.
        domain: The language, "py".
        info: The module and the full name in it.
    """
    if not info["module"]:
        return None
    value: Any = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        value = getattr(value, name, None)
    try:
        value = inspect.unwrap(value.fget if isinstance(value, property) else value)
        lines, first = inspect.getsourcelines(value)
        path = Path(inspect.getsourcefile(value) or "").relative_to(LIBRARY.parent)
    except (TypeError, OSError, ValueError):
        return None
    return f"{address}/{path.as_posix()}#L{first}-L{first + len(lines) - 1}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Load and configure the extensions that the reference needs."""
    for extension in EXTENSIONS:
        app.setup_extension(extension)
    for option, value in OPTIONS.items():
        setattr(app.config, option, value)
    theme = app.config.html_theme_options
    address = f"{theme.get('repository_url')}/blob/{theme.get('repository_branch')}"
    app.config.linkcode_resolve = partial(source_link, address)
    app.add_css_file("api.css")
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _process, priority=100)  # before napoleon
    app.connect("autodoc-process-bases", _show_bases)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True}


def _fill(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = PLACE.sub(lambda place: filled(place[1]), source[0])


def _process(app: Sphinx, what: str, name: str, value: Any, given: Any, lines: list[str]) -> None:
    lines[:] = as_markup("\n".join(lines)).split("\n")


def _show_bases(app: Sphinx, name: str, value: Any, given: Any, bases: list[Any]) -> None:
    bases[:] = [b for b in bases if not getattr(b, "__name__", "").startswith("_")] or [object]


def _skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, given: Any) -> bool | None:
    return True if name in HIDDEN else None


def _code(text: str) -> str:
    name = text.removesuffix("()")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
        return f"``{text}``"
    return f":py:obj:`{text} <{re.sub('^sl[.]', 'splitlab.', name)}>`"


def _escaped(text: str) -> str:
    return re.sub(r"_(?!\w)", r"\\_", re.sub(r"([\\*|])", r"\\\1", text))


def _package_of(name: str, value: Any) -> str:
    """The package in which a name of `splitlab` is defined."""
    if isinstance(value, ModuleType):
        return value.__name__.split(".")[1]
    return value.__module__.split(".")[1] if _is_code(value) else VALUES[name[3:]][0]


def _is_code(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value)


def _order(item: tuple[str, Any]) -> tuple[bool, str]:
    return isinstance(item[1], ModuleType), item[0].split(".")[-1].lower()


def _block(directives: list[str]) -> str:
    return "```{eval-rst}\n" + "\n".join(directives) + "```\n"


def _directive(name: str, value: Any) -> str:
    path = name.replace("sl.", "splitlab.", 1)
    if inspect.isclass(value):
        kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        return f".. {kind}:: {path}\n"
    if inspect.isroutine(value):
        return f".. autofunction:: {path}\n"
    module, _, short = path.rpartition(".")
    text = as_markup(VALUES[short][1])
    options = f"   :module: {module}\n   :type: {type(value).__name__}\n"
    return f".. py:data:: {short}\n{options}\n   {text}\n"
