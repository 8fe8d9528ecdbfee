"""The gallery of a batch: one HTML page that shows every run, what it found and what it drew."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import splitlab as sl
from splitlab.core.files import write_atomically
from splitlab.course.batch import dots, table
from splitlab.course.batch.jobs import Outcome
from splitlab.course.batch.reconstructions import PREFIX, Image, images
from splitlab.course.batch.style import CSS
from splitlab.course.runner import Result

NAME = "gallery.html"
SIGNS = {"done": "✓", "failed": "✗", "not run": "–"}
KINDS = {"done": "done", "failed": "failed", "not run": "idle"}  # classes of the style

HOW_TO_READ = (
    "Below, each drawing has one row for each run, in the order of the grid. The line is the bar, "
    "and the comparison is true on the shaded side. A filled dot is a figure at which it is true, "
    "a hollow diamond ◇ one at which it is false."
)
SEED = re.compile(r"((?:.*, )?)seed (\d+)((?:, .*)?)", re.DOTALL)

# The browser itself sees to it that the page loads nothing and runs nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Run:
    """A job as the page shows it.

    Attributes:
        values: Its parameters in words, such as "tiny, seed 3".
        outcome: What came of it.
        copy: The address of the notebook that it left behind, from the page; "" if there is none.
        log: The same of its log; "" also if it did not run, for a log is then of an earlier batch.
        images: Its reconstructions.
    """

    values: str
    outcome: Outcome
    copy: str
    log: str
    images: tuple[Image, ...]

    @property
    def chapter(self) -> str:
        """The notebook's name."""
        return self.outcome.job.chapter

    @property
    def status(self) -> str:
        """``done``, ``failed`` or ``not run``."""
        return self.outcome.status

    @property
    def result(self) -> Result | None:
        """What running it gave, None if it did not run."""
        return self.outcome.result


def write(out: Path, outcomes: Sequence[Outcome], *, seconds: float | None = None) -> Path:
    """Write ``gallery.html`` into the folder of a batch, from the executed notebooks in it.

    Args:
        out: The folder.
        outcomes: What came of each job; the columns of the grid are in their order.
        seconds: How long the batch took, from its start to its end; None if it is not known.

    Returns:
        The page's path.

    Raises:
        OSError: If the page cannot be written; an earlier one is then as it was.
    """
    path = out / NAME
    write_atomically(path, page(out, outcomes, seconds=seconds).encode(errors="replace"))
    return path


def page(out: Path, outcomes: Sequence[Outcome], *, seconds: float | None = None) -> str:
    """The HTML of the gallery; see `write`."""
    runs = _runs(out, outcomes)
    notebooks = [list(group) for _, group in groupby(sorted(runs, key=_place), _place)]
    heading = f"{_count(len(notebooks), 'notebook')}, {_count(len(runs), 'run')}"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>splitlab run: {heading}</title>\n<style>{CSS}</style>\n</head>",
            f"<body>\n<main>\n<h1>splitlab run: {heading}</h1>",
            *_totals(runs, seconds),
            *_grid(runs, notebooks),
            *(line for number, one in enumerate(notebooks) for line in _notebook(number, one)),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _runs(out: Path, outcomes: Sequence[Outcome]) -> list[Run]:
    devices = {str(outcome.job.parameters.get("device", "")) for outcome in outcomes}
    runs = []
    for outcome in outcomes:
        values = [outcome.job.values]
        if len(devices) > 1:  # else it says nothing
            values.append(str(outcome.job.parameters.get("device", "")))
        copy = table.copy_of(outcome)
        runs.append(
            Run(
                ", ".join(filter(None, values)) or "as written",
                outcome,
                _address(copy, out),
                _address(outcome.job.log if outcome.result else None, out),
                images(copy) if copy else (),
            )
        )
    return runs


def _place(run: Run) -> tuple[str, str, str]:
    """Where a notebook stands: chapters by their numbers, each before its solution."""
    notebook = run.outcome.job.notebook
    return notebook.stem, run.chapter, str(notebook)


def _address(path: Path | None, out: Path) -> str:
    """A file's address from the page, "" if there is no such file."""
    if path is None or not path.is_file():
        return ""
    return quote(os.fsencode(Path(os.path.relpath(path, out)).as_posix()))


