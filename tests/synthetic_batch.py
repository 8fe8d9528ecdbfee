"""Outcomes of a batch that nobody ran, and the notebooks that it would have left behind."""

import io

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from splitlab.course.batch.jobs import Job, Outcome
from splitlab.course.comparisons import Comparison
from splitlab.course.runner import Result

TRUE = {">=": lambda a, b: a >= b, ">": lambda a, b: a > b, "<": lambda a, b: a < b}
TRUE |= {"<=": lambda a, b: a <= b, "==": lambda a, b: a == b, "!=": lambda a, b: a != b}


def compare(value, bar=0.95, operator=">=", figure="matched", bar_text=None):
    """A comparison as a verdict makes it."""
    holds = TRUE[operator](value, bar)
    return Comparison(figure, value, operator, bar, bar_text or f"{bar:g}", holds)


def png(color="gray"):
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", (16, 8), color).save(out, format="PNG")
    return out.getvalue()


def notebook(*data, tags=("reconstructions",), widgets=None):
    """An executed notebook with one cell, which shows these outputs."""
    outputs = [new_output("display_data", data=one) for one in data]
    cell = new_code_cell("show()", outputs=outputs, metadata={"tags": list(tags)})
    made = new_notebook(cells=[cell])
    if widgets is not None:
        made.metadata["widgets"] = {
            "application/vnd.jupyter.widget-state+json": {"state": widgets, "version_major": 2}
        }
    return made


def outcome(
    out,
    chapter="32_feature_space_hijacking",
    copy=None,
    *,
    ran=True,
    file=None,
    parameters=None,
    **result,
):
    """What came of a job, with its log and its copy in the folder.

    Args:
        out: The folder of the batch.
        chapter: The notebook's name.
        copy: The notebook that it leaves behind; None: an empty one.
        ran: Whether it ran.
        file: The name of the copy without its ending, where the parameters are none for a file.
        parameters: Those of the job.
        result: Fields of its result that are not the usual ones.
    """
    parameters = {"profile": "tiny", "seed": 0} if parameters is None else parameters
    source = out / "source" / f"{chapter}.ipynb"
    job = Job(source, parameters, out)
    job = Job(source, parameters, out / "notebooks" / job.chapter / f"{file or job.values}.ipynb")
    if not ran:
        return Outcome(job, None)
    job.out.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text("started\n", encoding="utf-8")
    usual = {"seconds": 12.5, "cached": False, "verdict": "It holds.", "cpu_seconds": 11.25}
    usual |= {"memory": 512_300_000}
    if result.get("error"):
        usual["verdict"] = ""
    made = Outcome(job, Result(job.chapter, **usual | result))
    nbformat.write(copy or notebook(), job.out if made.status == "done" else job.failed)
    return made


def seeds(out, number, **given):
    """The parameters of a run at a seed, as keyword arguments of `outcome`."""
    return [
        outcome(out, parameters={"profile": "tiny", "seed": seed}, **given)
        for seed in range(number)
    ]
