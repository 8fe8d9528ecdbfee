"""Data cards: what each data set is, where it comes from, and what to watch out for.

Names of files, mirrors, terms and ways to get the files are those of `PUBLISHED`, and numbers that
a loader knows are taken from it, so that nothing is said twice. What can be computed from the
loaded data is held against it by a test.
"""

import textwrap
from dataclasses import dataclass

from splitlab.core.tables import Table
from splitlab.data import BUILT_IN
from splitlab.data.celeba import COUNT, IDENTITIES, LABEL
from splitlab.data.celeba import FILES as CELEBA
from splitlab.data.celeba import SHAPE as CELEBA_SHAPE
from splitlab.data.cifar10 import BLOCK_ROWS as CIFAR10_BLOCK
from splitlab.data.cifar10 import CLASSES, NAMES, PER_FILE
from splitlab.data.cifar10 import FILES as CIFAR10
from splitlab.data.cifar10 import SHAPE as CIFAR10_SHAPE
from splitlab.data.digits import FORM_STARTS, ROWS
from splitlab.data.errors import DataError
from splitlab.data.face_parameters import RATES
from splitlab.data.fashion_mnist import FILES as FASHION_MNIST
from splitlab.data.idx import BLOCK_ROWS, SIDE
from splitlab.data.mnist import FILES as MNIST
from splitlab.data.omniglot import ARCHIVES
from splitlab.data.omniglot import SHAPE as OMNIGLOT_SHAPE
from splitlab.data.orl import FILES as ORL
from splitlab.data.orl import PEOPLE, PER_PERSON
from splitlab.data.orl import SHAPE as ORL_SHAPE
from splitlab.data.published import Published, megabytes
from splitlab.data.tiny_imagenet import FILES as TINY_IMAGENET
from splitlab.data.tiny_imagenet import SHAPE as TINY_IMAGENET_SHAPE
from splitlab.data.tiny_imagenet import TRAIN, VALIDATION

WIDTH = 100  # columns of the card in a shell


@dataclass(frozen=True, kw_only=True)
class Card:
    """What to know about a data set before using it.

    Attributes:
        name: The name of its loader in `splitlab.data`.
        what: What the images show.
        source: Who made it, and when.
        images: How many there are, with the loader's own arguments.
        shape: Height and width of an image as it was published, in pixels.
        channels: 1 for gray, 3 for color.
        levels: The smallest and the largest value that occurs in the images as published.
        classes: How many classes the labels have.
        labels: What a label says.
        attributes: What else is known of each image, by name.
        people: Whose writing or faces these are, and whether a split keeps them apart.
        block: What a block is, which `split` never cuts.
        blocks: How many blocks there are, with the loader's own arguments.
        shares: How `split` deals the blocks to private, public and referee.
        train_rows: How many images the published training file has; None where there is none.
        files: The published files; none for a set that needs none.
        origin: Where the set comes from, if it needs no files.
        terms: The terms of use, if it needs no files.
        beware: What to watch out for.
        used_for: What the course uses it for.
        ethics: What is owed to the people shown; empty where none are.
    """

    name: str
    what: str
    source: str
    images: int
    shape: tuple[int, int]
    channels: int
    levels: tuple[int, int] = (0, 255)
    classes: int
    labels: str
    attributes: tuple[str, ...] = ()
    people: str
    block: str
    blocks: int
    shares: tuple[int, int, int] = (3, 2, 2)
    train_rows: int | None = None
    files: tuple[Published, ...] = ()
    origin: str = ""
    terms: str = ""
    beware: str
    used_for: str
    ethics: str = ""

    def rows(self) -> list[tuple[str, str]]:
        """Return (heading, text) of everything that the card says."""
        height, width = self.shape
        color = "gray" if self.channels == 1 else "color"
        low, high = self.levels
        split = f"{':'.join(map(str, self.shares))} (private, public, referee), by {self.block}"
        if self.train_rows:
            split += (
                f"; official_split(): {self.train_rows:,} images private, "
                f"{self.images - self.train_rows:,} public"
            )
        rows = [
            ("what", self.what),
            ("source", self.source),
            ("images", f"{self.images:,} in {color}, {height} x {width} pixels"),
            ("values", f"{low} to {high} as published, -1 to 1 here"),
            ("labels", f"{self.classes} classes: {self.labels}"),
            ("attributes", ", ".join(self.attributes)),
            ("people", self.people),
            ("blocks", f"{self.blocks:,}"),
            ("split", split),
            ("terms", self.terms or self.files[0].terms),
            ("to get it", self._how()),
            ("files", "; ".join(map(_names, self.files))),
            ("watch out", self.beware),
            ("used for", self.used_for),
            ("ethics", self.ethics),
        ]
        return [(heading, text) for heading, text in rows if text]

    def table(self) -> Table:
        """Return the card as a table of two columns."""
        return Table((), self.rows(), f"{self.name}: data card")

    def _how(self) -> str:
        if not self.files:
            return f"{self.origin}: nothing to download"
        if by_hand := self.files[0].by_hand:
            return f"by hand, {by_hand}"
        gets = []
        for files in self.files:
            known = all(pin.size is not None for pin in files.files.values())
            size = f" ({megabytes(files, files.files)})" if known else ""
            gets.append(f"{files.name}{size}")
        mirrors = dict.fromkeys(mirror for files in self.files for mirror in files.mirrors)
        return f"splitlab data get {', or '.join(gets)}, from {' or '.join(mirrors)}"

    def __str__(self) -> str:
        indent = max(len(heading) for heading, _ in self.rows()) + 2
        rows: list[tuple[str, str]] = []
        for heading, text in self.rows():
            # Addresses and names of files stay whole, to be copied.
            lines = textwrap.wrap(
                text, WIDTH - indent, break_long_words=False, break_on_hyphens=False
            )
            rows += [(heading, lines[0]), *(("", line) for line in lines[1:])]
        return str(Table((), rows, f"{self.name}: data card"))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def _names(files: Published) -> str:
    """The names of published files, and the folder that they belong in."""
    optional = f"; where you have it, {', '.join(files.optional)}" if files.optional else ""
    return f"{', '.join(files.files)} in {files.folder}/{optional}"


