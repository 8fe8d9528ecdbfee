"""What every data set looks like, and how it is cut into parts that share nothing."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from splitlab.data.errors import DataError
from splitlab.data.pixels import RESIZE_CHUNK, repeats_grey, stored_channels, take_rows

NOT_KNOWN = "not known"  # the one class of images without labels
HASH_CHUNK = 4096  # images hashed at a time by `fingerprint`


@dataclass(eq=False, repr=False)
class ImageData:
    """Labelled images that carry their value range and know where each row came from.

    Attributes:
        x: Images, float32, shape (N, C, H, W), values inside `value_range`. Grey images with
            several channels may be an `expand` view of one stored channel (see `grey`).
        y: Labels, int64, shape (N,), each a position in `classes`.
        classes: The names of the classes.
        name: The name of the data set.
        block: The block of rows (a form, a stretch of a file) that each row belongs to, int64,
            shape (N,). `split` never cuts a block. None: every row is a block of its own.
        row: The row number in the original data set, int64, shape (N,). None: 0..N-1.
        value_range: The smallest and largest value that a pixel can take.
        part: "all", or "private", "public" or "referee" after a split.
        shares: How `split` deals the blocks to private, public and referee, as proportions.
        train_rows: How many of the original rows are the published training file, where there
            is one; `official_split` needs it.
        attributes: What else is known of each image, by name: a bool tensor of shape (N,), True
            where the attribute is present. `labelled` makes one of them the label.

    Raises:
        DataError: If shapes, types, labels or pixel values contradict the description above.
    """

    x: Tensor
    y: Tensor
    classes: tuple[str, ...]
    name: str = "images"
    block: Tensor | None = None
    row: Tensor | None = None
    value_range: tuple[float, float] = (-1.0, 1.0)
    part: str = "all"
    shares: tuple[int, int, int] = (3, 2, 2)
    train_rows: int | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.dtype != torch.float32 or len(self.x) == 0:
            raise DataError(
                f"{self.name}: x must be float32 of shape (N, C, H, W) with at least one image, "
                f"not {self.x.dtype} of shape {tuple(self.x.shape)}."
            )
        count, device = len(self.x), self.x.device
        if self.row is None:
            self.row = torch.arange(count, device=device)
        if self.block is None:
            self.block = self.row.clone()
        for name in ("y", "block", "row"):
            tensor = getattr(self, name)
            if tensor.dtype != torch.int64 or tensor.shape != (count,):
                raise DataError(
                    f"{self.name}: {name} must be int64 of shape ({count},), one for each image, "
                    f"not {tensor.dtype} of shape {tuple(tensor.shape)}."
                )
        for name, present in self.attributes.items():
            if present.dtype != torch.bool or present.shape != (count,):
                raise DataError(
                    f"{self.name}: the attribute {name} must be bool of shape ({count},), one for "
                    f"each image, not {present.dtype} of shape {tuple(present.shape)}."
                )
        self._check_values()

    def _check_values(self) -> None:
        low, high = self.value_range
        smallest, largest = (float(v) for v in stored_channels(self.x).aminmax())
        # Written so that NaN, which compares false with everything, is refused too.
        if not (low <= smallest <= largest <= high):
            raise DataError(
                f"{self.name}: pixels run from {smallest:g} to {largest:g}, outside the value "
                f"range {low:g} to {high:g}; rescale x or pass the right value_range."
            )
        first, last = (int(v) for v in self.y.aminmax())
        if first < 0 or last >= len(self.classes):
            raise DataError(
                f"{self.name}: labels run from {first} to {last}, but there are "
                f"{len(self.classes)} classes, numbered from 0."
            )

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        low, high = self.value_range
        present = len(self.y.unique())
        kinds = (
            f"{present}" if present == len(self.classes) else f"{present} of {len(self.classes)}"
        )
        return (
            f"ImageData({self.name}, {self.part}: {len(self)} images "
            f"{'x'.join(map(str, self.shape))}, {kinds} classes, values {low:g} to {high:g}, "
            f"{len(self.block.unique())} blocks, {self.x.device})"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        return tuple(self.x.shape[1:])

    @property
    def grey(self) -> bool:
        """Whether the channels of every image repeat one stored grey channel."""
        return repeats_grey(self.x)

    def select(self, rows: Tensor | Sequence[int]) -> "ImageData":
        """Copy some rows, in the order given.

        Args:
            rows: Positions in this data set (not original row numbers), each in 0..N-1, or a
                bool mask of shape (N,).

        Returns:
            A data set that shares no storage with this one.

        Raises:
            DataError: If no row is asked for, or one that is not there.
        """
        rows = torch.as_tensor(rows, device=self.x.device)
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
            x=take_rows(self.x, rows),
            y=self.y[rows],
            block=self.block[rows],
            row=self.row[rows],
            attributes={name: present[rows] for name, present in self.attributes.items()},
        )

    def subset(self, n: int, seed: int = 0) -> "ImageData":
        """Copy `n` rows chosen at random, in their original order.

        Args:
            n: How many rows, from 1 to N.
            seed: Decides which rows; the same on every machine.

        Returns:
            A data set of `n` rows that shares no storage with this one.

        Raises:
            DataError: If `n` is not between 1 and N.
        """
        if not 1 <= n <= len(self):
            raise DataError(
                f"{self.name}: a subset of {n} images was asked for, but this part holds "
                f"{len(self)}; choose n from 1 to {len(self)}."
            )
        return self.select(_permutation(len(self), seed)[:n].sort().values)

    def without(self, classes: int | str | Sequence[int | str]) -> "ImageData":
        """Copy the rows of all other classes; labels and `classes` keep their numbering.

        Args:
            classes: One class or several, each by number or by name.

        Returns:
            A data set that shares no storage with this one.

        Raises:
            DataError: If a class is unknown, or if nothing would be left.
        """
        wanted = [classes] if isinstance(classes, int | str) else list(classes)
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
        if not isinstance(wanted, str) and 0 <= wanted < len(self.classes):
            return int(wanted)
        names = ", ".join(f"{i} {name!r}" for i, name in enumerate(self.classes))
        raise DataError(f"{self.name} has no class {wanted!r}; it has {names}.")

    def labelled(self, attribute: str) -> "ImageData":
        """Give the same images another label: whether an attribute is present.

        Args:
            attribute: a name in `attributes`.

        Returns:
            A data set of two classes, 0 for absent and 1 for present. It shares images and
            attributes with this one.

        Raises:
            DataError: If these images have no such attribute.
        """
        if attribute not in self.attributes:
            known = ", ".join(self.attributes) or "none"
            raise DataError(
                f"{self.name} has no attribute {attribute!r}; its attributes are: {known}."
            )
        words = attribute.replace("_", " ")
        return replace(self, y=self.attributes[attribute].long(), classes=(f"no {words}", words))

    def one_against_rest(self, wanted: int | str) -> "ImageData":
        """Give the same images another label: whether they are of one class.

        Args:
            wanted: The class, by number or by name.

        Returns:
            A data set of two classes, 1 for the wanted one and 0 for all others. It shares images
            and attributes with this one.

        Raises:
            DataError: If there is no such class.
        """
        number = self._class_number(wanted)
        name = self.classes[number]
        return replace(self, y=(self.y == number).long(), classes=(f"not {name}", name))

    def without_labels(self) -> "ImageData":
        """Copy the images alone, for a party that is not to know the labels.

        All labels are 0, of the one class "not known". Attributes, blocks and row numbers, which
        could tell, are left out.

        Returns:
            A data set that shares no storage with this one.
        """
        x = take_rows(self.x, torch.arange(len(self)))
        y = torch.zeros_like(self.y)
        blank = {"block": None, "row": None, "attributes": {}}
        return replace(self, x=x, y=y, classes=(NOT_KNOWN,), **blank)

    def to(self, device: torch.device | str) -> "ImageData":
        """Copy to another device; a repeated grey channel stays one channel there.

        Args:
            device: Where the tensors should live.

        Returns:
            A data set on `device`; this very object if it is there already.
        """
        channel = stored_channels(self.x).to(device)
        if channel.device == self.x.device:
            return self
        return replace(
            self,
            x=channel.expand(-1, self.shape[0], -1, -1),
            y=self.y.to(device),
            block=self.block.to(device),
            row=self.row.to(device),
            attributes={name: present.to(device) for name, present in self.attributes.items()},
        )

    def split(self, seed: int = 0, shares: tuple[int, int, int] | None = None) -> "Split":
        """Deal whole blocks of rows to the private, the public and the referee's part.

        Rows of one block (one writer's form, say) never end up in two parts. Each part is a copy
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
        if len(shares) != 3 or min(shares) <= 0:
            raise DataError(
                f"{self.name}: shares must be three numbers above 0 (private, public, referee), "
                f"not {shares}."
            )
        blocks = self.block.unique().cpu()
        order = blocks[_permutation(len(blocks), seed)].to(self.block.device)
        first = round(len(blocks) * shares[0] / sum(shares))
        second = round(len(blocks) * (shares[0] + shares[1]) / sum(shares))
        if not 0 < first < second < len(blocks):
            raise DataError(
                f"{self.name}: {len(blocks)} blocks of rows are too few to deal to private, "
                f"public and referee in the proportions {shares}; use more data."
            )
        dealt = order[:first], order[first:second], order[second:]
        masks = [torch.isin(self.block, blocks) for blocks in dealt]
        return Split(*(self._part(mask, part) for mask, part in zip(masks, PARTS, strict=True)))

    def official_split(self) -> "Split":
        """Split as the paper did: private is the training file, public the test file.

        Nothing is left for a third part, so `referee` is None: a referee then has to train its
        classifiers on private images that it sets aside and does not score.

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

    def _part(self, mask: Tensor, part: str) -> "ImageData":
        # A part of a part (pseudo-private data cut from public data) says where it comes from.
        name = self.name if self.part == "all" else f"{self.name} ({self.part})"
        return replace(self.select(mask), part=part, name=name)

    def image_hashes(self) -> set[bytes]:
        """Hash every image, so that public data that overlap private data can be refused.

        Pixels are first rounded to 256 levels of the value range, and a repeated grey channel
        counts once: the same picture has the same hash on another scale of values, on another
        device and with another number of channels, though not at another size.

        Returns:
            16-byte hashes; fewer than N where the set holds the same picture twice.
        """
        low, high = self.value_range
        hashes = set()
        for images in stored_channels(self.x).split(RESIZE_CHUNK):
            levels = ((images - low) * (255 / (high - low))).round().to(torch.uint8).cpu()
            hashes.update(
                hashlib.blake2b(image.tobytes(), digest_size=16).digest()
                for image in levels.contiguous().numpy()
            )
        return hashes


PARTS = ("private", "public", "referee")


class Split(NamedTuple):
    """The three parts of a data set: `private, public, referee = data.split(seed)`.

    Attributes:
        private: The client's own images.
        public: The attacker's own images.
        referee: What the scorer trains its classifiers on; None after `official_split`.
    """

    private: ImageData
    public: ImageData
    referee: ImageData | None


def fingerprint(data: ImageData) -> str:
    """Return a hash of the images (to 256 levels), the labels and the value range."""
    low, high = data.value_range
    about = (tuple(data.x.shape), low, high, data.classes)
    digest = hashlib.blake2b(repr(about).encode(), digest_size=8)
    digest.update(data.y.cpu().numpy().tobytes())
    for images in stored_channels(data.x).split(HASH_CHUNK):
        levels = ((images - low) * (255 / (high - low))).round().to(torch.uint8).cpu()
        digest.update(levels.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _permutation(n: int, seed: int) -> Tensor:
    """Return the numbers 0..n-1 in an order that depends on `seed` alone."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))
