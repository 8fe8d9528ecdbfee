"""Claims: sentences that a chapter proves, measured over seeds, with badges that nobody types.

A claim stands in `book/claims.yml` with the kinds of run that it rests on, a few figures out of
their rows, and a rule that compares figures of one seed. It holds where the rule is true at every
recorded seed. `splitlab claims` lists, reruns, and writes the chapters' claim cells.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import splitlab as sl
from splitlab.course.rules import check_rule, is_true
from splitlab.experiments import Experiment, find

FILE = "claims.yml"
FIELDS = ("chapter", "statement", "records", "metric", "rule", "seeds")
CONFIDENCE = 0.95

Figures = dict[str, float]
Row = Mapping[str, Any]


class ClaimError(ValueError):
    """A claim that cannot be read or measured; the message is one sentence."""


@dataclass(frozen=True, eq=False)
class Claim:
    """One claim of `book/claims.yml`.

    Attributes:
        name: Its name there.
        chapter: Number of the chapter that proves it.
        statement: What a reader is told.
        records: Short name -> (table, run), the kinds of run that it rests on.
        metric: Figure -> where a row keeps it, "short_name.path.in.the.row".
        rule: A comparison of the figures of one seed; see `rules.check_rule`.
        seeds: The seeds at which it was measured.
    """

    name: str
    chapter: int
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
                f"{self.name}: the metric {name} is {path}, and that is no number: "
                "let the path end at one"
            )
        return value


@dataclass(frozen=True)
class Standing:
    """How a claim stands: its figures at some seeds, or why nothing can be said.

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
    path = path or _find_file()
    try:
        import yaml  # not needed by whoever uses the library alone
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
        in_the_book = (path.parent / "_toc.yml").exists()  # an installed package has no chapters
        if in_the_book and notebook_of(path.parent, claim.chapter) is None:
            raise ClaimError(
                f"{claim.name}: there is no chapter {claim.chapter:02d} in {path.parent}: correct "
                "the number"
            )
    return sorted(claims, key=lambda claim: claim.chapter)


def notebook_of(book: Path, chapter: int) -> Path | None:
    """Return the notebook of a chapter, None if there is none."""
    return next(iter(sorted(book.glob(f"{chapter:02d}_*.ipynb"))), None)


def _find_file() -> Path:
    for runs in sl.record.folders():
        if (runs.parent / FILE).exists():
            return runs.parent / FILE
    raise ClaimError(f"there is no book/{FILE} here: run this in a copy of the repository")


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
        raise refuse("a claim's name is made of small letters, digits and single hyphens")
    if not isinstance(fields, dict):
        raise refuse(f"it must have the fields {', '.join(FIELDS)}")
    if unknown := [key for key in fields if key not in FIELDS]:
        raise refuse(f"there is no field {unknown[0]!r}: a claim has {', '.join(FIELDS)}")
    if missing := [key for key in FIELDS if key not in fields]:
        raise refuse(f"the field {missing[0]!r} is missing")
    chapter, seeds = fields["chapter"], fields["seeds"]
    if type(chapter) is not int or not 0 <= chapter <= 99:
        raise refuse(f"chapter must be its number, 0 to 99, not {chapter!r}")
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
                f"the metric {figure} is {path}, which begins with none of its records: "
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
    """Return how a claim stands at the recorded seeds.

    Raises:
        ClaimError: If a seed is not recorded, a recorded one is left out, or a metric's path leads
            nowhere.
    """
    by_short: dict[str, dict[int, Row]] = {}
    for short, (table, run) in claim.records.items():
        try:
            runs = sl.record.recorded(table)
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
            f"{claim.name}: it is recorded at seed {left_out[0]} too, and a claim answers for all "
            f"that is recorded: add the seed in {FILE}"
        )
    return Standing(
        claim,
        {
            seed: claim.figures({short: rows[seed] for short, rows in by_short.items()})
            for seed in claim.seeds
        },
    )


def rerun(claims: Sequence[Claim], *, seed: int | None = None, jobs: int = 1) -> list[Standing]:
    """Run the claims' experiments again; one that several claims need runs once.

    Args:
        claims: The claims.
        seed: One seed for all of them, recorded or not; None for each claim's recorded seeds.
        jobs: How many experiments run at once, one thread each.

    Returns:
        How each claim stands, by the new figures alone.
    """
    needed = {
        (claim, at): claim.experiments(at)
        for claim in claims
        for at in (claim.seeds if seed is None else [seed])
    }
    rows = _measured({one for ones in needed.values() for one in ones.values()}, jobs)
    standings = {claim: Standing(claim) for claim in claims}
    for (claim, at), ones in needed.items():
        figures = claim.figures({short: rows[one] for short, one in ones.items()})
        standings[claim].figures[at] = figures
    return list(standings.values())


def _measured(experiments: Iterable[Experiment], jobs: int) -> dict[Experiment, dict[str, Any]]:
    """Run experiments, `jobs` at a time, with progress on stderr."""
    # The longest first, so that no process is left with it at the end.
    queue = sorted(experiments, key=lambda one: (-one.steps, one.name))
    if jobs == 1:
        _one_thread()
        return {
            one: one.row(observers=[sl.Progress(f"[{n}/{len(queue)}] {one.name}")])
            for n, one in enumerate(queue, start=1)
        }
    from tqdm import tqdm

    rows = {}
    fresh = multiprocessing.get_context("spawn")  # a forked process would hang on torch's threads
    pool = ProcessPoolExecutor(jobs, mp_context=fresh, initializer=_one_thread)
    try:
        with tqdm(total=len(queue), unit="run", desc="rerunning", file=sys.stderr) as bar:
            futures = {pool.submit(_row, one): one for one in queue}
            for future in as_completed(futures):
                rows[futures[future]] = future.result()
                bar.update()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return rows


