"""Which files of a folder are its rows: plain folders, data sets of the hub, and save_to_disk folders.

Where every file is named for a split (train-00000-of-00002.parquet, test.csv), a training source reads
the training split and a test source the test split: what was kept apart stays apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from .detect import ENDINGS, ending_of
from .plain import open_plain, refuse

TRAIN, TEST = "train", "test"
SPLIT = re.compile(r"(train|training|validation|valid|val|dev|test|testing)(?=[-_.])", re.I)
SAME = {"training": TRAIN, "testing": TEST, **dict.fromkeys(("valid", "val", "dev"), "validation")}
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that speak about the rows; the `datasets` library writes them."""
LARGEST_DESCRIPTION = 16 << 20
AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclass(frozen=True)
class Chosen:
    """The files of a folder that are read."""

    paths: tuple[Path, ...]
    """As they are listed: links are not resolved."""
    split: str = ""
    """Which split of several this is."""
    splits: tuple[str, ...] = ()
    """The splits that the folder has."""


def choose(folder: Path, name: str, given: str, *, test: bool) -> Chosen:
    """The files of `folder` for training or, with `test`, for the test set; none when it has none.

    `given` is the format that the source names, or Auto; Refused when the split that is wanted is
    not among those that the folder has.
    """
    if (folder / "dataset_dict.json").is_file():
        told = _description(folder / "dataset_dict.json", name).get("splits")
        names = [item for item in told if _plain(item)] if isinstance(told, list) else []
        split, own = pick({SAME.get(item, item): item for item in names}, name, test=test)
        return Chosen(_saved(folder / own, f"{name}/{own}"), split, tuple(names))
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return Chosen(_saved(folder, name))
    paths = _listed(folder, given)
    if not paths and (folder / "data").is_dir():
        paths = _listed(folder / "data", given)
    split, found = one_split(paths, name, test=test)
    several = len(found) > 1
    return Chosen(tuple(found[split]), split if several else "", tuple(found) if several else ())


def _description(path: Path, name: str) -> dict[str, Any]:
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise refuse(
            "PathEscapes",
            f"{name}/{path.name} is a link that leads out of its folder",
            "Put the file itself there instead of the link",
        )
    with open_plain(f"{name}/{path.name}", path.resolve()) as file:
        try:
            value = json.loads(file.read(LARGEST_DESCRIPTION))
        except (ValueError, RecursionError):
            raise refuse(
                "UnreadableFile",
                f"{name}/{path.name} is no JSON object",
                "Save the data set again: dataset.save_to_disk(FOLDER)",
            ) from None
    return value if isinstance(value, dict) else {}


def _plain(item: object) -> bool:
    return isinstance(item, str) and bool(re.fullmatch(r"\w[\w.-]{0,254}", item))


def _saved(folder: Path, name: str) -> tuple[Path, ...]:
    """The Arrow files of a saved data set: state.json lists them, caches lie beside them."""
    told = _description(folder / "state.json", name).get("_data_files")
    names = [item.get("filename") for item in told or () if isinstance(item, dict)]
    if not names or not all(_plain(item) for item in names):
        raise refuse(
            "UnreadableFile",
            f"{name}/state.json names no data files",
            "Save the data set again: dataset.save_to_disk(FOLDER)",
        )
    return tuple(folder / str(item) for item in names)


def _listed(folder: Path, given: str) -> list[Path]:
    """Files of the format `given`; with Auto of every known one, text only where there is no other."""
    every = [
        path
        for path in sorted(folder.iterdir(), key=lambda path: path.name)
        if not path.name.startswith(".") and path.name not in DESCRIPTIONS and not path.is_dir()
    ]
    known = [path for path in every if ending_of(path.name) in ENDINGS]
    if given != "Auto":
        own = [path for path in every if ENDINGS.get(ending_of(path.name)) == given]
        return own or known or every
    return [path for path in known if ENDINGS[ending_of(path.name)] != "Text"] or known


def one_split(
    paths: Sequence[AnyPath], name: str, *, test: bool
) -> tuple[str, dict[str, list[AnyPath]]]:
    """The split to read and the files of each, where all are named for one; else "" and all of them."""
    found: dict[str, list[AnyPath]] = {}
    for path in paths:
        match = SPLIT.match(path.name)
        if match is None:
            return "", {"": list(paths)}
        word = match[1].lower()
        found.setdefault(SAME.get(word, word), []).append(path)
    if not found:
        return "", {"": []}
    return pick(found, name, test=test)[0], found


def pick(found: dict[str, Any], name: str, *, test: bool) -> tuple[str, Any]:
    """The split for the side that reads `name`, the only one where there is one; else Refused."""
    wanted = TEST if test else TRAIN
    if len(found) == 1:
        return next(iter(found.items()))
    if wanted in found:
        return wanted, found[wanted]
    there = ", ".join(found) or "none"
    raise refuse(
        "SourceMissing",
        f"the folder {name} has no {wanted} split; its splits are {there}",
        "Name the file or folder of the split that you mean",
    )
