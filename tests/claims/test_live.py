"""What the chapters claim, now: every claim at all recorded seeds, and some live at another seed.

The claims of one or two chapters run live, of others at each commit, and all of them where
SPLITLAB_ALL is set (see `rotation`). An experiment that several claims need runs once.
"""

from itertools import chain

import pytest
import rotation

from splitlab.course import claims, records
from splitlab.course.claim_cells import update_cells

CLAIMS = claims.load()
PARTS = 12
SEED = 111  # not recorded, and it chose no setting


def seconds_of(claim):
    """What the experiments of a claim took when they were recorded, by kind of run."""
    tables = {table: records.rows_of(records.path_of(table)) for table, _ in claim.records.values()}
    return {
        (table, run): tables[table][f"{run}/{claim.seeds[0]}"].get("cpu_seconds", 0)
        for table, run in claim.records.values()
    }


def dealt():
    """Deal the chapters: the claims of a chapter stay together, for they share experiments."""
    chapters = {}
    for claim in CLAIMS:
        chapters.setdefault(claim.chapter, {}).update(seconds_of(claim))
    return rotation.dealt({name: sum(one.values()) for name, one in chapters.items()}, PARTS)


def with_a_turn(number=None):
    """Return the claims that run live."""
    chapters = list(chain(*rotation.share(dealt(), PARTS, number)))
    return [claim for claim in CLAIMS if claim.chapter in chapters]


LIVE = with_a_turn()
rotation.chosen[f"claims run live at seed {SEED}"] = [claim.name for claim in LIVE]


def each(chosen):
    return pytest.mark.parametrize("claim", chosen, ids=lambda claim: claim.name)


@pytest.fixture(scope="module")
def live():
    """How each claim stands after its experiments ran again at one seed."""
    return {standing.claim.name: standing for standing in claims.rerun(LIVE, seed=SEED)}


def test_there_are_claims_for_the_chapters_that_prove_one():
    chapters = {"10", "11", "12", "13", "21", "22", "23", "31", "32", "33"}
    chapters |= {"34", "35", "41", "42", "51", "52", "53", "54"}
    assert chapters <= {claim.chapter for claim in CLAIMS}


@each(CLAIMS)
def test_a_claim_holds_at_every_recorded_seed(claim):
    standing = claims.recorded(claim)
    assert standing.holds, (standing.badge, standing.problem, standing.figures)
    assert len(standing.figures) == len(claim.seeds) >= 5


@each(LIVE)
def test_a_claim_holds_live_at_a_seed_that_is_not_recorded(claim, live):
    assert SEED not in claim.seeds
    standing = live[claim.name]
    assert standing.holds, (standing.badge, standing.figures)
    assert list(standing.figures) == [SEED]


def test_every_claim_has_its_turn_once_in_a_round():
    rounds = [with_a_turn(number) for number in range(PARTS)]
    names = [claim.name for turn in rounds for claim in turn]
    assert sorted(names) == sorted(claim.name for claim in CLAIMS)
    assert all(rounds)


def test_the_chapters_claim_cells_are_what_the_records_say():
    standings = [claims.recorded(claim) for claim in CLAIMS]
    assert update_cells(claims.BOOK, standings, write=False) == []
