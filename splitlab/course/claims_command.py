"""`splitlab claims`: list what the chapters claim, rerun it, and write the claim cells."""

from __future__ import annotations

import argparse
import difflib
import textwrap
from collections.abc import Sequence

import splitlab as sl
from splitlab.course.claim_cells import update_cells
from splitlab.course.claims import (
    BOOK,
    CONFIDENCE,
    Claim,
    ClaimError,
    Standing,
    in_repository,
    load,
    recorded,
    rerun,
)
from splitlab.course.options import whole

SEEDS = 2**32  # scikit-learn's k-means takes no other


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `splitlab claims` to its parser."""
    parser.set_defaults(run=run)
    parser.add_argument("name", nargs="?", help="a claim to rerun at one seed; none lists them all")
    parser.add_argument("--seed", type=whole, help="the seed (the first recorded one)")
    parser.add_argument("--jobs", type=whole, default=1, help="experiments run at once (1)")
    does = parser.add_mutually_exclusive_group()
    does.add_argument(
        "--rerun", action="store_true", help="rerun all claims, or the one named, over all seeds"
    )
    does.add_argument("--badges", action="store_true", help="write the chapters' claim cells")
    does.add_argument("--check", action="store_true", help="list the claim cells that are stale")


def run(options: argparse.Namespace) -> int:
    """Run `splitlab claims`.

    Returns:
        0, or 1 if a claim does not hold, or (`--badges`, `--check`) a cell is not as it should be.

    Raises:
        ClaimError: If the claims or the request make no sense.
    """
    if options.jobs < 1:
        raise ClaimError(f"--jobs is {options.jobs}: use at least one process")
    if options.seed is not None and (options.name is None or options.rerun):
        raise ClaimError("--seed goes with the name of a claim: splitlab claims NAME --seed 7")
    if options.seed is not None and not 0 <= options.seed < SEEDS:
        raise ClaimError(f"--seed is {options.seed}: choose a whole number from 0 to {SEEDS - 1}")
    if options.name and (options.badges or options.check):
        raise ClaimError("--badges and --check are for all claims: leave out the name")
    claims = load()
    if options.badges or options.check:
        if not in_repository():
            raise ClaimError(
                f"there are no chapters in {BOOK}: run this in a copy of the repository"
            )
        standings = [recorded(claim) for claim in claims]
        sentences = update_cells(BOOK, standings, write=options.badges)
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
        print(f"{claim.chapter:<3} {claim.name}: {verdict}")
        for text in (claim.statement, f"rule: {claim.rule}"):
            print(textwrap.indent(textwrap.fill(text, 94), "    "))
    _explain(standings)
    return int(not all(standing.holds for standing in standings))


def _named(name: str, claims: Sequence[Claim]) -> Claim:
    for claim in claims:
        if claim.name == name:
            return claim
    near = difflib.get_close_matches(name, [claim.name for claim in claims], n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise ClaimError(f"no claim is called {name!r}: {meant}`splitlab claims` lists them all")


def _report(standings: Sequence[Standing]) -> int:
    """Print the claims' results after a rerun, with the range of each figure; return the status."""
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
    print(textwrap.fill(f"{claim.name} (chapter {claim.chapter}): {claim.statement}", 98))
    rows = [
        (name, f"{value:.4g}", f"{there[name]:.4g}" if there else "-")
        for name, value in standing.figures[seed].items()
    ]
    print(sl.tables.Table((f"seed {seed}", "here", "recorded"), rows))
    print(f"{'holds' if standing.holds else 'does not hold'}: {claim.rule}")
    return int(not standing.holds)


def _explain(standings: Sequence[Standing]) -> None:
    """Explain what n of n means."""
    for n in sorted({len(standing.figures) for standing in standings if standing.holds}):
        rate = sl.intervals.failure_bound(n, CONFIDENCE)
        print(
            f"{n} of {n}: at {CONFIDENCE:.0%} confidence, a claim that holds at {n} of {n} seeds "
            f"fails in at most {rate:.0%} of random splits of the same data."
        )