def _totals(runs: Sequence[Run], seconds: float | None) -> list[str]:
    """How many runs are done, failed and not run, what they took, and which versions ran them."""
    results = [run.result for run in runs if run.result]
    cpu = [result.cpu_seconds for result in results if result.cpu_seconds is not None]
    counts = {status: sum(run.status == status for run in runs) for status in SIGNS}
    totals = {status: f"{SIGNS[status]} {count}" for status, count in counts.items()}
    if seconds is not None:
        totals["wall time of the batch"] = _duration(seconds)
    totals["wall time, all runs"] = _duration(sum(result.seconds for result in results))
    if cpu:
        totals["CPU time, all runs"] = _duration(sum(cpu))
    rows = [
        f'<div class="{KINDS.get(name, "")}"><dt>{name}</dt><dd>{value}</dd></div>'
        for name, value in totals.items()
    ]
    notes = [
        f"Written on {datetime.now():%Y-%m-%d at %H:%M} by splitlab {sl.__version__} with torch "
        f"{version('torch')} and Python {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}."
    ]
    if earlier := sum(result.cached for result in results):
        notes.append(f"Of the runs, {earlier} had been done before; their times are from then.")
    notes.append(f'All of it as a table: <a href="{table.NAME}">{table.NAME}</a>.')
    return [f'<dl class="totals">{"".join(rows)}</dl>', f'<p class="quiet">{" ".join(notes)}</p>']


def _grid(runs: Sequence[Run], notebooks: Sequence[Sequence[Run]]) -> list[str]:
    """The table of notebooks by the values of the parameters."""
    columns = list(dict.fromkeys(run.values for run in runs))
    head = "".join(f'<th scope="col">{_short_lines(values)}</th>' for values in columns)
    lines = [
        "<section>\n<h2>All runs</h2>",
        _region("All runs, notebooks by parameters"),
        "<table><caption>✓ done, ✗ failed, – not run</caption>",
        f'<thead><tr><th scope="col">notebook</th>{head}</tr></thead>\n<tbody>',
    ]
    for number, one in enumerate(notebooks):
        name = f'<a href="#notebook-{number}">{_text(one[0].chapter)}</a>'
        cells = [_cell([run for run in one if run.values == column]) for column in columns]
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>')
    lines.append("</tbody></table>\n</div>")
    if any(run.result and run.result.figures for run in runs):
        lines.append(f'<p class="quiet">{HOW_TO_READ}</p>')
    return [*lines, "</section>"]


def _cell(runs: Sequence[Run]) -> str:
    """A cell of the grid: what came of a notebook with these parameters, if it had them."""
    if not runs:
        return "<td></td>"
    run = runs[-1]
    about = f"{run.chapter}, {run.values}"
    copy = _link(run.copy, run.status, f"notebook of {about}")
    below = [_duration(run.result.seconds)] if run.result else []
    if run.log:
        below.append(_link(run.log, "log", f"of {about}"))
    lines = (f"{SIGNS[run.status]} {copy}", " · ".join(below))
    spans = "".join(f"<span>{line}</span>" for line in lines if line)
    return f'<td class="{KINDS[run.status]}">{spans}</td>'


def _notebook(number: int, runs: Sequence[Run]) -> list[str]:
    """The section of a notebook: how often its verdict holds, its figures, and its pictures."""
    return [
        '<section class="notebook">',
        f'<h2 id="notebook-{number}">{_text(runs[0].chapter)}</h2>',
        f"<p>{_verdicts(runs)}</p>",
        *_used([run.result for run in runs if run.result]),
        *_lines(runs),
        *_failures(runs),
        *_figures(runs),
        *_reconstructions(runs),
        "</section>",
    ]


def _verdicts(runs: Sequence[Run]) -> str:
    """In how many runs the verdict holds."""
    ran = [run for run in runs if run.result]
    done = sum(run.status == "done" for run in ran)
    has_one = any(run.result.verdict or run.result.figures for run in ran if run.result)
    share = f"{done} of {_count(len(ran), 'run')}"
    if not ran:
        text = ""
    elif has_one:
        text = f"The verdict holds in {share}. "
    else:
        text = f"Done: {share}. "
    left = len(runs) - len(ran)
    return text + (f"Not run: {left}." if left else "")


def _used(results: Sequence[Result]) -> list[str]:
    """The ranges of wall and CPU time and of memory over the runs."""
    wall = sorted(result.seconds for result in results)
    cpu = sorted(result.cpu_seconds for result in results if result.cpu_seconds is not None)
    memory = sorted(result.memory for result in results if result.memory is not None)
    parts = [
        f"{name} {_range([_duration(value) for value in values])}"
        for name, values in (("wall time", wall), ("CPU time", cpu))
        if values
    ]
    if memory:
        parts.append(f"peak memory {_range([f'{value / 1e6:,.0f}' for value in memory])} MB")
    return [f'<p class="quiet">A run: {"; ".join(parts)}.</p>'] if parts else []


def _lines(runs: Sequence[Run]) -> list[str]:
    """Each verdict line once, with its runs."""
    lines: dict[str, list[str]] = {}
    for run in runs:
        if run.result and run.result.verdict:
            lines.setdefault(run.result.verdict, []).append(run.values)
    items = [f"<li>{_text(line)} ({_together(at)})</li>" for line, at in lines.items()]
    return ["<h3>Verdict</h3>", f"<ul>{''.join(items)}</ul>"] if items else []


