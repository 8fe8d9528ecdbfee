"""The gate's kill rate, at the end of the tests' output."""

import pytest

RATES = pytest.StashKey[list[tuple[str, str, int, int]]]()


def pytest_configure(config):
    config.stash[RATES] = []


@pytest.fixture
def kill_rate(request):
    """Note how many mutants of an exercise there were, and how many passed its check."""

    def note(stem, name, made, passed):
        request.config.stash[RATES].append((stem, name, made, passed))

    return note


def pytest_terminal_summary(terminalreporter, config):
    rates = config.stash.get(RATES, [])
    if not rates:
        return
    terminalreporter.section("mutants killed by the checks")
    for stem, name, made, passed in rates:
        terminalreporter.line(f"{stem.split('_')[0]:<3} {name:<23} {made - passed:>3} of {made:>3}")
    made, passed = (sum(rate[column] for rate in rates) for column in (2, 3))
    terminalreporter.line(
        f"all: {made - passed} of {made} ({100 * (made - passed) / made:.1f} %); "
        f"{passed} pass and are equivalent, or stand above as failures"
    )
