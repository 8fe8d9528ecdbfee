"""How long a page is: words, sections, figures and tables, as a reader meets them."""

import re

from splitlab.course import runner

WORDS, SECTIONS, FIGURES, TABLES = 1800, 6, 4, 3  # at most
CLOSING = {"Verdict", "In short", "Exercises", "What this does not show", "Further reading"}


def sizes(executed):
    """The words, sections, figures and tables of an executed notebook.

    The closing sections, which every chapter has, do not count as sections. A slider is one figure,
    and so is a choice of several. Threat cards are no tables, and a report is one table.
    """
    text = "\n".join(c.source for c in executed.cells if c.cell_type == "markdown")
    heads = re.findall(r"^## (.+)$", text, flags=re.M)
    prose = re.sub(r"\$\$[^$]*\$\$|^:::.*$|^:class:.*$|\{\w+\}", " ", text, flags=re.M)
    figures = tables = 0
    for cell in runner.code_cells(executed):
        shown = [o.get("data", {}) for o in cell.outputs if "data" in o]
        html = "".join("".join(data.get("text/html", "")) for data in shown)
        figures += html.count('<figure class="splitlab"')
        figures += sum("application/vnd.jupyter.widget-view+json" in data for data in shown)
        if "threat" not in cell.source.lower():
            tables += html.count('<table class="splitlab"')
    tables += len(re.findall(r"^\|[-| :]+\|$", text, flags=re.M))
    return {
        "words": len(re.findall(r"[A-Za-z0-9][\w'’.-]*", prose)),
        "sections": len([head for head in heads if head not in CLOSING]),
        "figures": figures,
        "tables": tables,
    }


def numbers_of_figures(executed):
    """The numbers with which the captions of a page's figures begin, in order."""
    sources = "\n".join(cell.source for cell in runner.code_cells(executed))
    return [int(n) for n in re.findall(r"Figure (\d+)[.:]", sources)]