def _failures(runs: Sequence[Run]) -> list[str]:
    """Each run that failed, with its error in full."""
    items = []
    for run in runs:
        if run.result and run.result.error:
            name = _link(run.copy, run.values, f"failed notebook of {run.chapter}")
            log = (
                f" ({_link(run.log, 'log', f'of {run.chapter}, {run.values}')})" if run.log else ""
            )
            items.append(f"<li>{name}{log}: {_text(run.result.error)}</li>")
    return ["<h3>Failed runs</h3>", f"<ul>{''.join(items)}</ul>"] if items else []


def _figures(runs: Sequence[Run]) -> list[str]:
    """A drawing for each comparison: the figure of every run beside its bar."""
    points: dict[str, list[dots.Point]] = {}
    for run in runs:
        for comparison in run.result.figures if run.result else ():
            points.setdefault(dots.title(comparison), []).append(dots.Point(run.values, comparison))
    ran = sum(run.result is not None for run in runs)
    plots = [_plot(title, at, ran) for title, at in points.items()]
    return (
        ["<h3>Figures of the verdict</h3>", '<div class="plots">', *plots, "</div>"]
        if plots
        else []
    )


def _plot(title: str, points: Sequence[dots.Point], ran: int) -> str:
    holds, made = dots.held(points)
    said = [f'<p class="quiet">{_text(dots.sentence(points))}</p>']
    if missed := dots.misses(points):
        said.append(f'<p><span class="miss">◇ Does not hold</span> at {_text(missed)}.</p>')
    if ran > made:
        said.append(f"<p>Not reached in {_count(ran - made, 'run')}.</p>")
    return (
        f"<figure><figcaption><code>{_text(title)}</code> <span>holds in {holds} of "
        f"{_count(made, 'run')}</span></figcaption>{dots.drawing(points)}{''.join(said)}</figure>"
    )


def _reconstructions(runs: Sequence[Run]) -> list[str]:
    """The pictures of the runs side by side."""
    pictures = [(run, image) for run in runs for image in run.images]
    if not pictures:
        return []
    chapter = runs[0].chapter
    # The number is a number in the chapter.
    captions = dict.fromkeys(re.sub(r"^Figure \d+\. ", "", image.caption) for _, image in pictures)
    lines = ["<h3>Reconstructions</h3>"]
    lines += [f'<p class="quiet">{_text(caption)}</p>' for caption in captions if caption]
    lines += [_region(f"Reconstructions of {chapter}, run by run"), '<div class="row">']
    for run, image in pictures:
        alt = escape(f"{run.values}: {image.alt or f'reconstructions of {chapter}'}")
        status = "" if run.status == "done" else f" {SIGNS[run.status]} {run.status}"
        lines.append(
            f'<figure><img alt="{alt}" src="{PREFIX}{image.png}">'
            f"<figcaption>{_text(run.values)}{status}</figcaption></figure>"
        )
    lines.append("</div>\n</div>")
    if without := [run.values for run in runs if run.result and not run.images]:
        lines.append(f"<p>No picture of {_together(without)}.</p>")
    return lines


def _region(label: str) -> str:
    """What scrolls sideways by itself, also by the keyboard; close it with ``</div>``."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(label)}">'


def _link(address: str, text: str, about: str) -> str:
    """A link whose name says more than its text; the text alone if there is no address."""
    if not address:
        return _text(text)
    label = escape(f"{text}, {about}")
    return f'<a href="{escape(address)}" aria-label="{label}">{_text(text)}</a>'


def _text(text: str) -> str:
    """A text as HTML, which may break after an underscore or a slash."""
    return re.sub(r"([_/])", r"\1<wbr>", escape(text))


def _short_lines(values: str) -> str:
    """The values of a column, which may break after a comma but not in "seed 3"."""
    return ", ".join(f"<span>{_text(part)}</span>" for part in values.split(", "))


def _together(values: Iterable[str]) -> str:
    """Runs in few words, such as "tiny, seeds 0 to 9"."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for text in values:
        match = SEED.fullmatch(text)
        before, seed, after = match.groups() if match else (text, None, "")
        seeds.setdefault((before, after), []).extend([int(seed)] if seed else [])
    return "; ".join(_text(f"{a}{_seeds(at)}{b}") for (a, b), at in seeds.items())


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds in words, such as "seeds 0 to 3, 7"; "" if there are none."""
    stretches: list[list[int]] = []
    for seed in sorted(seeds):
        if stretches and seed == stretches[-1][-1] + 1:
            stretches[-1].append(seed)
        else:
            stretches.append([seed])
    texts = [
        f"{one[0]} to {one[-1]}" if len(one) > 2 else ", ".join(map(str, one)) for one in stretches
    ]
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(texts)}" if seeds else ""


def _range(texts: Sequence[str]) -> str:
    """The first and the last of some texts, in words."""
    return " to ".join(dict.fromkeys((texts[0], texts[-1])))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
