"""`splitlab data`: list, describe, download and check the data sets."""

from __future__ import annotations

import argparse

import splitlab as sl
from splitlab.course.doctor import whereabouts
from splitlab.data import download, published

DATA_SETS = (*sl.data.BUILT_IN, *sl.data.PUBLISHED)  # of Omniglot, each archive by itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of `splitlab data` to its parser."""
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    listed = actions.add_parser(
        "list",
        help="show where each set is",
        description="Show where each set is, or what is wrong there; the exit status is always 0.",
    )
    listed.set_defaults(run=data_list)
    card = actions.add_parser("card", help="what a set contains, its terms, what to watch out for")
    card.set_defaults(run=data_card)
    card.add_argument(
        "name", choices=sl.data_cards.CARDS, metavar="NAME", help=", ".join(sl.data_cards.CARDS)
    )
    get = actions.add_parser("get", help="download a set to the cache, if it is not here yet")
    get.set_defaults(run=data_get)
    get.add_argument("name", choices=DATA_SETS, metavar="NAME", help=", ".join(DATA_SETS))
    check = actions.add_parser("check", help="compare the files with the originals (checksums)")
    check.set_defaults(run=data_check)
    check.add_argument(
        "name", choices=DATA_SETS, metavar="NAME", nargs="?", help="one set; all by default"
    )


def data_list(options: argparse.Namespace) -> None:
    """Print each data set and where it is."""
    for name in DATA_SETS:
        print(f"{name:<20} {whereabouts(name)[1]}")


def data_card(options: argparse.Namespace) -> None:
    """Print the card of a data set."""
    print(sl.data_cards.card(options.name))


def data_get(options: argparse.Namespace) -> None:
    """Download a data set if it is missing, and print where it is."""
    if options.name in sl.data.PUBLISHED:
        files = sl.data.PUBLISHED[options.name]
        folder = published.named_folder(files, None) or download.fetch(files)
        published.paths(files, folder)
    print(f"{options.name:<20} {whereabouts(options.name)[1]}")


def data_check(options: argparse.Namespace) -> int:
    """Compare the data sets that are here with the originals; return 1 if something is wrong.

    Raises:
        DataError: If the data set asked for is not here.
    """
    wrong = False
    for name in [options.name] if options.name else DATA_SETS:
        files = sl.data.PUBLISHED.get(name)
        try:
            if name == "digits":
                sl.data.digits()  # refuses another file than the one whose forms are known
            found = published.locate(files) if files else None
        except sl.DataError as error:
            if options.name:
                raise
            print(f"{name:<20} {error}")
            wrong = True
            continue
        if options.name and files and not found:
            does = "explains how to get it" if files.by_hand else "downloads it"
            raise sl.DataError(f"{name} is not here; `splitlab data get {name}` {does}.")
        complaints = files.check(found.folder) if found else []
        state = ": the original files" if found and not complaints else ""
        print(f"{name:<20} {whereabouts(name)[1]}{state}")
        for complaint in complaints:
            print(f"  {complaint}")
        if complaints and found.owner == "cache" and not files.by_hand:
            print(f"  `splitlab data get {name}` downloads these files again.")
        wrong |= bool(complaints)
    return int(wrong)
