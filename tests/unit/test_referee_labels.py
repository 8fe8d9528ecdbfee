"""The figures of leaked labels: by hand, and against scikit-learn."""

import dataclasses
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
    return attack, dataclasses.replace(digits[0], y=labels, classes=("no", "yes"))


def test_labels_by_hand(told):
    attack, truth = told
    report = sl.evaluate(attack, attack, truth=truth, windows={"all": (0, 3), "last": (1, 3)})
    # Row 2 is known and does not count. Left: 0 and 1; 0 and 3; 1 alone.
    assert report["all"]["auc"] == pytest.approx(5 / 6)  # .5 beats -3 and -1, but not 1
    assert report["all"]["auc_per_batch"] == 1
    assert (report["all"]["batches"], report["all"]["one_class"]) == (3, 2)
    assert report["all"]["accuracy"] == 4 / 5
    assert report["last"]["auc"] == 1
    assert report["last"]["auc_per_batch"] is None
    # Averaged over visits: row 0 has -1, row 1 has 1.25, row 3 has -1.
    assert report["averaged"] == {"auc": 1.0}
    share = 2 / len(truth)
    assert report["chance"] == {"auc": 0.5, "auc_per_batch": 0.5, "accuracy": 0.5}
    assert report["majority"]["accuracy"] == pytest.approx(1 - share)
    text = str(report)
    assert "averaged" in text and "floor: majority" in text and "None" not in text
    assert report._repr_html_().startswith("<table")
    assert "Batches of one label, which have no AUC: all 2 of 3, last 2 of 2." in text
    assert "leak AUC 1.000 (last); best floor 0.500 (chance)." in text
    with pytest.raises(KeyError, match="no row 'late': choose from chance, majority, all"):
        report["late"]


def test_a_server_is_scored_on_the_labels_of_the_batches_that_clients_sent(digits):
    """Two clients in turn, of unlike sizes; the referee finds their batches without an index."""
    guessed = []

    class Knows(sl.UnSplitLabels):
        """Guesses what the client's turn says, but for the first row of each batch."""

        def infer_labels(self, a, da):
            (turn,) = [client.turn for client in clients if client.turn is not None]
            guess = turn.labels.clone()
            guess[0] = (guess[0] + 1) % 10
            guessed.append(len(guess))
            return guess

    shares = digits[0].select(range(50)), digits[0].select(range(50, 90))
    clients = [
        sl.Client(
            sl.tiny.client_net(),
            share,
            tail=torch.nn.Linear(10, 10),
            batch_size=size,
            seed=number,
            name=f"client {number}",
            optimizer=sl.tiny.client_optimizer,
        )
        for number, (share, size) in enumerate(zip(shares, (8, 5), strict=True))
    ]
    clone = torch.nn.Linear(10, 10)
    options = {"clone": clone, "clone_optimizer": sl.tiny.client_optimizer}
    attack = Knows(sl.tiny.server_net(), **options)
    sl.train(clients, attack, 30, protocol=sl.u_shaped)
    report = sl.evaluate(clients, attack, windows={"early": (0, 10), "late": (20, 30)})
    assert report["early"]["accuracy"] == report["late"]["accuracy"] == 1 - 10 / (5 * (8 + 5))
    assert report.n == 90 and report["early"]["auc"] is None
    assert report.headline.startswith("accuracy ")
    with pytest.raises(ValueError, match="has inferred nothing in the steps 100 to 200"):
        sl.evaluate(clients, attack)
    for wrong, sentence in (
        (clients[:1], r"step 0 of client 1, which the clients did not take: pass the very clients"),
        ([resized(clients[0]), clients[1]], r"inferred 65 labels and .* batches have \d+ rows"),
    ):
        with pytest.raises(ValueError, match=sentence):
            sl.evaluate(wrong, attack, windows={"early": (0, 10)})


def resized(client):
    """A client of the same name and steps, but with larger batches."""
    other = sl.Client(client.net, client.data, tail=client.tail, batch_size=9, name=client.name)
    other.step = client.step
    return other


def test_what_has_no_labels_gets_a_sentence(told, make_client, digits):
    attack, truth = told
    with pytest.raises(TypeError, match="Client infers nothing that can be scored: give it infer"):
        sl.evaluate(make_client(), make_client())
    with pytest.raises(ValueError, match="holds no labels to compare with: pass truth="):
        sl.evaluate(attack, attack)
    with pytest.raises(ValueError, match="infers 2 classes and truth has 10"):
        sl.evaluate(attack, attack, truth=digits[0])
    with pytest.raises(ValueError, match="kept no gradient of the steps 100 to 200"):
        sl.evaluate(attack, attack, truth=truth)
    with pytest.raises(TypeError, match="cannot be scored on 'images', only on labels"):
        sl.evaluate(attack, attack, goal="images")
    with pytest.raises(TypeError, match="n_match= has no meaning where the goal is labels"):
        sl.evaluate(attack, attack, truth=truth, n_match=5)
    with pytest.raises(ValueError, match="no client to evaluate"):
        sl.evaluate([], attack)
    for clients in (sl.HonestServer(sl.tiny.server_net()), [truth]):
        with pytest.raises(TypeError, match=r"not a Client: write evaluate\(client, attack, r"):
            sl.evaluate(clients, attack)