def card(name: str) -> Card:
    """Return the card of a data set; it renders as a table, in a notebook and in a shell.

    Args:
        name: The name of its loader, such as "mnist".

    Raises:
        DataError: If there is no such data set.
    """
    if name not in CARDS:
        raise DataError(f"there is no data set {name!r}: choose one of {', '.join(CARDS)}.")
    return CARDS[name]


CARDS = {
    one.name: one
    for one in (
        Card(
            name="digits",
            what="digits that people wrote into the boxes of forms, reduced to 8 x 8",
            source="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI "
            "Machine Learning Repository, 1998; its test file, as bundled with scikit-learn",
            images=ROWS,
            shape=(8, 8),
            channels=1,
            levels=(0, 16),
            classes=10,
            labels="the digit",
            people="13 writers, according to its authors; the rows come as 14 forms. No form is "
            "split, but if one writer filled in two, they can be in different parts",
            block="form",
            blocks=len(FORM_STARTS),
            shares=(5, 5, 4),
            origin=BUILT_IN["digits"],
            terms="scikit-learn's copy states none; cite the authors.",
            beware="the loader enlarges to 16 x 16, which adds no information; there are few "
            "images and fewer writers, so results vary with the split: use several seeds",
            used_for="everything at profile tiny, offline and in seconds",
        ),
        Card(
            name="drawn_faces",
            what="faces that the program draws, in front of a background, with yes-or-no "
            "attributes that are independent of each other",
            source="this library (splitlab/data/drawn_faces.py)",
            images=10_000,
            shape=(32, 32),
            channels=3,
            levels=(1, 255),
            classes=2,
            labels="whether an attribute is present, a smile unless asked otherwise",
            attributes=tuple(RATES),
            people="none: every face occurs once, and has no identity, age, gender or ancestry",
            block="picture",
            blocks=10_000,
            origin=BUILT_IN["drawn_faces"],
            terms="those of this library (MIT); no permission is needed.",
            beware="texture is flatter than a photograph's: a result here must still be "
            "tried on photographs; a face and its negative have much in common, and the course's "
            "hijack often draws the negative, light for dark",
            used_for="properties to infer and faces to reconstruct, offline and without a real "
            "person",
            ethics="no real person is shown. So the course uses these faces instead of portraits "
            "where it can.",
        ),
        Card(
            name="mnist",
            what="handwritten digits, white on black, centered",
            source="Y. LeCun, C. Cortes and C. Burges, The MNIST database, 1998",
            images=70_000,
            shape=(SIDE, SIDE),
            channels=1,
            classes=10,
            labels="the digit",
            people="the files do not name the writers: a split keeps neighbors in the file "
            "together, which does not separate all writers",
            block=f"stretch of {BLOCK_ROWS:,} rows",
            blocks=70,
            train_rows=60_000,
            files=(MNIST,),
            beware="the loader resizes to 32 x 32, as the paper's code does; the files of "
            "Fashion-MNIST have the same names",
            used_for="the hijack at the paper's scale, on the paper's split",
        ),
        Card(
            name="fashion_mnist",
            what="pieces of clothing, light on black, centered",
            source="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017",
            images=70_000,
            shape=(SIDE, SIDE),
            channels=1,
            classes=10,
            labels="the kind of clothing",
            people="none",
            block=f"stretch of {BLOCK_ROWS:,} rows",
            blocks=70,
            train_rows=60_000,
            files=(FASHION_MNIST,),
            beware="its files have the names of MNIST's: each set needs a folder of its own",
            used_for="a second set at the paper's scale, with more texture than digits",
        ),
        Card(
            name="orl_faces",
            what="portraits of 40 people, 10 of each, in front of a dark background",
            source="F. Samaria and A. Harter, Parameterisation of a stochastic model for human "
            "face identification, 1994 (Olivetti Research Laboratory, later AT&T)",
            images=PEOPLE * PER_PERSON,
            shape=ORL_SHAPE,
            channels=1,
            levels=(0, 251),
            classes=PEOPLE,
            labels="the person",
            people="40, and a split keeps them apart: nobody on a private picture is on a public "
            "one",
            block="person",
            blocks=PEOPLE,
            shares=(20, 16, 4),
            files=(ORL,),
            beware="the loader takes the middle square, because the pictures are not square; the "
            "referee's classifier knows none of the private people: do not score by 'recognized'",
            used_for="faces at profile gpu, where a picture can be matched with its person",
            ethics="these are real people, photographed in a laboratory in the 1990s. Keep their "
            "pictures, and reconstructions of them, to the experiments.",
        ),
        Card(
            name="omniglot",
            what="characters of many alphabets, each drawn by 20 people; here those of the two "
            "small archives (the full ones have "
            f"{ARCHIVES['background'].images + ARCHIVES['evaluation'].images:,} "
            "drawings)",
            source="B. Lake, R. Salakhutdinov and J. Tenenbaum, Human-level concept learning "
            "through probabilistic program induction, Science 350, 2015",
            images=4840,
            shape=OMNIGLOT_SHAPE,
            channels=1,
            levels=(0, 1),
            classes=242,
            labels="alphabet and character",
            people="20 people for each character, who are not identified across alphabets: a split "
            "keeps alphabets apart, not people",
            block="alphabet",
            blocks=8,
            files=tuple(ARCHIVES.values()),
            beware="as published, strokes are black on white: the loader inverts them; the small "
            "archives share two alphabets, and a drawing in both is taken once",
            used_for="one of the paper's sets at profiles gpu and paper",
        ),
        Card(
            name="cifar10",
            what="small color photographs of animals and vehicles",
            source="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            images=PER_FILE * len(NAMES),
            shape=CIFAR10_SHAPE[1:],
            channels=3,
            classes=len(CLASSES),
            labels="what is shown",
            people="none named; the archive does not say which photographs belong together",
            block=f"stretch of {CIFAR10_BLOCK:,} rows",
            blocks=PER_FILE * len(NAMES) // CIFAR10_BLOCK,
            train_rows=PER_FILE * (len(NAMES) - 1),
            files=(CIFAR10,),
            beware="the archive for Python holds pickles, and reading one runs what it contains: "
            "the binary version is read instead",
            used_for="foreign data, and color, at profiles gpu and paper",
            ethics="it comes from a collection of web pictures that its makers have withdrawn "
            "since. Some pictures show people, who were not asked.",
        ),
        Card(
            name="celeba",
            what="portraits of well-known people from the web, aligned by their eyes",
            source="Z. Liu, P. Luo, X. Wang and X. Tang, Deep learning face attributes in the "
            "wild, 2015",
            images=COUNT,
            shape=CELEBA_SHAPE,
            channels=3,
            classes=2,
            labels=f"whether an attribute is present, {LABEL!r} unless asked otherwise",
            attributes=(
                *("5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald"),
                *("Bangs", "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry"),
                *("Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses", "Goatee"),
                *("Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open"),
                *("Mustache", "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose"),
                *("Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling", "Straight_Hair"),
                *("Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick"),
                *("Wearing_Necklace", "Wearing_Necktie", "Young"),
            ),
            people=f"a split keeps them apart where {IDENTITIES} lies beside the other "
            "files; without it, one person may be in all parts",
            block=f"person (picture, without {IDENTITIES})",
            blocks=COUNT,
            files=(CELEBA,),
            beware="all pictures at 64 x 64 take 10 GB: pass n=; a site that is asked too often "
            "sends a web page in place of a file",
            used_for="photographs of faces at profiles gpu and paper, if you may use them",
            ethics="these people were not asked. An attribute such as 'Attractive' or 'Male' is "
            "an annotator's judgment of a picture, not a fact about a person. Show no "
            "reconstruction where a number is enough.",
        ),
        Card(
            name="tiny_imagenet",
            what="color photographs of 200 kinds of things, reduced to 64 x 64",
            source="the course CS231n at Stanford, from ImageNet (J. Deng et al., 2009)",
            images=TRAIN + VALIDATION,
            shape=TINY_IMAGENET_SHAPE,
            channels=3,
            classes=200,
            labels="what is shown",
            people="none named; nothing says which photographs belong together",
            block="picture",
            blocks=TRAIN + VALIDATION,
            train_rows=TRAIN,
            files=(TINY_IMAGENET,),
            beware="a class has the number of its line in wnids.txt, and other libraries number "
            "sorted names; some originals are gray; all pictures at 64 x 64 take 5.4 GB",
            used_for="varied photographs at profiles gpu and paper, if you may use them",
            ethics="some pictures show people, who were not asked.",
        ),
    )
}
