"""A pytest plugin: its last line says how many cells nbval compared with what is stored.

nbval passes a cell that has nothing stored, and one that it is told to skip. Only its own
comparisons can be counted on.
"""

from nbval.plugin import IPyNbCell

LINE = "nbval compared {compared} cells and left out {skipped}"

compared: list[str] = []


def pytest_configure():
    """Note each comparison with a stored output."""
    compare = IPyNbCell.compare_outputs

    def noted(cell, test, ref, *arguments):
        if ref:
            compared.append(cell.nodeid)
        return compare(cell, test, ref, *arguments)

    IPyNbCell.compare_outputs = noted


def pytest_terminal_summary(terminalreporter):
    """Print the counts; a cell after one that took too long counts as left out."""
    stats = terminalreporter.stats
    skipped = len(stats.get("skipped", [])) + len(stats.get("xfailed", []))
    terminalreporter.line(LINE.format(compared=len(compared), skipped=skipped))
