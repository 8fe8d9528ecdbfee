"""The figures of leaked labels: by hand, and against scikit-learn."""

import itertools

import pytest
import torch
from sklearn.metrics import roc_auc_score

import splitlab as sl
from splitlab.attacks import LabelInference


@pytest.mark.parametrize("levels", [3, 10_000])
def test_leak_auc_is_scikit_learns(levels):
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (300,), generator=generator).float()
    labels = (torch.rand(300, generator=generator) < 0.2).long()
    expected = roc_auc_score(labels.numpy(), scores.numpy())
    assert sl.leak_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_leak_auc_by_hand():
    labels = torch.tensor([0, 0, 1])
    for scores, auc in (([1, 2, 3], 1.0), ([1, 3, 2], 0.5), ([2, 3, 1], 0.0), ([1, 2, 2], 0.75)):
        assert sl.leak_auc(torch.tensor(scores).float(), labels) == auc
    assert sl.leak_auc(torch.zeros(3), labels) == 0.5
    # The smallest differences count: no rounding to float32, nor to the largest score.
    assert sl.leak_auc(torch.tensor([1e-30, 2e-30, 3e-30]), labels) == 1


def test_leak_auc_needs_both_labels_and_says_so():
    assert sl.leak_auc(torch.rand(4), torch.zeros(4, dtype=torch.int64)) is None
    assert sl.leak_auc(torch.rand(4), torch.ones(4, dtype=torch.int64)) is None
    for scores, labels, sentence in (
        (torch.rand(3), torch.tensor([0, 1]), "one score and one label"),
        (torch.tensor([0.0, float("nan")]), torch.tensor([0, 1]), "a score is NaN"),
        (torch.rand(2), torch.tensor([0, 2]), "one class at a time"),
    ):
        with pytest.raises(ValueError, match=sentence):
            sl.leak_auc(scores, labels)


def test_matching_is_the_best_of_all_permutations():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        clusters, labels = torch.randint(4, (2, 50), generator=generator)
        best = max(
            float((torch.tensor(names)[clusters] == labels).double().mean())
            for names in itertools.permutations(range(4))
        )
        assert sl.accuracy_after_matching(clusters, labels) == pytest.approx(best)
    assert sl.accuracy_after_matching(torch.tensor([2, 2, 0]), torch.tensor([0, 0, 1])) == 1
    # One name for each cluster: two clusters of one class cannot both be right.
    split = sl.accuracy_after_matching(torch.tensor([0, 0, 0, 1]), torch.zeros(4).long())
    assert split == 0.75
    with pytest.raises(ValueError, match="at least one row"):
        sl.accuracy_after_matching(torch.zeros(0).long(), torch.zeros(0).long())


class Told(LabelInference):
    """Scores an image by the first number of its gradient."""

    threat = sl.GradientNorm.threat

    def score(self, received):
        return received.dz[:, 0]

    def infer_labels(self, received):
        return (received.dz[:, 0] > 0).long()


@pytest.fixture
def told(digits):
    """Three steps of two rows, with scores made by hand; row 1 is of label 1, as is row 2."""
    attack = Told(sl.tiny.client_net(), digits[0].without_labels(), known={2: 1})
    for step, rows, scores in ((0, [1, 0], [2, 1]), (1, [0, 3], [-3, -1]), (2, [2, 1], [9, 0.5])):
        dz = torch.tensor(scores)[:, None].float()
        attack.observe(sl.Gradient(dz=dz, sender="server", step=step), torch.tensor(rows))
    labels = torch.zeros(len(digits[0]), dtype=torch.int64)
    labels[1] = labels[2] = 1
    return attack, sl.HonestServer(sl.tiny.server_net(classes=2), labels=labels)


def test_evaluate_labels_by_hand(told):
    report = sl.evaluate_labels(*told, windows={"all": (0, 3), "last": (1, 3)})
    # Row 2 is known and does not count. Left: 0 and 1; 0 and 3; 1 alone.
    assert report.windows["all"]["auc"] == pytest.approx(5 / 6)  # .5 beats -3 and -1, but not 1
    assert report.windows["all"]["auc_per_batch"] == 1
    assert (report.windows["all"]["batches"], report.windows["all"]["one_class"]) == (3, 2)
    assert report.windows["all"]["accuracy"] == 4 / 5
    assert report.windows["last"]["auc"] == 1
    assert report.windows["last"]["auc_per_batch"] is None
    # Averaged over visits: row 0 has -1, row 1 has 1.25, row 3 has -1.
    assert report.windows["averaged"] == {"auc": 1.0}
    share = 2 / len(told[1].labels)
    assert report.floors == {"chance": 0.5, "majority": pytest.approx(1 - share), "auc": 0.5}
    text = str(report)
    assert "averaged" in text and "floor: majority" in text and "None" not in text
    assert report._repr_html_().startswith("<table")
    assert "Batches of one label, which have no AUC: all 2 of 3, last 2 of 2." in text
    assert report.to_dict() == {"windows": report.windows, "floors": report.floors}


def test_evaluate_labels_refuses_what_has_no_labels(told, make_client):
    attack, server = told
    with pytest.raises(TypeError, match="Client infers no labels"):
        sl.evaluate_labels(make_client(), server)
    with pytest.raises(ValueError, match="holds no labels to compare with"):
        sl.evaluate_labels(attack, sl.HonestServer(sl.tiny.server_net(classes=2)))
    with pytest.raises(ValueError, match="kept no gradient of the steps 100 to 200"):
        sl.evaluate_labels(attack, server)
