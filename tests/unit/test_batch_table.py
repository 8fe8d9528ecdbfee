"""The table of a batch, read back."""

import csv
import json
import math

import pytest
from synthetic_batch import compare, outcome

from splitlab.course.batch import table

ODD = 'a&b "c" <i>é</i> #1? 50%'


def rows_of(out, outcomes):
    path = table.write(out, outcomes)
    assert path == out / "jobs.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_a_row_for_each_job(tmp_path):
    comparison = compare(0.98, figure=ODD)
    made = [
        outcome(tmp_path, figures=(comparison,), parameters={"profile": "tiny", "seed": 3}),
        outcome(tmp_path, "10_start_here", error=f'{ODD}, "so",\nit failed', cpu_seconds=None),
        outcome(tmp_path, "22_unsplit", ran=False, parameters={"profile": "gpu", "steps": 60}),
    ]
    done, failed, left = rows_of(tmp_path, made)
    assert list(done) == [
        *("job", "notebook", "profile", "seed", "steps", "status", "verdict", "seconds"),
        *("cpu_seconds", "memory_mb", "error", "figures", "copy"),
    ]
    figures = json.loads(done.pop("figures"))
    assert [type(comparison)(**one) for one in figures] == [comparison]
    assert done == {
        "job": "32_feature_space_hijacking, tiny, seed 3",
        "notebook": "32_feature_space_hijacking",
        "profile": "tiny",
        "seed": "3",
        "steps": "",
        "status": "done",
        "verdict": "It holds.",
        "seconds": "12.5",
        "cpu_seconds": "11.25",
        "memory_mb": "512.3",
        "error": "",
        "copy": "notebooks/32_feature_space_hijacking/tiny, seed 3.ipynb",
    }
    assert failed["status"] == "failed" and failed["cpu_seconds"] == ""
    assert failed["error"] == f'{ODD}, "so",\nit failed'
    assert (tmp_path / failed["copy"]).is_file() and failed["copy"].endswith(".failed.ipynb")
    assert {name for name, value in left.items() if value} == {
        *("job", "notebook", "profile", "steps", "status"),
    }
    assert left["status"] == "not run"


def test_a_number_that_json_lacks_comes_back_by_float():
    (one,) = json.loads(table.figures_of([compare(math.inf, math.nan)]), parse_constant=pytest.fail)
    assert float(one["value"]) == math.inf and math.isnan(float(one["bar"]))


def test_a_parameter_named_like_a_column_gets_another_column(tmp_path):
    (row,) = rows_of(tmp_path, [outcome(tmp_path, parameters={"seconds": 5, "error": "a"})])
    assert (row["parameter seconds"], row["seconds"]) == ("5", "12.5")
    assert (row["parameter error"], row["error"]) == ("a", "")
