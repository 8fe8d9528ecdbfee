"""How the open exercise of chapter 13 is scored."""

from importlib import import_module

import pytest

from splitlab.course.checks import CheckFailed
from splitlab.course.checks import honest_metrics as check
from splitlab.course.disguises import DISGUISES

scoring = import_module("splitlab.course.checks.honest_metrics.figure")  # not the check it holds
NAMES = [*DISGUISES, *scoring.FLOORS, scoring.ITSELF, scoring.ANOTHERS, *scoring.SHARES]


def values(**changed):
    """A figure's values: 0.9 in disguise, 0.2 on the floors, rising in equal steps."""
    usual = dict.fromkeys(DISGUISES, 0.9) | dict.fromkeys(scoring.FLOORS, 0.2)
    usual |= {scoring.ITSELF: 1.0, scoring.ANOTHERS: 0.0}
    usual |= {name: 0.2 + 0.8 * share for name, share in scoring.SHARES.items()}
    return usual | {name.replace("_", " "): value for name, value in changed.items()}


def pictures(name):
    (case,) = [case for case in scoring._cases(21) if case.name == name]
    return case.pictures, case.private


def away(a, b):
    """Root of the mean squared error of each image, (N,)."""
    return (a - b).square().flatten(1).mean(1).sqrt()


def test_every_kind_of_pictures_is_asked_about_on_every_split():
    for seed in scoring.SEEDS:
        assert [case.name for case in scoring._cases(seed)] == NAMES
        for case in scoring._cases(seed):
            assert case.pictures.shape == case.private.shape == (scoring.IMAGES, 1, 16, 16)
            assert case.pictures.abs().max() <= 1
    assert scoring.SEEDS[0] not in (0, scoring.SEEDS[1]), "0 is the notebook's seed"


def test_the_noise_is_faint_and_on_every_picture():
    shown, private = pictures(scoring.ITSELF)
    assert 0.01 < away(shown, private).min() <= away(shown, private).max() < 0.06
    mean, _ = pictures("mean public")
    assert len(mean.unique(dim=0)) == len(mean), "no picture is told by being one of many"


def test_images_are_moved_by_a_pixel_to_all_four_sides():
    shown, private = pictures("moved by a pixel")
    back = {0: (0, -1), 1: (-1, 0), 2: (0, 1), 3: (1, 0)}  # the way of images 0, 1, 2, 3
    for number, side in back.items():
        inner = (slice(None), slice(None), slice(2, 14), slice(2, 14))
        own = shown[number::4].roll(side, (2, 3))[inner]
        assert away(own, private[number::4][inner]).max() < 0.06
        assert away(shown[number::4], private[number::4]).min() > 0.1


def test_another_s_image_is_a_private_one_of_another_row():
    shown, private = pictures(scoring.ANOTHERS)
    assert away(shown, private.roll(1, 0)).max() < 0.06
    assert away(shown, private).min() > 0.1


@pytest.mark.parametrize(("name", "share"), scoring.SHARES.items())
def test_a_share_of_the_pictures_is_put_right_and_the_rest_is_retrieved(name, share):
    shown, private = pictures(name)
    right = away(shown, private) < 0.06
    assert right.double().mean() == share
    assert away(shown[~right], pictures("nearest public")[0][~right]).max() < 0.12


def test_the_score_is_the_worst_disguise_minus_the_best_floor():
    assert scoring._points(values()) == pytest.approx(0.7)
    assert scoring._points(values(inverted=0.3)) == pytest.approx(0.1)
    assert scoring._points(values(class_mean=0.6)) == pytest.approx(0.3)
    assert scoring._points(values(half=0.0) | {scoring.ANOTHERS: 1.0}) == pytest.approx(0.7)


def test_the_rules_let_a_share_pass():
    scoring._check_rules(values())
    squared = {name: share**2 for name, share in scoring.SHARES.items()}
    scoring._check_rules(values(nearest_public=0.0) | squared)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (dict.fromkeys(values(), 0.4), "is 0.40 whatever the pictures show"),
        ({scoring.ITSELF: 0.2}, "0.20 for the private images themselves and 0.20 for"),
        ({scoring.ANOTHERS: 0.61}, "is 0.61 where each picture shows another's image"),
        ({"half": 0.41}, "it is 0.20, 0.40, 0.41, 0.80, 1.00; let every picture count"),
        ({"three quarters": 0.99}, "the figure is no share"),
        ({"a quarter": 0.21}, "the figure is no share"),
    ],
)
def test_the_rules_refuse(changed, sentence):
    with pytest.raises(CheckFailed, match=sentence):
        scoring._check_rules(values() | changed)


def test_the_table_shows_the_answer_beside_simple_ones():
    score = check.figure(scoring._reference).score
    names = [row[0] for row in score.table.rows]
    assert names == [*scoring.BESIDE, "yours"]
    assert score.table.head == ["figure", *DISGUISES, *scoring.FLOORS, "score"]
    assert score.table.strong == len(names) - 1
    yours, reference = score.table.rows[-1], score.table.rows[-2]
    assert yours[1:] == reference[1:], "the same way, the same figures"
    assert yours[-1] == score.value
    for row in score.table.rows:
        assert row[-1] == min(row[1:5]) - max(row[5:8])
        assert all(0 <= value <= 1 for value in row[1:-1])


def test_the_reference_sees_through_every_disguise_and_the_simple_figures_do_not():
    reference = scoring._beside("reference solution")
    assert min(reference[name] for name in DISGUISES) > 0.95
    for name in scoring.BESIDE:
        if name != "reference solution":
            others = scoring._beside(name)
            assert scoring._points(others) < 0 < scoring._points(reference)


def test_a_figure_is_asked_the_same_again():
    asked = []

    def figure(shown, private):
        asked.append(float(shown.double().sum()))
        return scoring._reference(shown, private)

    scoring._values(figure)
    kinds = len(NAMES)
    assert len(asked) == 3 * kinds
    assert len(set(asked)) == 2 * kinds
    in_order = [float(case.pictures.double().sum()) for case in scoring._cases(21)]
    assert asked[:kinds] != in_order, "the calls come in no order"
