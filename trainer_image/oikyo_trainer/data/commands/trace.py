"""Say where a row of a prepared version comes from, or what became of a row of a source.

  oikyo data trace VERSION 3f9c12ab      the row whose id begins so: its side, file and line, its cleaning
  oikyo data trace VERSION tickets.csv:17  what became of that line: kept, changed, left out, and why

VERSION is the folder of a prepared version, datasets/DIGEST in the workspace. Texts are shortened and
personal data in them is masked. Exit code 0: found; 64: neither.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oikyo.api.stages import EXIT_DONE

from ...errors import Refused
from ..clean.log import FILE as CLEANED
from ..findings import FILE as FINDINGS
from ..findings import excerpt
from ..insight.source import is_version
from ..split import SIDES
from ..version import SYNTHETIC

MOST = 10
"""Rows that are told; of more the beginning was too short."""


@dataclass(frozen=True)
class Kept:
    """A row of the version."""

    side: str
    id: str
    source: str
    text: str
    synthetic: str | None = None
    """The method of data.augment that made it of the row at `source`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", type=Path, metavar="VERSION", help="folder of the version")
    parser.add_argument("row", metavar="ROW", help="the beginning of an id, or FILE:LINE")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    folder, wanted = arguments.version, arguments.row
    if not is_version(folder):
        step = "Name a folder datasets/DIGEST of a workspace"
        raise Refused("NoVersion", f"{folder} is no prepared version", next_step=step)
    kept = list(_kept(folder, wanted))
    places = {row.source for row in kept} or {wanted}
    told = [one for name in (CLEANED, FINDINGS) for one in _told(folder / name, places)]
    if not kept and not told:
        raise Refused(
            "NoSuchRow",
            f"{folder} has no row {wanted!r}, kept or left out",
            next_step="Write the beginning of an id, or FILE:LINE as report.json names the file",
        )
    if len(kept) > MOST:
        step = "Write more letters of the id, or more of the file's path"
        raise Refused("TooManyRows", f"{len(kept)} rows fit {wanted!r}", next_step=step)
    if arguments.json:
        print(json.dumps({"kept": [vars(row) for row in kept], "told": told}, ensure_ascii=False))
        return EXIT_DONE
    print("\n".join([*_rows(kept), *map(_sentence, told)]))
    return EXIT_DONE


def _kept(folder: Path, wanted: str) -> Iterator[Kept]:
    """Rows whose id begins with `wanted`, or whose place is or ends with it."""
    for side in SIDES:
        file = pq.ParquetFile(folder / f"{side}.parquet")
        for batch in file.iter_batches():
            same = pc.or_(
                pc.starts_with(batch["id"], wanted),
                pc.or_(
                    pc.equal(batch["source"], wanted), pc.ends_with(batch["source"], f"/{wanted}")
                ),
            )
            for row in pa.Table.from_batches([batch.filter(same)]).to_pylist():
                made = row.pop(SYNTHETIC, None)
                yield Kept(side, row.pop("id"), row.pop("source"), excerpt(_text(row)), made)


def _text(row: dict[str, Any]) -> str:
    first = next(iter(row.values()))
    return first if isinstance(first, str) else "\n".join(turn["content"] for turn in first)


def _told(path: Path, places: set[str]) -> Iterator[dict[str, Any]]:
    """What the log at `path` has about rows at `places`."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            one: dict[str, Any] = json.loads(line)
            place = f"{one['file']}:{one['line']}"
            if any(place == wanted or place.endswith(f"/{wanted}") for wanted in places):
                yield one


def _rows(kept: list[Kept]) -> Iterator[str]:
    for row in kept:
        how = f"made by {row.synthetic}, in" if row.synthetic else "kept in"
        yield f"{how} {row.side} as {row.id}: {row.source} ({row.text})"


def _sentence(one: dict[str, Any]) -> str:
    place = f"{one['file']}:{one['line']}"
    if "step" not in one:
        return f"{place}: {one['code']}: {one['message']}"
    shown = f" ({one['before']}" if one.get("before") else ""
    shown += f" -> {one['after']})" if one.get("after") else ")" if shown else ""
    return f"{place}: {one['action']} by {one['step']}: {one['reason']}{shown}"
