"""The grid of a batch: which jobs it makes, and what is refused before anything runs."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from splitlab.course import book
from splitlab.course.batch import grid
from splitlab.course.notebook_files import ChapterError

ROOT = Path(__file__).parents[2]
OWN = 'profile = "tiny"\nseed = 0\ndevice = "cpu"\nsteps = 60\nrate = 0.5\nname = "a"\nfast = True'


def write(path, parameters=OWN):
    path.parent.mkdir(parents=True, exist_ok=True)
    cell = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), path)
    return path


@pytest.fixture
def notebook(tmp_path):
    return write(tmp_path / "one.ipynb")


@pytest.fixture
def jobs(notebook, tmp_path):
    """Make the jobs of one notebook."""

    def make(path=notebook, **options):
        options = {"profile": None, "seed": None, "device": "cpu"} | options
        return grid.grid([path], tmp_path / "out", **options)

    return make


# Notebooks


def test_book_and_solutions_are_what_the_book_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # from wherever it is started
    assert grid.notebooks(["book", "solutions"]) == [
        *book.chapters(ROOT / "book"),
        *sorted((ROOT / "solutions").glob("*.ipynb")),
    ]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("32", "book/32_feature_space_hijacking.ipynb"),
        ("32_feature_space_hijacking", "book/32_feature_space_hijacking.ipynb"),
        ("32_feature_space_hijacking.ipynb", "book/32_feature_space_hijacking.ipynb"),
        ("solutions/32", "solutions/32_feature_space_hijacking.ipynb"),
        (str(ROOT / "exercises" / "11_split_learning_from_scratch.ipynb"), None),
    ],
)
def test_a_notebook_has_several_names(name, path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert grid.notebooks([name, name]) == [ROOT / path if path else Path(name)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("99", "there is no notebook 99: name a file, a folder or a chapter, such as 32"),
        ("32_feature_space_hijack.ipynb", "did you mean 32_feature_space_hijacking?"),
        ("3", "there is no notebook 3"),
        ("solutions/10", "there is no notebook solutions/10"),
        ("text.md", "text.md is no notebook: name a file that ends in .ipynb"),
        ("empty", "there are no notebooks in .*empty: name a folder that holds some"),
    ],
)
def test_what_is_no_notebook_is_refused(name, says, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.md").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=says):
        grid.notebooks([name])


def test_two_notebooks_of_one_name_would_share_a_folder(tmp_path):
    paths = [write(tmp_path / folder / "one.ipynb") for folder in "ab"]
    with pytest.raises(ValueError, match=r"have one name.*with an --out for each"):
        grid.notebooks(map(str, paths))


# Seeds and profiles


@pytest.mark.parametrize(
    ("text", "found"),
    [("3", [3]), ("0-3", [0, 1, 2, 3]), ("2, 0,10-11,2", [2, 0, 10, 11]), ("7-7", [7])],
)
def test_seeds(text, found):
    assert grid.seeds(text) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--seeds names no seed"),
        (",", "--seeds names no seed"),
        ("5-3", "5-3 holds no seed; write 3-5"),
        ("-1", "'-1' is no seed"),
        ("1.5", "'1.5' is no seed"),
        ("0..9", "write 3, 0-9 or 0,2,10-12"),
        ("4294967296", "choose seeds from 0 to 4294967295"),
        ("0-4294967295", "more than 100,000 seeds"),
        ("0-99999999999", "is no seed"),
    ],
)
def test_wrong_seeds_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        grid.seeds(text)


def test_profiles():
    assert grid.profiles("gpu, tiny,gpu") == ["gpu", "tiny"]
    with pytest.raises(ValueError, match="no profile 'big': choose from tiny, gpu, paper"):
        grid.profiles("tiny,big")
    with pytest.raises(ValueError, match="names no profile"):
        grid.profiles(",")


# --set


def test_each_value_has_the_type_that_the_notebook_has_there(jobs):
    made = jobs(sets=["steps=30,90", "rate=1,.25", "name=b,1,'x, y'", "fast=true,False"])
    assert len(made) == 2 * 2 * 3 * 2
    values = {name: {job.parameters[name] for job in made} for name in ("steps", "name", "fast")}
    assert values == {"steps": {30, 90}, "name": {"b", "1", "x, y"}, "fast": {True, False}}
    rates = [job.parameters["rate"] for job in made]
    assert set(rates) == {1.0, 0.25}
    assert all(type(rate) is float for rate in rates)


def test_a_list_is_one_value(jobs, tmp_path):
    path = write(tmp_path / "two.ipynb", "widths = [8, 16]\nkind = None")
    made = jobs(path, sets=["widths=[1, 2],[3]", "kind=a,3"])
    assert [job.parameters for job in made] == [
        {"widths": widths, "kind": kind} for widths in ([1, 2], [3]) for kind in ("a", 3)
    ]
    assert len({job.out for job in made}) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("steps", "write a parameter and its values, such as steps=60,90"),
        ("=3", "write a parameter and its values"),
        ("steps=", "steps has no values"),
        ("steps=,", "steps has no values"),
        ("steps=many", "in one steps is 60; write a whole number"),
        ("steps=1.5", "in one steps is 60; write a whole number"),
        ("steps=True", "in one steps is 60; write a whole number"),
        ("rate=fast", "in one rate is 0.5; write a number"),
        ("fast=1", "in one fast is True; write True or False"),
        ("seed=3", "seed has an option of its own, --seeds"),
        ("profile=gpu", "profile has an option of its own, --profile"),
        ("device=cuda", "device has an option of its own, --device"),
    ],
)
def test_wrong_values_are_refused(jobs, text, says):
    with pytest.raises(ValueError, match=says):
        jobs(sets=[text])


def test_a_parameter_that_a_notebook_does_not_have_is_refused(jobs, tmp_path):
    with pytest.raises(ChapterError, match="one has no parameter 'stpes'; it has profile, seed"):
        jobs(sets=["stpes=3"])
    with pytest.raises(ValueError, match="steps is set twice"):
        jobs(sets=["steps=3", "steps=4"])
    bare = write(tmp_path / "bare.ipynb", "steps = 3")
    assert [job.parameters for job in jobs(bare)] == [{}]
    with pytest.raises(ChapterError, match="bare has no parameter 'seed'"):
        jobs(bare, seed="0-2")


def test_a_grid_has_a_largest_size(jobs):
    with pytest.raises(ValueError, match="those are 1,000,000 jobs"):
        jobs(seed="0-99999", profile="tiny,gpu", sets=["steps=1,2,3,4,5"])


# Jobs


def test_a_grid_is_every_combination_and_each_job_has_a_file_of_its_own(jobs, tmp_path):
    made = jobs(profile="tiny,paper", seed="0-2")
    assert [(job.parameters["profile"], job.parameters["seed"]) for job in made] == [
        (profile, seed) for profile in ("tiny", "paper") for seed in range(3)
    ]
    assert made[4].name == "one, paper, seed 1"
    assert made[4].out == tmp_path / "out" / "notebooks" / "one" / "paper, seed 1.ipynb"
    assert made[4].log.name == "paper, seed 1.log"
    assert made[4].failed.name == "paper, seed 1.failed.ipynb"


@pytest.mark.parametrize("value", ["a/../b", "a" * 300, "ä\\:*?<>|", "..", "a.b"])
def test_no_value_leaves_its_folder(jobs, tmp_path, value):
    made = jobs(sets=[f"name={value},c"])
    assert made[0].parameters["name"] == value
    for job in made:
        assert job.out.parent == tmp_path / "out" / "notebooks" / "one"
        assert len(job.failed.name.encode()) < 200
        assert not set(job.out.name) & set('/\\:*?<>|"')
        assert len({job.out, job.log, job.failed}) == 3
    assert made[0].out != made[1].out


def test_values_that_differ_late_have_files_of_their_own(jobs):
    made = jobs(sets=[f"name={'a' * 300},{'a' * 299}b"])
    assert made[0].out != made[1].out


def test_the_device_is_the_one_of_the_machine_that_runs_it(jobs):
    assert [job.parameters["device"] for job in jobs(device="auto")] == ["cpu"]
    with pytest.raises(ValueError, match=r"no such device|no usable GPU"):
        jobs(device="cuda:99")
    (elsewhere,) = jobs(device="cuda", elsewhere=True)
    assert elsewhere.parameters["device"] == "cuda"
