"""Exercise 4: clusters are given the names of classes, one to one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from splitlab.course.checks.base import (
    Answer,
    CheckFailed,
    NotWrittenYet,
    check,
    expect_number,
    expect_right,
    wrong,
)
from splitlab.course.checks.labels_leak.common import undisturbed

Formula = Callable[[Tensor, Tensor, int], Tensor]
ROUNDING = 1e-6


@check("every class got one cluster, and the numbers of the clusters did not matter.")
def matched_accuracy(answer: Answer) -> None:
    """`matched_accuracy(clusters, labels, k)`: the share right, under the best naming."""
    cases = [_clustering(count, k) for count, k in ((40, 3), (60, 4), (50, 5), (90, 6), (31, 4))]
    cases.append(_lopsided())
    values = [torch.tensor(_asked(answer, *case)) for case in cases]
    expect_right(
        [value.double() for value in values],
        cases,
        _matched,
        _mistakes(),
        "the share is not right: count how often each cluster meets each class, name the clusters "
        "one to one so that as many images as possible are right, and divide by all images",
        ROUNDING,
    )
    _check_missing(answer)


def _check_missing(answer: Answer) -> None:
    """The last cluster may be empty, and the last class may be absent."""
    clusters, labels = torch.tensor([2, 2, 0, 0, 0, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    for what, k in (("cluster 3 is empty and class 3 absent", 4), ("two are empty", 5)):
        try:
            value = _asked(answer, clusters, labels, k)
        except NotWrittenYet:
            raise
        except CheckFailed as error:
            raise CheckFailed(f"where {what}, {error}") from error
        if abs(value - 5 / 6) > ROUNDING:
            wrong(
                f"where {what} the share is {value:.3f} and should be 0.833: the table has k rows "
                "and k columns, whatever occurs in this batch"
            )


def _asked(answer: Answer, clusters: Tensor, labels: Tensor, k: int) -> float:
    value = undisturbed(answer, clusters, labels, k, what="the clusters or the labels")
    return expect_number(value, "the share")


def _mistakes() -> Iterator[tuple[str, Formula]]:
    """Yield (message, what it gives) of likely slips."""
    yield (
        "this is the worst naming: linear_sum_assignment looks for the smallest sum unless it is "
        "told maximize=True",
        lambda clusters, labels, k: _matched(clusters, labels, k, min),
    )
    yield (
        "every cluster takes its commonest class: two clusters then may get one name, and with as "
        "many clusters as images all would be right; name them one to one",
        lambda clusters, labels, k: _table(clusters, labels, k).amax(1).sum() / len(labels),
    )
    yield (
        "every class takes its largest part of one cluster: two classes then may share a cluster, "
        "and one cluster for all would be perfect; name them one to one",
        lambda clusters, labels, k: _table(clusters, labels, k).amax(0).sum() / len(labels),
    )
    yield (
        "the names are handed out greedily, the largest count first: what is best for one cluster "
        "may cost the others more, so choose all names at once",
        _greedy,
    )
    yield (
        "the names are handed out in the order of the clusters: the first may take what a later "
        "one needs, so choose all names at once",
        _in_order,
    )
    yield (
        "the clusters' numbers are taken for class numbers: they are names that k-means made up, "
        "so look for the best naming first",
        lambda clusters, labels, k: (clusters == labels).double().mean(),
    )
    yield (
        "the table is read the wrong way round: where its rows are clusters, the pairs that "
        "linear_sum_assignment returns are (cluster, class)",
        _transposed,
    )
    yield (
        "this is a percentage: return the share, from 0 to 1",
        lambda clusters, labels, k: 100 * _matched(clusters, labels, k),
    )
    yield (
        "this is the number of images that are right: divide it by the number of images",
        lambda clusters, labels, k: len(labels) * _matched(clusters, labels, k),
    )
    yield (
        "the right images are divided by the number of classes: divide by the number of images",
        lambda clusters, labels, k: len(labels) * _matched(clusters, labels, k) / k,
    )
    yield (
        "the counts are averaged where their sum is wanted: divide once, by the number of images",
        lambda clusters, labels, k: _matched(clusters, labels, k) / k,
    )
    yield (
        "this is the share of images that are wrong: subtract it from 1",
        lambda clusters, labels, k: 1 - _matched(clusters, labels, k),
    )
    yield (
        "the counts are made shares of a cluster before the names are chosen: then a small cluster "
        "weighs as much as a large one; choose by counts",
        lambda clusters, labels, k: _named_by_shares(clusters, labels, k, 1),
    )
    yield (
        "the counts are made shares of a class before the names are chosen: then a small class "
        "weighs as much as a large one; choose by counts",
        lambda clusters, labels, k: _named_by_shares(clusters, labels, k, 0),
    )
    yield (
        "this is the mean of the classes' own shares: divide all right images by all images, once",
        lambda clusters, labels, k: _mean_of_shares(clusters, labels, k, 0),
    )
    yield (
        "this is the mean of the clusters' own shares: divide all right images by all images, once",
        lambda clusters, labels, k: _mean_of_shares(clusters, labels, k, 1),
    )


def _table(clusters: Tensor, labels: Tensor, k: int) -> Tensor:
    """How often each cluster meets each class, float64 (k clusters, k classes)."""
    table = torch.zeros(k, k, dtype=torch.float64)
    for cluster, label in zip(clusters.tolist(), labels.tolist(), strict=True):
        table[cluster, label] += 1
    return table


def _naming(table: Tensor, best: Callable[..., tuple[int, ...]] = max) -> tuple[int, ...]:
    """The class of each cluster, from trying all k! namings."""
    rows = table.tolist()
    return best(
        itertools.permutations(range(len(rows))),
        key=lambda names: sum(row[name] for row, name in zip(rows, names, strict=True)),
    )


def _share(table: Tensor, names: tuple[int, ...]) -> Tensor:
    return table[torch.arange(len(table)), torch.tensor(names)].sum() / table.sum()


def _matched(
    clusters: Tensor, labels: Tensor, k: int, best: Callable[..., tuple[int, ...]] = max
) -> Tensor:
    table = _table(clusters, labels, k)
    return _share(table, _naming(table, best))


def _transposed(clusters: Tensor, labels: Tensor, k: int) -> Tensor:
    table = _table(clusters, labels, k)
    return _share(table.T, _naming(table))


def _greedy(clusters: Tensor, labels: Tensor, k: int) -> Tensor:
    table, right = _table(clusters, labels, k), 0.0
    for _ in range(k):
        cluster, label = divmod(int(table.argmax()), k)
        right += max(0.0, table[cluster, label].item())
        table[cluster], table[:, label] = -1, -1
    return torch.tensor(right, dtype=torch.float64) / len(labels)


def _in_order(clusters: Tensor, labels: Tensor, k: int) -> Tensor:
    table, right = _table(clusters, labels, k), 0.0
    for row in table:
        label = int(row.argmax())
        right += row[label].item()
        table[:, label] = -1
    return torch.tensor(right, dtype=torch.float64) / len(labels)


def _named_by_shares(clusters: Tensor, labels: Tensor, k: int, dim: int) -> Tensor:
    table = _table(clusters, labels, k)
    return _share(table, _naming(table / table.sum(dim, keepdim=True)))


def _mean_of_shares(clusters: Tensor, labels: Tensor, k: int, dim: int) -> Tensor:
    table = _table(clusters, labels, k)
    shares = table / table.sum(dim, keepdim=True)
    return shares[torch.arange(k), torch.tensor(_naming(table))].mean()


def _clustering(count: int, k: int) -> tuple[Tensor, Tensor, int]:
    """Make labels of unlike classes, and clusters that are right for some of them.

    Args:
        count: How many images.
        k: How many clusters, and classes.

    Returns:
        Clusters and labels, int64 (N,), each of the k occurring, in the last cell too; and k.
    """
    shares = 1 + torch.arange(k, dtype=torch.float64).square()
    labels = torch.multinomial(shares, count, replacement=True)
    clusters = torch.randperm(k)[labels]
    astray = torch.rand(count) < 0.5
    clusters[astray] = torch.randint(k, (int(astray.sum()),))
    clusters[:k], labels[:k] = torch.arange(k), torch.randperm(k)
    clusters[k], labels[k] = k - 1, k - 1  # the last cell of the table is not empty
    return clusters, labels, k


def _lopsided() -> tuple[Tensor, Tensor, int]:
    """A table in which the largest count must not be taken: 5 + 0 is less than 4 + 4."""
    counts = torch.tensor([[5, 4, 0], [4, 0, 1], [0, 2, 3]])
    cells = torch.arange(9).repeat_interleave(counts.flatten())
    return cells // 3, cells % 3, 3
