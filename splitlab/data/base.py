"""Data sets: labeled rows, and their split into parts that share nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from splitlab.arguments import described, instance, whole
from splitlab.arguments import device as checked_device
from splitlab.data.arrays import names_of, tensor_of
from splitlab.data.errors import DataError
from splitlab.data.splits import PARTS, Split, deal, permutation

NOT_KNOWN = "not known"  # the one class of rows without labels
HASH_CHUNK = 2000  # rows hashed at a time


@dataclass(eq=False, repr=False)
class Data:
    """Labeled rows of any kind, such as sequences of tokens, with a record of their source.

    Images are `ImageData`, which also knows the range of their values.

    Attributes:
        x: The rows, a tensor of numbers of any type, shape (N, ...), N at least 1.
        y: Labels, int64, shape (N,), each a position in `classes`. A list or a numpy array of whole
            numbers is copied into a tensor, and so it is with `block`, `row` and `attributes`.
        classes: The names of the classes.
        name: The name of the data set.
        block: The block of rows (a form, a stretch of a file) that each row belongs to, int64,
            shape (N,). `split` never cuts a block. None: every row is a block of its own.
        row: The row number in the original data set, int64, shape (N,). None: 0..N-1.
        part: "all", or "private", "public" or "referee" after a split.
        shares: How `split` deals the blocks to private, public and referee, as proportions.
        train_rows: How many of the original rows are the published training file, where there
            is one; `official_split` needs it.
        attributes: What else is known of each row, by name: a bool tensor of shape (N,), True
            where the attribute is present. `labelled` makes one of them the label.

    Raises:
        DataError: If shapes, types or labels contradict the description above.
    """

    ROW: ClassVar[str] = "row"  # what messages call one row

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    name: str = "data"
    block: Tensor = None  # type: ignore[assignment]  # a tensor once made
    row: Tensor = None  # type: ignore[assignment]
    part: str = "all"
    shares: tuple[int, int, int] = (3, 2, 2)
    train_rows: int | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise DataError(f"name is {described(self.name)}; pass the data set's name, a string.")
        if not isinstance(self.x, Tensor):
            raise DataError(
                f"{self.name}: x is {described(self.x)} and must be a torch tensor; pass "
                "torch.as_tensor(x), or for images ImageData.from_arrays(x, y, value_range=...)."
            )
        self._check_x()
        self.classes = names_of(self.classes, self.name)
        count, device = len(self.x), self.x.device
        if self.row is None:
            self.row = torch.arange(count, device=device)
        for name in ("y", "row", "block"):
            if name == "block" and self.block is None:
                self.block = self.row.clone()
            tensor = tensor_of(getattr(self, name), f"{self.name}: {name}", device)
            setattr(self, name, tensor)
            if tensor.dtype != torch.int64 or tensor.shape != (count,):
                raise DataError(
                    f"{self.name}: {name} must be int64 of shape ({count},), one for each "
                    f"{self.ROW}, not {tensor.dtype} of shape {tuple(tensor.shape)}."
                )
        if not isinstance(self.attributes, Mapping):
            raise DataError(f"{self.name}: attributes is no dictionary; pass name -> bool tensor.")
        self.attributes = {
            name: tensor_of(given, f"{self.name}: the attribute {name}", device)
            for name, given in self.attributes.items()
        }
        for name, present in self.attributes.items():
            if present.dtype != torch.bool or present.shape != (count,):
                raise DataError(
                    f"{self.name}: the attribute {name} must be bool of shape ({count},), one for "
                    f"each {self.ROW}, not {present.dtype} of shape {tuple(present.shape)}."
                )
        self._check_values()

    # What a kind of data that knows more of its rows overrides: how they are checked, stored,
    # described and hashed.

    def _check_x(self) -> None:
        if self.x.ndim == 0 or len(self.x) == 0:
            raise DataError(
                f"{self.name}: x must have the shape (N, ...) with at least one row, "
                f"not {tuple(self.x.shape)}."
            )

    def _check_values(self) -> None:
        first, last = (int(v) for v in self.y.aminmax())
        if first < 0 or last >= len(self.classes):
            raise DataError(
                f"{self.name}: labels run from {first} to {last}, but there are "
                f"{len(self.classes)} classes, numbered from 0."
            )

    def _stored(self) -> Tensor:
        """Return what `x` keeps in memory, row by row: a view of it."""
        return self.x

    def _shown(self, stored: Tensor) -> Tensor:
        """Return an `x` made of rows of `_stored`."""
        return stored

    def _describe(self) -> tuple[str, ...]:
        """Describe the rows, with further items for `repr`."""
        return (f"{len(self)} rows of {self.x.dtype} {self.shape}",)

    def _hashed(self, stored: Tensor) -> Tensor:
        """Turn stored rows into the numbers that are hashed."""
        return stored.double() if stored.is_floating_point() else stored.long()

    def _hashed_about(self) -> tuple[Any, ...]:
        """Return what `fingerprint` hashes besides rows and labels."""
        return tuple(self.x.shape), self.classes

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        rows, *more = self._describe()
        present, classes = len(self.y.unique()), len(self.classes)
        items = (
            rows,
            f"{present}{'' if present == classes else f' of {classes}'} classes",
            *more,
            f"{len(self.block.unique())} blocks",
            str(self.x.device),
        )
        return f"{type(self).__name__}({self.name}, {self.part}: {', '.join(items)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row."""
        return tuple(self.x.shape[1:])

    def select(self, rows: Tensor | Sequence[int]) -> Self:
        """Copy some rows, in the order given.

        Args:
            rows: Positions in this data set (not original row numbers), each in 0..N-1, or a
                bool mask of shape (N,).

        Returns:
            A data set that shares no storage with this one.

        Raises:
            DataError: If no row is asked for, or one that is not there.
        """
        rows = tensor_of(rows, f"{self.name}: rows", self.x.device).to(self.x.device)
        if rows.dtype == torch.bool and rows.shape == (len(self),):
            rows = rows.nonzero().flatten()
        if rows.ndim != 1 or rows.numel() == 0 or rows.is_floating_point():
            raise DataError(
                f"{self.name}: select needs a list of at least one row number, "
                f"not {rows.dtype} of shape {tuple(rows.shape)}."
            )
        if rows.dtype == torch.bool or rows.min() < 0 or rows.max() >= len(self):
            raise DataError(
                f"{self.name}: select takes row numbers from 0 to {len(self) - 1}, or a mask of "
                f"{len(self)} values."
            )
        rows = rows.long()
        return replace(
            self,
            x=self._shown(self._stored().index_select(0, rows)),
            y=self.y[rows],
            block=self.block[rows],
            row=self.row[rows],
            attributes={name: present[rows] for name, present in self.attributes.items()},
        )

    def subset(self, n: int, seed: int = 0) -> Self:
        """Copy `n` rows chosen at random, in their original order.

        Args:
            n: How many rows, from 1 to N.
            seed: Decides which rows; the same on every machine.

        Returns:
            A data set of `n` rows that shares no storage with this one.

        Raises:
            DataError: If `n` is not between 1 and N.
        """
        if whole(n) is None or not 1 <= n <= len(self):
            raise DataError(
                f"{self.name}: a subset of {described(n)} {self.ROW}s was asked for, but this part "
                f"holds {len(self)}; choose n from 1 to {len(self)}."
            )
        return self.select(permutation(len(self), seed)[:n].sort().values)

    def without(self, classes: int | str | Sequence[int | str]) -> Self:
        """Copy the rows of all other classes; labels and `classes` keep their numbering.

        Args:
            classes: One class or several, each by number or by name.

        Returns:
            A data set that shares no storage with this one.

        Raises:
            DataError: If a class is unknown, or if nothing would be left.
        """
        several = isinstance(classes, Sequence) and not isinstance(classes, str)
        wanted: list[Any] = list(classes) if several else [classes]
        dropped = torch.tensor([self._class_number(c) for c in wanted], device=self.y.device)
        keep = ~torch.isin(self.y, dropped)
        if not keep.any():
            raise DataError(
                f"{self.name}: nothing is left without the classes {wanted}; drop fewer of them."
            )
        return self.select(keep)

    def _class_number(self, wanted: int | str) -> int:
        if isinstance(wanted, str) and wanted in self.classes:
            return self.classes.index(wanted)
        number = whole(wanted)
        if number is not None and 0 <= number < len(self.classes):
            return number
        names = ", ".join(f"{i} {name!r}" for i, name in enumerate(self.classes))
        raise DataError(f"{self.name} has no class {described(wanted)}; it has {names}.")

    def labelled(self, attribute: str) -> Self:
        """Relabel the same rows by whether an attribute is present.

        Args:
            attribute: A name in `attributes`.

        Returns:
            A data set of two classes, 0 for absent and 1 for present. It shares rows and
            attributes with this one.

        Raises:
            DataError: If these rows have no such attribute.
        """
        if not isinstance(attribute, str) or attribute not in self.attributes:
            known = ", ".join(self.attributes) or "none"
            raise DataError(
                f"{self.name} has no attribute {described(attribute)}; its attributes are: {known}."
            )
        words = attribute.replace("_", " ")
        return replace(self, y=self.attributes[attribute].long(), classes=(f"no {words}", words))

    def one_against_rest(self, wanted: int | str) -> Self:
        """Relabel the same rows by whether they are of one class.

        Args:
            wanted: The class, by number or by name.

        Returns:
            A data set of two classes, 1 for the wanted one and 0 for all others. It shares rows
            and attributes with this one.

        Raises:
            DataError: If there is no such class.
        """
        number = self._class_number(wanted)
        name = self.classes[number]
        return replace(self, y=(self.y == number).long(), classes=(f"not {name}", name))

    def without_labels(self) -> Self:
        """Copy the rows alone, for a party that must not know the labels.

        All labels are 0, of the one class "not known". Attributes, blocks and row numbers, from
        which labels could be inferred, are left out.

        Returns:
            A data set that shares no storage with this one.
        """
        x = self._shown(self._stored().clone(memory_format=torch.contiguous_format))
        y = torch.zeros_like(self.y)
        blank: dict[str, Any] = {"block": None, "row": None, "attributes": {}}
        return replace(self, x=x, y=y, classes=(NOT_KNOWN,), **blank)

    def to(self, device: torch.device | str) -> Self:
        """Copy to another device.

        Args:
            device: Where the tensors should live.

        Returns:
            A data set on `device`; this very object if it is there already.

        Raises:
            ValueError: If this machine has no such device.
        """
        device = checked_device(device)
        stored = self._stored().to(device)
        if stored.device == self.x.device:
            return self
        return replace(
            self,
            x=self._shown(stored),
            y=self.y.to(device),
            block=self.block.to(device),
            row=self.row.to(device),
            attributes={name: present.to(device) for name, present in self.attributes.items()},
        )

    def split(self, seed: int = 0, shares: tuple[int, int, int] | None = None) -> Split[Self]:
        """Split the rows, in whole blocks, into a private, a public and a referee's part.

        Rows of one block (such as one writer's form) never end up in two parts. Each part is a copy
        with storage of its own, and keeps the original order of its rows.

        Args:
            seed: Permutes the blocks before they are dealt; the same on every machine.
            shares: Proportions of the blocks for private, public and referee; None: the data
                set's own (`self.shares`).

        Returns:
            `Split(private, public, referee)`.

        Raises:
            DataError: If there are too few blocks to give each part at least one.
        """
        shares = self.shares if shares is None else shares
        masks = deal(self.block, seed, shares, self.name)
        return Split(*(self._part(mask, part) for mask, part in zip(masks, PARTS, strict=True)))

    def official_split(self) -> Split[Self]:
        """Split as the paper did: private is the training file, public the test file.

        Nothing is left for a third part, so `referee` is None: a referee then has to train its
        classifiers on private rows that it sets aside and does not score.

        Returns:
            `Split(private, public, None)`, each part with storage of its own.

        Raises:
            DataError: If the data set was not published as a training and a test file, or if
                this part of it holds rows of only one of them.
        """
        if self.train_rows is None:
            raise DataError(f"{self.name} has no official split; use split(seed).")
        train = self.row < self.train_rows
        if train.all() or not train.any():
            raise DataError(
                f"{self.name}, {self.part}: all rows come from one of the two published files; "
                f"call official_split on the whole data set."
            )
        return Split(self._part(train, "private"), self._part(~train, "public"), None)

    def _part(self, mask: Tensor, part: str) -> Self:
        # A part of a part (pseudo-private data cut from public data) says where it comes from.
        name = self.name if self.part == "all" else f"{self.name} ({self.part})"
        return replace(self.select(mask), part=part, name=name)

    def row_hashes(self) -> set[bytes]:
        """Hash every row, to detect public data that overlap private data.

        Whole numbers have one hash whatever their integer type, and so have floats.

        Returns:
            16-byte hashes; fewer than N where the set holds the same row twice.
        """
        return {
            hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            for stored in self._stored().split(HASH_CHUNK)
            for row in self._hashed(stored).cpu().contiguous().numpy()
        }


def fingerprint(data: Data) -> str:
    """Hash all rows in their order, the labels, and the names of the classes.

    Args:
        data: Any data set; of images, the value range is hashed too.

    Returns:
        16 hexadecimal digits.

    Raises:
        TypeError: If it is no data set.
    """
    instance("data", data, Data, "pass ImageData, or other Data")
    digest = hashlib.blake2b(repr(data._hashed_about()).encode(), digest_size=8)
    digest.update(data.y.cpu().numpy().tobytes())
    for stored in data._stored().split(HASH_CHUNK):
        digest.update(data._hashed(stored).cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
