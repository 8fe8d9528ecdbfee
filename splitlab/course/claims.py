"""Claims: sentences that a chapter proves, measured over seeds, with generated badges.

A claim is listed in `splitlab/course/runs/claims.yml` with the kinds of run that it rests on, a
few figures out of their rows, and a rule that compares figures of one seed. It holds where the rule
is true at every recorded seed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import splitlab as sl
from splitlab.course import experiments, records
from splitlab.course.experiments import Experiment, find
from splitlab.course.reruns import measured
from splitlab.course.rules import check_rule, is_true

FILE = "claims.yml"
BOOK = Path(__file__).resolve().parents[2] / "book"  # the chapters, in a copy of the repository


FIELDS = ("chapter", "statement", "records", "metric", "rule", "seeds")


CONFIDENCE = 0.95


CHAPTER = re.compile(r"\d\d[a-z]?")


Figures = dict[str, float]


Row = Mapping[str, Any]


class ClaimError(ValueError):
    """A claim that cannot be read or measured; the message is one sentence."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim of `claims.yml`.

    Attributes:
        name: Its name there.
        chapter: What the name of the page that proves it begins with: "34", or "34b" for a
            companion of chapter 34.
        statement: The sentence on the page.
        records: Short name -> (table, run), the kinds of run that it rests on.
        metric: Figure -> where a row keeps it, "short_name.path.in.the.row"; a number in the
            path is a place in a list, from 0.
        rule: A comparison of the figures of one seed; see `rules.check_rule`.
        seeds: The seeds at which it was measured.
    """

    name: str
    chapter: str
    statement: str
    records: Mapping[str, tuple[str, str]]
    metric: Mapping[str, str]
    rule: str
    seeds: tuple[int, ...]

    def experiments(self, seed: int) -> dict[str, Experiment]:
        """Return the experiments that measure the claim at one seed, by short name."""
        return {short: find(*kind, seed) for short, kind in self.records.items()}

    def figures(self, rows: Mapping[str, Row]) -> Figures:
        """Return the figures that the rule compares.

        Args:
            rows: Short name -> row, all of one seed.

        Raises:
            ClaimError: If a metric's path leads nowhere, or to something that is no number.
        """
        return {name: self._figure(name, path, rows) for name, path in self.metric.items()}

    def _figure(self, name: str, path: str, rows: Mapping[str, Row]) -> float:
        value: Any = rows
        done = []
        for part in path.split("."):
            if isinstance(value, list):
                value = {str(place): item for place, item in enumerate(value)}
            if not isinstance(value, Mapping) or part not in value:
                there = f"has {', '.join(value)}" if isinstance(value, Mapping) else "ends there"
                raise ClaimError(
                    f"{self.name}: the metric {name} is {path}, and there is no {part!r} in "
                    f"{'.'.join(done)}, which {there}"
                )
            value = value[part]
            done.append(part)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ClaimError(
                f"{self.name}: the metric {name} is {path}, which is not a number: "
                "let the path end at one"
            )
        return value


@dataclass(frozen=True)
class Standing:
    """The state of a claim: its figures at some seeds, or why there are none.

    Attributes:
        claim: The claim.
        figures: Seed -> the figures that the rule compares.
        problem: Why it cannot be said, in one sentence; empty where it can.
    """

    claim: Claim
    figures: dict[int, Figures] = field(default_factory=dict)
    problem: str = ""

    @property
    def failing(self) -> list[int]:
        """The seeds at which the rule is not true."""
        return [s for s, figures in self.figures.items() if not is_true(self.claim.rule, figures)]

    @property
    def holds(self) -> bool:
        """Whether the rule is true at every seed."""
        return bool(self.figures) and not self.problem and not self.failing

    @property
    def badge(self) -> str:
        """The verdict in a few words; "holds" is only said of all seeds."""
        count = len(self.figures)
        if self.problem:
            return "not known: its records are stale"
        if self.failing:
            seeds = ", ".join(map(str, self.failing))
            return f"fails at {len(self.failing)} of {count} seeds: {seeds}"
        return f"holds {count}/{count} seeds"


def load(path: Path | None = None) -> list[Claim]:
    """Read the claims.

    Args:
        path: The file; by default the one beside the recorded runs.

    Returns:
        The claims in the order of their chapters.

    Raises:
        ClaimError: If the file is missing or broken, says in one sentence where.
    """
    path = path or records.RUNS / FILE
    if not path.exists():
        raise ClaimError(f"there is no {path}: reinstall splitlab, or name the file")
    try:
        import yaml  # the library itself does not need it
    except ModuleNotFoundError:
        raise ClaimError("claims are read with PyYAML: pip install pyyaml") from None
    text = path.read_text(encoding="utf-8")
    names = re.findall(r"^([^\s#][^:]*):", text, re.MULTILINE)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ClaimError(f"{path} has two claims called {twice!r}: YAML would keep one; rename one")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise ClaimError(f"{path} is not YAML that can be read ({why}): correct it") from None
    if not isinstance(content, dict) or not content:
        raise ClaimError(f"{path} holds no claims: it must map each claim's name to its fields")
    claims = [_claim(str(name), fields) for name, fields in content.items()]
    for claim in claims:
        if in_repository() and claim.chapter not in pages(BOOK):
            raise ClaimError(
                f"{claim.name}: there is no chapter {claim.chapter} in {BOOK}: correct the number"
            )
    return sorted(claims, key=lambda claim: claim.chapter)


def pages(book: Path) -> dict[str, Path]:
    """Return the notebooks that can carry claims, by chapter, in order.

    A chapter is called `NN_slug`; a companion page of it has a letter, too: `NNb_slug`.

    Raises:
        ClaimError: If two notebooks are of one chapter.
    """
    found: dict[str, Path] = {}
    for path in sorted(book.glob("*_*.ipynb")):
        chapter = path.stem.partition("_")[0]
        if chapter in found:
            raise ClaimError(
                f"{found[chapter].name} and {path.name} are both chapter {chapter}: rename one, to "
                f"{chapter}b_ if it is a companion page"
            )
        if CHAPTER.fullmatch(chapter):
            found[chapter] = path
    return dict(sorted(found.items()))


def in_repository() -> bool:
    """Whether the chapters are here: an installed package has none."""
    return (BOOK / "_toc.yml").exists()


def _claim(name: str, fields: Any) -> Claim:
    """Check the fields of one claim."""

    def refuse(why: str) -> ClaimError:
        return ClaimError(f"{name}: {why}")

    def texts(field: str) -> dict[str, str]:
        """Return a field that maps names to text."""
        value = fields[field]
        if not isinstance(value, dict) or not value:
            raise refuse(f"{field} must map names to text")
        for key, text in value.items():
            if not (isinstance(key, str) and key.isidentifier() and isinstance(text, str)):
                raise refuse(f"{field} must map names (letters, digits, _) to text, not {key!r}")
        return value

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise refuse("a claim's name is made of lowercase letters, digits and single hyphens")
    if not isinstance(fields, dict):
        raise refuse(f"it must have the fields {', '.join(FIELDS)}")
    if unknown := [key for key in fields if key not in FIELDS]:
        raise refuse(f"there is no field {unknown[0]!r}: a claim has {', '.join(FIELDS)}")
    if missing := [key for key in FIELDS if key not in fields]:
        raise refuse(f"the field {missing[0]!r} is missing")
    chapter, seeds = fields["chapter"], fields["seeds"]
    if type(chapter) is int:  # as YAML reads 6 and 06; it reads 08 and 01b as text
        chapter = f"{chapter:02d}"
    if not isinstance(chapter, str) or not CHAPTER.fullmatch(chapter):
        raise refuse(
            "chapter must be what the page's name begins with, such as 32 or 34b, not "
            f"{fields['chapter']!r}"
        )
    if not isinstance(seeds, list) or not seeds or any(type(seed) is not int for seed in seeds):
        raise refuse("seeds must be a list of whole numbers")
    if len(set(seeds)) < len(seeds):
        raise refuse("seeds names a seed twice")
    for key in ("statement", "rule"):
        if not isinstance(fields[key], str) or not fields[key].strip():
            raise refuse(f"{key} must be text")
    records = {}
    for short, kind in texts("records").items():
        table, _, run = kind.partition("/")
        records[short] = (table, run)
        try:
            find(table, run, seeds[0])
        except ValueError as error:
            raise refuse(str(error)) from None
    for figure, path in texts("metric").items():
        if path.split(".")[0] not in records:
            raise refuse(
                f"the metric {figure} is {path}, which does not begin with one of its records: "
                f"{', '.join(records)}"
            )
    try:
        check_rule(fields["rule"], fields["metric"])
    except ValueError as error:
        raise refuse(str(error)) from None
    return Claim(
        name=name,
        chapter=chapter,
        statement=" ".join(fields["statement"].split()),
        records=records,
        metric=fields["metric"],
        rule=" ".join(fields["rule"].split()),
        seeds=tuple(seeds),
    )


def recorded(claim: Claim) -> Standing:
    """Return the state of a claim at the recorded seeds.

    Raises:
        ClaimError: If a seed is not recorded, a recorded one is left out, or a metric's path leads
            nowhere.
    """
    by_short: dict[str, dict[int, Row]] = {}
    for short, (table, run) in claim.records.items():
        try:
            runs = experiments.recorded(table)
        except sl.StaleRecord as error:
            return Standing(claim, problem=str(error))
        except FileNotFoundError as error:
            raise ClaimError(f"{claim.name}: {error}") from None
        rows = {row["seed"]: row for row in runs if row["run"] == run}
        if missing := sorted(set(claim.seeds) - set(rows)):
            raise ClaimError(
                f"{claim.name}: {table}/{run} is not recorded at seed {missing[0]}: make it with "
                f"`python benchmarks/records.py {table}`, or take the seed out of {FILE}"
            )
        if reason := next((r["historical"] for r in rows.values() if r.get("historical")), ""):
            return Standing(claim, problem=f"{table}/{run} is kept as history only: {reason}")
        by_short[short] = rows
    measured = set.intersection(*(set(rows) for rows in by_short.values()))
    if left_out := sorted(measured - set(claim.seeds)):
        raise ClaimError(
            f"{claim.name}: it is recorded at seed {left_out[0]} too, and a claim covers all "
            f"recorded seeds: add the seed in {FILE}"
        )
    return Standing(
        claim,
        {
            seed: claim.figures({short: rows[seed] for short, rows in by_short.items()})
            for seed in claim.seeds
        },
    )


def verify(chapter: int | str) -> None:
    """Assert that all claims of a chapter hold at every recorded seed: what a verdict cell does.

    Args:
        chapter: What the page's name begins with, such as 32.

    Raises:
        AssertionError: If a claim does not hold; names it, its rule, and the seeds.
        ClaimError: If the chapter has no claims, or they cannot be read.
    """
    claims = [claim for claim in load() if claim.chapter == f"{chapter:0>2}"]
    if not claims:
        chapters = ", ".join(sorted({claim.chapter for claim in load()}))
        raise ClaimError(f"chapter {chapter} has no claims: choose one of {chapters}")
    for claim in claims:
        standing = recorded(claim)
        if not standing.holds:
            why = f" ({standing.problem})" if standing.problem else ""
            raise AssertionError(f"{claim.name} {standing.badge}{why}: {claim.rule}")


def rerun(claims: Sequence[Claim], *, seed: int | None = None, jobs: int = 1) -> list[Standing]:
    """Run the claims' experiments again; one that several claims need runs once.

    Args:
        claims: The claims.
        seed: One seed for all of them, recorded or not; None for each claim's recorded seeds.
        jobs: How many experiments run at once, one thread each.

    Returns:
        How each claim stands, by the new figures alone.

    Raises:
        ValueError: If a process that ran an experiment was killed.
    """
    needed = {
        (claim, at): claim.experiments(at)
        for claim in claims
        for at in (claim.seeds if seed is None else [seed])
    }
    rows = measured({one for ones in needed.values() for one in ones.values()}, jobs)
    standings = {claim: Standing(claim) for claim in claims}
    for (claim, at), ones in needed.items():
        figures = claim.figures({short: rows[one] for short, one in ones.items()})
        standings[claim].figures[at] = figures
    return list(standings.values())
