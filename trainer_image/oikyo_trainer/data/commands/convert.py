"""Convert data files into another format, and into another shape where both mean the same.

  oikyo data convert tickets.csv tickets.parquet
  oikyo data convert chats.jsonl sharegpt.jsonl.gz --to sharegpt
  oikyo data convert pairs.jsonl votes.jsonl --from preference --to unpaired

IN is a file or a folder of files; their format is told from the content. OUT's ending says what is
written: .jsonl, .json, .csv, .tsv, .txt, also with .gz or .zst, .parquet, .arrow. Columns that belong
to no shape stay. What OUT cannot hold is refused, and then OUT is not written. Exit code 0: written;
64: refused.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from oikyo.api.data import Fields
from oikyo.api.stages import EXIT_DONE

from ...errors import Refused
from ..convert.shapes import TARGETS, Target, Unlike, columns_of, reshaper
from ..convert.writers import Values, format_of, write
from ..findings import BadRow, excerpt
from ..intake import LOOK_AHEAD
from ..readers import read
from ..readers.row import Item, Row
from ..sources import DataFile, data_files, here
from . import reading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="IN", help="file or folder of files")
    parser.add_argument("output", type=Path, metavar="OUT", help="its ending says the format")
    parser.add_argument(
        "--from", dest="given", choices=TARGETS, help="shape of IN; default: told by its columns"
    )
    parser.add_argument(
        "--to", dest="target", choices=TARGETS, help="shape of OUT; default: the rows as they are"
    )
    reading.add_names(parser)


def run(arguments: argparse.Namespace) -> int:
    output: Path = arguments.output
    format_of(output)
    files = data_files(here(arguments.data, arguments.format))
    if output.resolve() in {file.path for file in files}:
        raise Refused("SameFile", f"{output} is IN itself", next_step="Name another file for OUT")
    if arguments.given and not arguments.target:
        raise Refused("InvalidUsage", "--from has no effect without --to", next_step="Add --to")
    fields = reading.fields_of(arguments.column)
    count = write(output, lambda: _rows(files, fields, arguments.given, arguments.target))
    if sys.stdout.isatty():
        print(f"{output}: {count} rows")
    return EXIT_DONE


def _rows(
    files: tuple[DataFile, ...], fields: Fields, given: Target | None, target: Target | None
) -> Iterator[Values]:
    for file in files:
        items = (good(file, item) for item in read(file))
        if target is None:
            yield from (dict(row.values) for row in items)
        else:
            yield from _reshaped(file, items, fields, given, target)


def good(file: DataFile, item: Item) -> Row:
    """The row; Refused when it is a bad one."""
    if isinstance(item, BadRow):
        raise Refused(
            "InvalidData",
            replace(item, file=file.name).sentence(),
            next_step="Mend the row, or take it out: oikyo data check lists all such rows",
        )
    return item


def _reshaped(
    file: DataFile, items: Iterator[Row], fields: Fields, given: Target | None, target: Target
) -> Iterator[Values]:
    first = list(itertools.islice(items, LOOK_AHEAD))
    reshape = reshaper(columns_of(first, fields, given, file.name), target)
    for row in itertools.chain(first, items):
        try:
            yield from reshape(row)
        except Unlike as why:
            raise Refused(
                "CannotConvert",
                f"{file.name}:{row.line}: cannot become {target}: {excerpt(str(why), 300)}",
                next_step="Choose another shape with --to, or mend the row",
            ) from None
