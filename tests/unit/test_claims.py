"""Claims: read strictly, judged by their rule alone, and written into the chapters by a program."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import splitlab as sl
from splitlab.course import claims, claims_command, cli, record_files, records
from splitlab.course.experiments import Experiment, Hijack

SAME = {
    "chapter": 11,
    "statement": "Split training is\n  whole training.",
    "records": {"vanilla": "split_tiny/vanilla"},
    "metric": {"difference": "vanilla.difference", "steps": "vanilla.steps"},
    "rule": "difference <= 1e-6",
    "seeds": [100, 101, 102, 103, 104],
}
READ = {
    "chapter": 32,
    "statement": "A hijack matches.",
    "records": {"hijack": "digits_tiny/fast"},
    "metric": {"matched": "hijack.rows.attack.matched"},
    "rule": "matched >= 0.95",
    "seeds": [100, 101, 102, 103, 104, 105],
}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of two chapters with records and two claims, and no other place to look for them."""
    folder = tmp_path / "book"
    folder.mkdir()
    shutil.copytree(records.RUNS, runs(folder))
    (folder / "_toc.yml").write_text("root: book/intro\n")
    for stem in ("11_split_learning", "32_hijack"):
        add_page(folder, stem)
    monkeypatch.setattr(records, "RUNS", runs(folder))
    for module in (claims, claims_command):
        monkeypatch.setattr(module, "BOOK", folder)
    state(folder)
    return folder


def runs(book):
    return book.parent / "runs"


def add_page(book, stem):
    chapter = stem.split("_")[0]
    cells = [
        new_code_cell("pass", id=f"{chapter}-00"),
        new_markdown_cell(f"# {stem}\n\n**You will** see.", id=f"{chapter}-01"),
        new_code_cell("seed = 0", id=f"{chapter}-02"),
    ]
    nbformat.write(new_notebook(cells=cells), book / f"{stem}.ipynb")


def state(book, same=None, read=None, **others):
    """Write the claims, with changes; None as a value takes a field out."""
    content = {"split-is-whole": SAME | (same or {}), "hijack-reads": READ | (read or {}), **others}
    for fields in content.values():
        for name in [name for name, value in fields.items() if value is None]:
            del fields[name]
    (runs(book) / claims.FILE).write_text(yaml.safe_dump(content, sort_keys=False))


def doctor(book, table, key, where, value):
    """Change one figure of one recorded row."""
    path = runs(book) / f"{table}.json"
    rows = records.rows_of(path)
    *parents, last = where.split(".")
    place = rows[key]
    for name in parents:
        place = place[name]
    place[last] = value
    rows[key]["hash"] = records.row_hash(rows[key])
    record_files.write_table(path, "", rows)


def by_name():
    return {claim.name: claim for claim in claims.load()}


