"""Which part of what takes longest has its turn: another one at each commit, and at night all.

The number of the turn comes from the commit, so that a run of the same commit is the same run.
`SPLITLAB_TURN=7` asks for a turn, as the output of an earlier run names it; `SPLITLAB_ALL=1` for
everything at once.
"""

import hashlib
import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
TURNS = 60  # a multiple of the number of parts into which anything is dealt

chosen: dict[str, list[str]] = {}  # what has its turn, by kind; printed at the end of the tests


def everything():
    """Whether all is asked for."""
    return os.environ.get("SPLITLAB_ALL", "") not in ("", "0")


def turn():
    """The number of this run's turn."""
    asked = os.environ.get("SPLITLAB_TURN", "").strip()
    if not asked:
        return int(hashlib.sha256(_state().encode()).hexdigest(), 16) % TURNS
    if not asked.isdigit():
        raise ValueError(f"SPLITLAB_TURN is {asked!r}: it takes a whole number, such as 7")
    return int(asked)


def _state():
    """What this copy of the repository is: its commit, or without git its version."""
    try:
        git = ["git", "rev-parse", "HEAD"]
        shown = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        return re.search(r'^version = "(.+)"', project, flags=re.MULTILINE)[1]
    return shown.stdout.strip()


def share(things, parts, number=None):
    """Return the part of a list that has its turn, in order; all of it where all is asked for.

    Over `parts` turns in a row each thing comes once.
    """
    assert TURNS % parts == 0, "else some parts would come more often"
    if number is None and everything():
        return list(things)
    number = turn() if number is None else number
    return list(things)[number % parts :: parts]


def dealt(seconds, parts):
    """Deal things into parts that take about as long: the longest first, to the shortest part.

    Args:
        seconds: Thing -> what it takes.
        parts: How many parts; none is empty where there are as many things.
    """
    hands, taken = [[] for _ in range(parts)], [0.0] * parts
    for thing in sorted(seconds, key=lambda thing: -seconds[thing]):
        shortest = min(range(parts), key=lambda part: (taken[part], len(hands[part])))
        hands[shortest].append(thing)
        taken[shortest] += seconds[thing]
    return hands
