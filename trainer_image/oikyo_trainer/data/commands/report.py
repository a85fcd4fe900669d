"""Write what is known of the data as one HTML page (or JSON): what to fix first, and why.

  oikyo data report tickets.jsonl -o page.html
  oikyo data report tickets.jsonl -o page.html --slice-by country,channel
  oikyo data report tickets.jsonl --json

DATA is a file, a folder of files, or the folder of a prepared version. The page needs no network.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from oikyo.api.stages import EXIT_DONE

from ...errors import Refused
from ...files import write_atomic
from ..insight.overview import section
from ..insight.source import is_version, open_data
from ..page.page import render
from ..review import columns_of
from ..version import pretty
from . import reading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page")
    parser.add_argument(
        "--json", action="store_true", help="the same for programs, to -o or stdout"
    )
    parser.add_argument(
        "--slice-by", default="", metavar="COLUMNS", help="columns that group the rows, with commas"
    )
    reading.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.output is None and not arguments.json:
        raise Refused(
            "NoOutput", "where to write the page is not said", next_step="Add -o page.html"
        )
    said = reading.said(arguments)
    opened = open_data(arguments.data, said)
    reading.warn(opened)
    table, wanted = opened.table, [name for name in arguments.slice_by.split(",") if name]
    if wanted:
        meta = columns_of(arguments.data, wanted, table.ids, said)
        table = replace(table, meta=meta)
    report = {**opened.report, "insight": section(table)}
    name = arguments.data.resolve().name
    if is_version(arguments.data):
        name = name[:12]
    body = pretty(report) if arguments.json else render(name, report, opened.manifest)
    if arguments.output is None:
        sys.stdout.write(body)
        return EXIT_DONE
    write_atomic(arguments.output, body)
    if sys.stdout.isatty():
        kind = "version" if is_version(arguments.data) else "file"
        print(f"{arguments.output}: {len(table)} rows of the {kind} {name}")
    return EXIT_DONE
