"""What the chapters claim, now: every claim at one seed live, and at all recorded ones.

The experiments of one seed run once, whichever claims need them. The longest, the paper's design at
ten times the steps, takes more than half of the time.
"""

from pathlib import Path

import pytest

from splitlab.course import claims
from splitlab.course.claim_cells import update_cells

BOOK = Path(__file__).parents[2] / "book"
CLAIMS = claims.load(BOOK / claims.FILE)
SEED = 100

each_claim = pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)


@pytest.fixture(scope="module")
def live():
    """How each claim stands after its experiments ran again at one seed."""
    return {standing.claim.name: standing for standing in claims.rerun(CLAIMS, seed=SEED, jobs=2)}


def test_there_are_claims_for_the_chapters_that_prove_one():
    chapters = {"00", "01", "01b", "02", "03", "04", "05", "05b", "06"}
    chapters |= {"07", "07b", "07c", "07d", "08"}
    assert chapters <= {claim.chapter for claim in CLAIMS}


@each_claim
def test_a_claim_holds_at_every_recorded_seed(claim):
    standing = claims.recorded(claim)
    assert standing.holds, (standing.badge, standing.problem, standing.figures)
    assert len(standing.figures) == len(claim.seeds) >= 5


@each_claim
def test_a_claim_holds_live_at_one_seed(claim, live):
    standing = live[claim.name]
    assert standing.holds, (standing.badge, standing.figures)
    assert list(standing.figures) == [SEED]


def test_the_chapters_claim_cells_are_what_the_records_say():
    standings = [claims.recorded(claim) for claim in CLAIMS]
    assert update_cells(BOOK, standings, write=False) == []