def _row(experiment: Experiment) -> dict[str, Any]:
    return experiment.row()


def _one_thread() -> None:
    torch.set_num_threads(1)


# --- the shell ---


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `splitlab claims` to its parser."""
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", help="a claim to rerun at one seed; none lists them all")
    parser.add_argument("--seed", type=int, help="the seed (the first recorded one)")
    parser.add_argument("--jobs", type=int, default=1, help="experiments run at once (1)")
    does = parser.add_mutually_exclusive_group()
    does.add_argument(
        "--rerun", action="store_true", help="rerun all claims, or the one named, over all seeds"
    )
    does.add_argument("--badges", action="store_true", help="write the chapters' claim cells")
    does.add_argument("--check", action="store_true", help="say which claim cells are stale")


def run(options: argparse.Namespace) -> int:
    """Run `splitlab claims`.

    Returns:
        0, or 1 if a claim does not hold, or (`--badges`, `--check`) a cell is not as it should be.

    Raises:
        ClaimError: If the claims or the request make no sense.
    """
    if options.jobs < 1:
        raise ClaimError(f"--jobs is {options.jobs}: it takes one process at least")
    if options.seed is not None and (options.name is None or options.rerun):
        raise ClaimError("--seed goes with the name of a claim: splitlab claims NAME --seed 7")
    if options.name and (options.badges or options.check):
        raise ClaimError("--badges and --check are for all claims: leave out the name")
    path = _find_file()
    claims = load(path)
    if options.badges or options.check:
        if not (path.parent / "_toc.yml").exists():
            raise ClaimError(f"there are no chapters beside {path}: run this in the repository")
        from splitlab.course.claim_cells import update_cells

        standings = [recorded(claim) for claim in claims]
        sentences = update_cells(path.parent, standings, write=options.badges)
        print("\n".join(sentences), end="\n" if sentences else "")
        return int(bool(sentences))
    if options.name is not None:
        claims = [_named(options.name, claims)]
    if options.rerun:
        return _report(rerun(claims, jobs=options.jobs))
    if options.name is not None:
        return _compare(claims[0], options.seed, options.jobs)
    standings = [recorded(claim) for claim in claims]
    for standing in standings:
        claim = standing.claim
        verdict = standing.problem or standing.badge.replace(" seeds", " recorded seeds")
        print(f"{claim.chapter:02d}  {claim.name}: {verdict}")
        for text in (claim.statement, f"rule: {claim.rule}"):
            print(textwrap.indent(textwrap.fill(text, 94), "    "))
    _explain(standings)
    return int(not all(standing.holds for standing in standings))


def _named(name: str, claims: Sequence[Claim]) -> Claim:
    for claim in claims:
        if claim.name == name:
            return claim
    raise ClaimError(
        f"no claim is called {name!r}: choose from {', '.join(c.name for c in claims)}"
    )


def _report(standings: Sequence[Standing]) -> int:
    """Print how claims stand after a rerun, with the range of each figure; return the status."""
    rows = []
    for standing in standings:
        for name in standing.claim.metric:
            values = [figures[name] for figures in standing.figures.values()]
            verdict = standing.badge if name == next(iter(standing.claim.metric)) else ""
            title = standing.claim.name if verdict else ""
            rows.append((title, verdict, name, f"{min(values):.4g}", f"{max(values):.4g}"))
    print(sl.tables.Table(("claim", "rerun", "figure", "smallest", "largest"), rows))
    for standing in standings:
        for seed in standing.failing:
            figures = ", ".join(f"{k} {v:.4g}" for k, v in standing.figures[seed].items())
            rule = standing.claim.rule
            print(f"{standing.claim.name} fails at seed {seed}: {figures}; the rule is {rule}")
    _explain(standings)
    return int(not all(standing.holds for standing in standings))


def _compare(claim: Claim, seed: int | None, jobs: int) -> int:
    """Rerun one claim at one seed, print it beside its record, if any, and return the status."""
    seed = claim.seeds[0] if seed is None else seed
    there = recorded(claim).figures.get(seed, {})
    (standing,) = rerun([claim], seed=seed, jobs=jobs)
    print(textwrap.fill(f"{claim.name} (chapter {claim.chapter:02d}): {claim.statement}", 98))
    rows = [
        (name, f"{value:.4g}", f"{there[name]:.4g}" if there else "-")
        for name, value in standing.figures[seed].items()
    ]
    print(sl.tables.Table((f"seed {seed}", "here", "recorded"), rows))
    print(f"{'holds' if standing.holds else 'does not hold'}: {claim.rule}")
    return int(not standing.holds)


def _explain(standings: Sequence[Standing]) -> None:
    """Say what n of n means."""
    for n in sorted({len(standing.figures) for standing in standings if standing.holds}):
        rate = sl.intervals.failure_bound(n, CONFIDENCE)
        print(
            f"{n} of {n}: at {CONFIDENCE:.0%} confidence, a claim that holds at {n} of {n} seeds "
            f"fails in at most {rate:.0%} of random splits of the same data."
        )