def shell(capsys, *arguments):
    status = cli.main(["claims", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def refused(capsys, *arguments):
    """Return the one sentence with which a command is refused."""
    status, out, err = shell(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("splitlab: ")
    assert len(err.strip().splitlines()) == 1
    return err


def test_claims_are_read_in_the_order_of_their_chapters(book):
    same, read = claims.load()
    assert (same.name, same.chapter, same.seeds) == (
        "split-is-whole",
        "11",
        (100, 101, 102, 103, 104),
    )
    assert same.statement == "Split training is whole training."
    assert same.records == {"vanilla": ("split_tiny", "vanilla")}
    assert read.chapter == "32"
    assert read.experiments(7) == {"hijack": Hijack("digits_tiny", "fast", 7, 300)}


BROKEN = {
    "unknown field": ({"metrics": {}}, "split-is-whole: there is no field 'metrics'"),
    "no rule": ({"rule": None}, "the field 'rule' is missing"),
    "no such chapter": ({"chapter": 13}, "split-is-whole: there is no chapter 13 in"),
    "no such companion": ({"chapter": "32b"}, "split-is-whole: there is no chapter 32b in"),
    "chapter by title": ({"chapter": "11_split"}, "chapter must be what the page's name begins"),
    "chapter without its nought": ({"chapter": "1b"}, "such as 32 or 34b, not '1b'"),
    "chapter beyond 99": ({"chapter": 100}, "such as 32 or 34b, not 100"),
    "chapter as a truth": ({"chapter": True}, "such as 32 or 34b, not True"),
    "empty statement": ({"statement": " "}, "statement must be text"),
    "no seeds": ({"seeds": []}, "seeds must be a list of whole numbers"),
    "seeds as text": ({"seeds": "100-104"}, "seeds must be a list of whole numbers"),
    "a seed twice": ({"seeds": [100, 100]}, "seeds names a seed twice"),
    "unrecorded seed": (
        {"seeds": [100, 101, 102, 103, 104, 999]},
        "split_tiny/vanilla is not recorded at seed 999: make it with `python benchmarks/",
    ),
    "left out seed": ({"seeds": [100, 101, 102, 103]}, "it is recorded at seed 104 too"),
    "unknown run": (
        {"records": {"vanilla": "split_tiny/vanila"}},
        "no experiment makes split_tiny/vanila: choose from split_tiny/vanilla",
    ),
    "unknown table": ({"records": {"vanilla": "split/vanilla"}}, "choose from blurs_tiny; "),
    "records as a list": ({"records": ["split_tiny"]}, "records must map names to text"),
    "short name": ({"records": {"a b": "split_tiny/vanilla"}}, "records must map names (letters"),
    "metric of another record": (
        {"metric": {"difference": "whole.difference"}},
        "the metric difference is whole.difference, which does not begin with one of its records",
    ),
    "misspelt metric": (
        {"metric": {"difference": "vanilla.diffrence"}},
        "the metric difference is vanilla.diffrence, and there is no 'diffrence' in vanilla, which "
        "has run, seed,",
    ),
    "metric beyond a figure": (
        {"metric": {"difference": "vanilla.difference.max"}},
        "there is no 'max' in vanilla.difference, which ends there",
    ),
    "metric that is text": ({"metric": {"difference": "vanilla.run"}}, "which is not a number"),
    "rule with an unknown name": (
        {"rule": "diff <= 1e-6"},
        "names 'diff', which is not one of its figures: difference, steps",
    ),
    "rule without a comparison": ({"rule": "difference"}, "is not a comparison of figures"),
    "half a rule": ({"rule": "difference <="}, "is not an expression"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_claim_is_refused_in_one_sentence(book, capsys, case):
    changes, sentence = BROKEN[case]
    state(book, same=changes)
    assert sentence in refused(capsys)
    assert sentence in refused(capsys, "--check")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no claims"),
        ("- a\n- b\n", "holds no claims"),
        ("a: {b: [\n", "is not YAML that can be read"),
        ("a claim: {}\n", "a claim's name is made of lowercase letters"),
        ("a: text\n", "it must have the fields chapter, statement"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(book, capsys, text, sentence):
    (runs(book) / claims.FILE).write_text(text)
    assert sentence in refused(capsys)


def test_without_the_file_one_sentence_says_so(book, capsys):
    (runs(book) / claims.FILE).unlink()
    assert "claims.yml: reinstall splitlab, or name the file" in refused(capsys)


def test_a_missing_table_is_said_with_the_claim(book, capsys):
    (runs(book) / "split_tiny.json").unlink()
    assert "split-is-whole: there is no recorded run 'split_tiny' in" in refused(capsys)


@pytest.mark.parametrize(
    ("module", "arguments", "package"),
    [("yaml", [], "pip install pyyaml"), ("nbformat", ["--check"], "pip install 'splitlab[book]'")],
)
def test_a_missing_package_is_named(book, capsys, monkeypatch, module, arguments, package):
    monkeypatch.setitem(sys.modules, module, None)
    assert package in refused(capsys, *arguments)


def test_the_module_is_light_to_import():
    heavy = ["nbformat", "papermill", "nbclient", "yaml", "matplotlib", "ipywidgets", "sklearn"]
    code = (
        "import sys; import splitlab.course.claims, splitlab.course.cli; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_an_installed_package_has_claims_without_chapters(book, capsys):
    for path in [book / "_toc.yml", *book.glob("*.ipynb")]:
        path.unlink()
    assert shell(capsys)[0] == 0
    assert "there are no chapters in" in refused(capsys, "--badges")


def test_two_claims_of_one_name_are_refused(book, capsys):
    path = runs(book) / claims.FILE
    path.write_text(2 * path.read_text(encoding="utf-8"), encoding="utf-8")
    assert "has two claims called 'split-is-whole'" in refused(capsys)


def test_a_claim_holds_where_its_rule_is_true_at_every_seed(book):
    standing = claims.recorded(by_name()["hijack-reads"])
    assert standing.holds
    assert standing.badge == "holds 6/6 seeds"
    rows = {row["seed"]: row for row in sl.experiments.recorded("digits_tiny").of("fast")}
    expected = {seed: {"matched": row["rows"]["attack"]["matched"]} for seed, row in rows.items()}
    assert standing.figures == expected


def test_one_doctored_record_is_one_failing_seed(book, capsys):
    doctor(book, "digits_tiny", "fast/103", "rows.attack.matched", 0.94)
    standing = claims.recorded(by_name()["hijack-reads"])
    assert not standing.holds
    assert standing.badge == "fails at 1 of 6 seeds: 103"
    status, out, _ = shell(capsys)
    assert status == 1
    assert "32  hijack-reads: fails at 1 of 6 recorded seeds: 103" in out
    assert "11  split-is-whole: holds 5/5 recorded seeds" in out
    assert "6 of 6" not in out


def test_a_verdict_asserts_all_claims_of_its_chapter(book):
    claims.verify(11)
    claims.verify("32")
    with pytest.raises(claims.ClaimError, match="chapter 99 has no claims: choose one of 11, 32"):
        claims.verify(99)
    doctor(book, "digits_tiny", "fast/103", "rows.attack.matched", 0.94)
    with pytest.raises(AssertionError, match="hijack-reads fails at 1 of 6 seeds: 103: matched >="):
        claims.verify(32)
    claims.verify(11)


def test_a_doctored_rule_fails(book, capsys):
    state(book, same={"rule": "difference < 0"})
    assert claims.recorded(by_name()["split-is-whole"]).badge.startswith("fails at 5 of 5 seeds")
    assert shell(capsys)[0] == 1


def test_figures_of_one_seed_are_compared_with_each_other(book):
    paired = {
        "records": {"hijack": "digits_tiny/fast", "other": "digits_tiny/paper"},
        "metric": {"seed": "hijack.seed", "other_seed": "other.seed"},
        "rule": "seed == other_seed",
    }
    state(book, read=paired)
    assert claims.recorded(by_name()["hijack-reads"]).badge == "holds 6/6 seeds"


STALE = {
    "numerics": lambda book: doctor(book, "digits_tiny", "no hijack/101", "numerics", 0),
    "config": lambda book: doctor(book, "digits_tiny", "fast/100", "config.cut", 3),
    "historical": lambda book: doctor(book, "digits_tiny", "fast/100", "historical", "was slow"),
}


@pytest.mark.parametrize("case", STALE)
def test_stale_records_never_make_a_badge_that_says_holds(book, capsys, case):
    shell(capsys, "--badges")
    STALE[case](book)
    standing = claims.recorded(by_name()["hijack-reads"])
    assert not standing.holds
    assert "holds" not in standing.badge
    assert standing.problem
    status, out, _ = shell(capsys)
    assert status == 1
    assert f"hijack-reads: {standing.problem}" in out
    assert shell(capsys, "--check")[0] == 1
    shell(capsys, "--badges")
    cell = claim_cell(book / "32_hijack.ipynb")
    assert "holds" not in cell.source
    assert standing.badge in cell.source


def test_the_list_says_what_n_of_n_means(book, capsys):
    status, out, err = shell(capsys)
    assert (status, err) == (0, "")
    assert "rule: difference <= 1e-6" in out
    assert "holds at 6 of 6 seeds fails in at most 39% of random splits" in out
    assert "holds at 5 of 5 seeds fails in at most 45% of random splits" in out


@pytest.fixture
def ran(monkeypatch):
    """The experiments that ran; their rows are made up: matched is 0.99, and 0.5 at seed 101."""
    names = []

    def row(self, *arguments, **keywords):
        names.append(self.name)
        low = self.seed == 101
        figures = {
            "difference": 0.0,
            "steps": 400,
            "rows": {"attack": {"matched": 0.5 if low else 0.99}},
        }
        return {"run": self.run, "seed": self.seed, **figures}

    monkeypatch.setattr(Experiment, "row", row)
    return names


def test_a_claim_is_rerun_at_a_seed_that_is_not_recorded(book, capsys, ran):
    status, out, _ = shell(capsys, "hijack-reads", "--seed", "0")
    assert (status, ran) == (0, ["digits_tiny: fast/0"])
    assert "A hijack matches." in out
    assert ["matched", "0.99", "-"] in [line.split() for line in out.splitlines()]
    assert out.endswith("holds: matched >= 0.95\n")


def test_a_claim_is_rerun_beside_its_record(book, capsys, ran):
    doctor(book, "digits_tiny", "fast/101", "rows.attack.matched", 0.987)
    status, out, _ = shell(capsys, "hijack-reads", "--seed", "101")
    assert status == 1
    assert ["matched", "0.5", "0.987"] in [line.split() for line in out.splitlines()]
    assert out.endswith("does not hold: matched >= 0.95\n")
    assert shell(capsys, "hijack-reads")[0] == 0
    assert ran == ["digits_tiny: fast/101", "digits_tiny: fast/100"]


def test_an_experiment_that_two_claims_need_runs_once(book, capsys, ran):
    state(book, again=READ | {"rule": "matched > 0.4"})
    status, out, _ = shell(capsys, "--rerun")
    assert sorted(ran) == sorted(
        [f"split_tiny: vanilla/{seed}" for seed in SAME["seeds"]]
        + [f"digits_tiny: fast/{seed}" for seed in READ["seeds"]]
    )
    assert status == 1
    assert "hijack-reads fails at seed 101: matched 0.5; the rule is matched >= 0.95" in out
    rows = [line.split("  ") for line in out.splitlines()]
    assert ["again", "holds 6/6 seeds", "matched", "0.5", "0.99"] in [
        [cell.strip() for cell in row if cell.strip()] for row in rows
    ]


def test_one_claim_is_rerun_over_its_seeds(book, capsys, ran):
    status, out, _ = shell(capsys, "split-is-whole", "--rerun")
    assert (status, len(ran)) == (0, 5)
    assert "holds 5/5 seeds" in out
    assert "5 of 5: at 95% confidence" in out


def test_a_rerun_measures_and_does_not_read_the_record(book, capsys):
    """Live, in two processes: where the records are doctored, only they fail."""
    path = runs(book) / "split_tiny.json"
    content = json.loads(path.read_text())
    content["rows"] = {key: row for key, row in content["rows"].items() if row["seed"] < 102}
    path.write_text(json.dumps(content))
    doctor(book, "split_tiny", "vanilla/100", "difference", 1.0)
    state(book, same={"seeds": [100, 101]})
    assert shell(capsys)[0] == 1
    status, out, err = shell(capsys, "split-is-whole", "--rerun", "--jobs", "2")
    assert status == 0
    assert "holds 2/2 seeds" in out
    assert err == ""  # no progress bar where nobody looks


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["moon"], "no claim is called 'moon': `splitlab claims` lists them all"),
        (["--seed", "7"], "--seed goes with the name of a claim"),
        (["hijack-reads", "--rerun", "--seed", "7"], "--seed goes with the name of a claim"),
        (["--rerun", "--jobs", "0"], "--jobs is 0"),
        (["hijack-reads", "--check"], "leave out the name"),
    ],
)
def test_wrong_requests_get_one_sentence(book, capsys, arguments, sentence):
    assert sentence in refused(capsys, *arguments)


# --- the claim cells ---


def claim_cell(path):
    (cell,) = [c for c in nbformat.read(path, 4).cells if "claim" in c.metadata.get("tags", [])]
    return cell


def test_a_claim_cell_is_written_after_the_title_and_once(book, capsys):
    path = book / "11_split_learning.ipynb"
    status, out, _ = shell(capsys, "--check")
    assert status == 1
    assert out.startswith("11_split_learning: its claim cell is not what claims.yml")
    assert "32_hijack: its claim cell" in out

    status, out, _ = shell(capsys, "--badges")
    assert (status, out) == (
        0,
        "wrote the claim cell of 11_split_learning\nwrote the claim cell of 32_hijack\n",
    )
    cells = nbformat.read(path, 4).cells
    assert [cell.id for cell in cells] == ["11-00", "11-01", "11-claim", "11-aims", "11-02"]
    assert cells[1].source == "# 11_split_learning"
    assert cells[2].source == (
        ":::{admonition} The claim\n:class: tip\nSplit training is whole training.\n\n"
        "**holds 5/5 seeds**; rerun it with `splitlab claims split-is-whole`\n:::"
    )
    assert cells[3].source == "**You will** see."

    before = path.read_bytes()
    assert shell(capsys, "--badges") == (0, "", "")
    assert shell(capsys, "--check") == (0, "", "")
    assert path.read_bytes() == before


def test_a_chapter_with_two_claims_lists_them(book, capsys):
    state(book, same={"chapter": 32})
    shell(capsys, "--badges")
    source = claim_cell(book / "32_hijack.ipynb").source
    assert source.splitlines()[2] == "- Split training is whole training."
    assert (
        "\n\n  **holds 5/5 seeds**; rerun it with `splitlab claims split-is-whole`\n\n- A" in source
    )
    assert "  **holds 6/6 seeds**; rerun it with `splitlab claims hijack-reads`\n:::" in source


def test_a_companion_page_carries_claims_of_its_own(book, capsys):
    """Chapter 11 and its companion 11b: each gets its own claim cell, and they are listed so."""
    add_page(book, "11b_protocols")
    (book / "notes_for_11.ipynb").write_text("this is no page of the book")
    state(book, **{"protocols-agree": SAME | {"chapter": "11b", "statement": "So do others."}})
    assert [claim.chapter for claim in claims.load()] == ["11", "11b", "32"]
    status, out, _ = shell(capsys)
    assert status == 0
    heads = [line.split(":")[0] for line in out.splitlines() if line[:2].isdigit()]
    assert heads[:3] == ["11  split-is-whole", "11b protocols-agree", "32  hijack-reads"]
    shell(capsys, "--badges")
    assert "So do others." in claim_cell(book / "11b_protocols.ipynb").source
    assert "So do others." not in claim_cell(book / "11_split_learning.ipynb").source
    ids = [cell.id for cell in nbformat.read(book / "11b_protocols.ipynb", 4).cells]
    assert ids == ["11b-00", "11b-01", "11b-claim", "11b-aims", "11b-02"]
    assert shell(capsys, "--check") == (0, "", "")


@pytest.mark.parametrize(
    ("written", "read"), [("7", "07"), ("07", "07"), ("08", "08"), ("10", "10"), ("34b", "34b")]
)
def test_a_chapter_may_be_written_as_its_page_is_called(book, written, read):
    """YAML reads 07 as a number, and 08 as text."""
    add_page(book, f"{read}_later")
    text = (runs(book) / claims.FILE).read_text()
    (runs(book) / claims.FILE).write_text(text.replace("chapter: 32", f"chapter: {written}"))
    assert by_name()["hijack-reads"].chapter == read


def test_two_notebooks_of_one_chapter_are_refused(book, capsys):
    add_page(book, "32_again")
    sentence = "32_again.ipynb and 32_hijack.ipynb are both chapter 32: rename one, to 32b_"
    assert sentence in refused(capsys, "--check")


STALE_CELLS = {
    "another statement": lambda book: state(book, read={"statement": "It does."}),
    "another claim": lambda book: state(book, read={"chapter": 11}),
    "another record": lambda b: doctor(b, "digits_tiny", "fast/103", "rows.attack.matched", 0.5),
    "edited cell": lambda b: edit(b, lambda cells: cells[2].update(source="It holds 7/7 seeds.")),
    "no tag": lambda b: edit(b, lambda cells: cells[2].metadata.clear()),
    "no cell": lambda b: edit(b, lambda cells: cells.pop(2)),
    "two cells": lambda b: edit(b, lambda cells: cells.append(again(cells[2]))),
    "elsewhere": lambda b: edit(b, lambda cells: cells.append(cells.pop(2))),
}


def again(cell):
    return new_markdown_cell(cell.source, id="32-again", metadata=cell.metadata)


def edit(book, change):
    notebook = nbformat.read(book / "32_hijack.ipynb", 4)
    change(notebook.cells)
    nbformat.write(notebook, book / "32_hijack.ipynb")


@pytest.mark.parametrize("case", STALE_CELLS)
def test_a_stale_claim_cell_is_found_and_written_anew(book, capsys, case):
    shell(capsys, "--badges")
    fresh = (book / "32_hijack.ipynb").read_text()
    STALE_CELLS[case](book)
    status, out, _ = shell(capsys, "--check")
    assert status == 1
    assert "32_hijack: its claim cell is not what claims.yml and the records say" in out
    assert shell(capsys, "--badges")[0] == 0
    assert shell(capsys, "--check")[0] == 0
    if case in ("edited cell", "no tag", "no cell", "two cells", "elsewhere"):
        assert (book / "32_hijack.ipynb").read_text() == fresh


@pytest.mark.parametrize("fence", [":::", "::::", "```"])
def test_a_claim_typed_by_hand_gives_way(book, capsys, fence):
    typed = f"{fence}{{admonition}} The claim\n:class: tip\nIt is so.\n{fence}\n\n"
    edit(
        book, lambda cells: cells[1].update(source=f"# Title\n\n{typed}**You will** see.\n\nMore.")
    )
    assert shell(capsys, "--check")[0] == 1
    shell(capsys, "--badges")
    cells = nbformat.read(book / "32_hijack.ipynb", 4).cells
    assert [cell.source for cell in cells if cell.cell_type == "markdown"] == [
        "# Title",
        claim_cell(book / "32_hijack.ipynb").source,
        "**You will** see.\n\nMore.",
    ]
    assert "It is so" not in (book / "32_hijack.ipynb").read_text()


def test_text_added_under_the_title_gets_a_cell_of_its_own(book, capsys):
    shell(capsys, "--badges")
    edit(book, lambda cells: cells[1].update(source=cells[1].source + "\n\nMore."))
    shell(capsys, "--badges")
    cells = nbformat.read(book / "32_hijack.ipynb", 4).cells
    assert [cell.source for cell in cells[1:5:2]] == ["# 32_hijack", "More."]
    # As stored: nbformat mends a repeated id when it reads.
    ids = [cell["id"] for cell in json.loads((book / "32_hijack.ipynb").read_text())["cells"]]
    assert len(set(ids)) == len(ids)
    assert ids[4] == "32-aims"
    assert shell(capsys, "--check")[0] == 0


def test_other_admonitions_stay(book, capsys):
    predict = ":::{admonition} Predict\n:class: important\nWhat will it draw?\n:::"
    edit(book, lambda cells: cells.append(new_markdown_cell(predict, id="32-03")))
    shell(capsys, "--badges")
    assert nbformat.read(book / "32_hijack.ipynb", 4).cells[-1].source == predict


@pytest.mark.parametrize(
    "typed", ["The claim holds 6/6 seeds.", ":::{admonition} The claim\nIt is so.\n:::"]
)
def test_what_no_program_can_write_is_named(book, capsys, typed):
    """A badge in the text, and a claim that claims.yml does not have."""
    notebook = new_notebook(cells=[new_markdown_cell("# Later", id="33-01")])
    notebook.cells.append(new_markdown_cell(typed, id="33-02"))
    nbformat.write(notebook, book / "33_later.ipynb")
    for command in ("--badges", "--check"):
        status, out, _ = shell(capsys, command)
        assert status == 1
        assert "33_later: cell 33-02 contains a claim or a badge typed by hand" in out
    assert nbformat.read(book / "33_later.ipynb", 4).cells[1].source == typed


def test_a_chapter_that_lost_its_claims_loses_the_cell(book, capsys):
    shell(capsys, "--badges")
    state(book, read={"chapter": 11})
    shell(capsys, "--badges")
    assert "claim" not in [
        tag
        for cell in nbformat.read(book / "32_hijack.ipynb", 4).cells
        for tag in cell.metadata.get("tags", [])
    ]


def test_a_chapter_that_cannot_be_written_is_named(book, capsys):
    edit(book, lambda cells: cells.pop(1))
    assert "chapter 32 has no title to put its claims under" in refused(capsys, "--check")
    (book / "32_hijack.ipynb").write_text("{")
    assert "32_hijack.ipynb cannot be read as a notebook" in refused(capsys, "--check")
