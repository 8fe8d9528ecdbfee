"""Whether this machine can run the course, and how long the chapters take: `splitlab doctor`.

Needs what the library itself needs, and nothing that builds the book: it runs in Colab, too.
The minutes are those of `splitlab.course.timing`.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, NamedTuple

import torch

import splitlab as sl
from splitlab.arguments import described
from splitlab.core.tables import Table
from splitlab.course.timing import (
    SECONDS,
    Expected,
    about,
    recorded_seconds,
    scaled,
    step_seconds,
)
from splitlab.data import download, published
from splitlab.settings import Setting

State = Literal["problem", "note", "ok"]
Place = Literal["here", "absent", "broken"]


class Finding(NamedTuple):
    """One line of the card.

    Attributes:
        state: "problem" stops the course, "note" is good to know, "ok" needs nothing.
        what: What was looked at.
        text: What was found; unless it is in order, with what to do.
    """

    state: State
    what: str
    text: str


@dataclass(frozen=True)
class Card:
    """The findings of `doctor`; a table in a notebook, text in the shell.

    Attributes:
        profile: The profile asked for.
        device: The device asked for.
        findings: Problems first, then notes, then what is in order.
        expected: Each recorded chapter's seconds on this machine; empty where none are recorded.
        recorded: What the expected seconds rest on, in words.
    """

    profile: str
    device: str
    findings: tuple[Finding, ...]
    expected: tuple[Expected, ...] = ()
    recorded: str = ""

    @property
    def ok(self) -> bool:
        """Whether the course can run here."""
        return all(finding.state != "problem" for finding in self.findings)

    @property
    def whole(self) -> Expected | None:
        """The whole course, one chapter after the other; None where nothing is recorded."""
        if not self.expected:
            return None
        low, high = (sum(times) for times in zip(*(e[1:] for e in self.expected), strict=True))
        return Expected("the whole course", low, high)

    def to_dict(self) -> dict[str, Any]:
        """Return the card, ready for JSON; times in seconds."""
        whole = self.whole
        return {
            "profile": self.profile,
            "device": self.device,
            "ok": self.ok,
            "findings": [finding._asdict() for finding in self.findings],
            "expected": [expected._asdict() for expected in self.expected],
            "whole": whole and {"low": whole.low, "high": whole.high},
            "recorded": self.recorded,
        }

    def tables(self) -> list[Table]:
        """Return the findings and, where seconds are recorded, the times to expect."""
        rows = [(finding.what, finding.state, finding.text) for finding in self.findings]
        tables = [Table((), rows, caption=f"This machine, at profile {self.profile}")]
        if self.whole:
            times = [(e.chapter, about(e.low, e.high)) for e in (*self.expected, self.whole)]
            caption = f"Time to expect for running a chapter here ({self.recorded})"
            tables.append(
                Table(("chapter", "about"), times, caption=caption, strong=len(times) - 1)
            )
        return tables

    def __str__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())


def doctor(profile: str = "tiny", device: str = "cpu") -> Card:
    """Check that this machine has what the course needs; takes about two seconds.

    What is missing is a line of the card and never an error.

    Args:
        profile: "tiny", "gpu" or "paper", as in a chapter's first cell.
        device: Where the chapters shall compute, as in a chapter's first cell.

    Returns:
        The card.

    Raises:
        ValueError: If there is no such profile.
    """
    if not isinstance(profile, str) or profile not in sl.PROFILES:
        raise ValueError(
            f"there is no profile {described(profile)}: choose one of {', '.join(sl.PROFILES)}, "
            "by its name"
        )
    setting, device = sl.PROFILES[profile], str(device)
    timing, expected, recorded = _time(profile, device)
    findings = [
        *_software(),
        _machine(),
        *_devices(device),
        _profile(setting, device),
        *_data_sets(setting),
        _records(),
        timing,
    ]
    findings.sort(key=lambda finding: ("problem", "note", "ok").index(finding.state))
    return Card(profile, device, tuple(findings), tuple(expected), recorded)


def chosen_device(name: str, profile: str) -> str:
    """Return the name of a device, where "auto" leaves the choice to the profile.

    Profile tiny is made for a CPU; the others compute on a GPU where torch can use one.
    """
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() and profile != "tiny" else "cpu"


def whereabouts(name: str) -> tuple[Place, str]:
    """Describe where a data set is, without downloading or checking it.

    Args:
        name: "digits", or one of `splitlab.data.PUBLISHED`.

    Returns:
        "here"; "absent", if loading it would download it; or "broken", if the folder where it is
        would first have to be put right. And where it is, or what to do, in words.
    """
    if name in sl.data.BUILT_IN:
        return "here", sl.data.BUILT_IN[name]
    files = sl.data.PUBLISHED[name]
    try:
        found = published.locate(files)
    except sl.DataError as error:
        return "broken", str(error).rstrip(".")
    if found is None:
        does = f"downloads {published.megabytes(files, files.files)}"
        if files.by_hand:
            does = "explains how to get it"
        return "absent", f"not here; `splitlab data get {name}` {does}"
    where = f"{found.owner}: {found.folder}"
    if lacking := published.missing(files, found.folder):
        where = f"{where} (incomplete: {', '.join(lacking)} missing)"
        if found.owner == "cache" and not files.by_hand:
            return "absent", f"{where}; `splitlab data get {name}` downloads the rest"
        unset = "" if found.owner == "cache" else f", or unset {found.owner}"
        return "broken", f"{where}; put that there{unset}"
    paths = published.paths(files, found.folder).values()
    if closed := [path.name for path in paths if not os.access(path, os.R_OK)]:
        return "broken", f"{where}; get the right to read {', '.join(closed)}"
    return "here", where


def _software() -> Iterator[Finding]:
    """Compare Python and the packages with the requirements of the installed splitlab."""
    try:
        asked = importlib.metadata.metadata("splitlab").get("Requires-Python", "")
        packages = importlib.metadata.requires("splitlab") or []
    except importlib.metadata.PackageNotFoundError:
        asked, packages = "", []
        text = "splitlab is not installed, so versions were not compared; `pip install -e .` does"
        yield Finding("note", "packages", text)
    python, floor = platform.python_version(), asked.removeprefix(">=")
    if _older(python, floor):
        yield Finding("problem", "Python", f"{python} is older than {floor}: install a newer one")
    else:
        yield Finding("ok", "Python", f"{python}, splitlab {sl.__version__}")
    versions = []
    for requirement in packages:
        if ";" in requirement:  # an extra: building the book needs it, running chapters does not
            continue
        name, _, floor = requirement.partition(">=")
        repair = f'run `pip install "{requirement}"` and restart'
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", name, f"missing: {repair}")
            continue
        if _older(version, floor):
            yield Finding("problem", name, f"{version} is older than {floor}: {repair}")
        else:
            versions.append(f"{name} {version}")
    if versions:
        yield Finding("ok", "packages", ", ".join(versions))


def _older(version: str, floor: str) -> bool:
    """Whether a version, such as "2.13.0+cpu", is below a floor, such as "2.6"."""

    def release(text: str) -> list[int]:
        numbers = [int(n) for n in re.match(r"[\d.]*", text)[0].split(".") if n]
        while numbers and numbers[-1] == 0:  # 2.0 is 2
            numbers.pop()
        return numbers

    return release(version) < release(floor)


def _machine() -> Finding:
    try:
        cores = len(os.sched_getaffinity(0))  # not all cores may be ours
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        memory = f"{size:.0f} GiB of memory"
    except (AttributeError, ValueError, OSError):
        memory = "memory unknown"
    threads = torch.get_num_threads()
    text = f"{_count(cores, 'core')}, {memory}; torch computes with {_count(threads, 'thread')}"
    return Finding("ok", "machine", f"{platform.system()} on {platform.machine()}, {text}")


def _devices(device: str) -> Iterator[Finding]:
    gpus = []
    with suppress(RuntimeError):  # a GPU whose driver does not work
        for number in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(number)
            gpus.append(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    none = "none that torch can use; profile tiny needs none"
    yield Finding("ok", "GPU", "; ".join(gpus) or none)
    try:
        works = torch.ones(4, device=device).mul(2).sum().item() == 8
        error = "" if works else "it computes wrongly"
    except Exception as caught:  # torch raises half a dozen types for a device that is not there
        error = (str(caught).splitlines() or [type(caught).__name__])[0].rstrip(".")
    if error:
        choice = '"cuda" or "cpu"' if gpus else '"cpu"'
        text = f"does not work here ({error}): set device to {choice}"
        yield Finding("problem", f"device {device}", text)
    else:
        yield Finding("ok", f"device {device}", "works")


def _profile(setting: Setting, device: str) -> Finding:
    data, gpu = next(iter(setting.steps)), torch.cuda.is_available()
    limit = setting.private.get(data)
    private = f"{limit:,} private images" if limit else "all private images"
    means = f"{data} at {setting.size}x{setting.size}, {private}"
    what = f"profile {setting.name}"
    if setting.name == "tiny":
        advice = 'profile "gpu" on device "cuda" works here, too' if gpu else "made for a CPU"
        return Finding("ok", what, f"{means}; {advice}")
    if device.startswith("cuda"):
        return Finding("ok", what, f"{means}; made for a GPU")
    advice = 'set device to "cuda"' if gpu else 'profile "tiny" is the one for this machine'
    return Finding("note", what, f"{means}; made for a GPU: {advice}")


def _data_sets(setting: Setting) -> Iterator[Finding]:
    needed = next(iter(setting.steps))  # the data set that the chapters load
    offline = os.environ.get(download.OFFLINE, "0") not in ("", "0")
    # Of Omniglot, each archive by itself.
    sets = [[files.name for files in sl.data_cards.card(s).files] or [s] for s in setting.steps]
    for name in itertools.chain.from_iterable(sets):
        place, where = whereabouts(name)
        by_hand = name in sl.data.PUBLISHED and sl.data.PUBLISHED[name].by_hand
        if place == "absent" and offline and not by_hand:
            place, where = "broken", f"{where}, but {download.OFFLINE} forbids it: unset that"
        state: State = "ok" if place == "here" else "note"
        if name == needed and place == "broken":
            state = "problem"
        elif state == "note" and setting.name == "tiny":
            where += "; profile tiny does not need it"
        yield Finding(state, name, _without_home(where))


def _records() -> Finding:
    folder = sl.records.RUNS
    if not any(folder.glob("*.json")):
        text = f"there are none in {_without_home(str(folder))}: reinstall splitlab"
        return Finding("problem", "recorded runs", text)
    return Finding("ok", "recorded runs", _without_home(str(folder)))


def _time(profile: str, device: str) -> tuple[Finding, list[Expected], str]:
    """Scale the recorded seconds; return them with a finding and their basis."""
    name = f"{SECONDS}{profile}"
    try:
        runs = recorded_seconds(profile)
        steps = {run["run"]: run["cpu_seconds"] / run["step_seconds"] for run in runs}
        where = runs[0]["device"].partition(",")[0]
    except FileNotFoundError:
        text = f"nothing is recorded for profile {profile}, so no times can be estimated"
        return Finding("note", "minutes", text), [], ""
    except Exception as error:  # whatever is wrong with the file
        text = f"{name}.json cannot be read ({type(error).__name__}): restore it with git"
        return Finding("note", "minutes", text), [], ""
    if device.partition(":")[0] != where:
        text = f"recorded on {where} only, so no times can be estimated for {device}"
        return Finding("note", "minutes", text), [], ""
    timed = step_seconds()
    text = f"a step of the tiny hijack takes {1000 * median(timed):.0f} ms on this machine"
    return Finding("ok", "minutes", text), scaled(steps, timed), runs.label


def _without_home(text: str) -> str:
    """A rendered page shows this card, so leave out the name of the person who built it."""
    return text.replace(os.path.expanduser("~") + os.sep, f"~{os.sep}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
