"""Rank the rows whose label or answer looks wrong, and take a person's decisions back.

  oikyo data review tickets.jsonl -o review.csv        the suspects, the worst first
  (fill in the column `decision`: keep, drop or relabel:<label>; empty keeps the row)
  oikyo data review tickets.jsonl --apply review.csv -o corrected.jsonl

DATA is a file, a folder of files, or the folder of a prepared version.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from oikyo.api.stages import EXIT_DONE

from ...errors import Refused
from ...files import write_atomic
from ..insight.source import open_data
from ..insight.suspects import noise, ranked
from ..insight.table import ROWS
from ..review import Applied, apply, export
from . import reading


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True)
    parser.add_argument("--apply", type=Path, metavar="REVIEW", help="review.csv with decisions")
    parser.add_argument(
        "--new-labels", action="store_true", help="accept labels that no row has yet"
    )
    reading.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    said = reading.said(arguments)
    if not arguments.output.parent.is_dir():
        raise Refused(
            "NoFolder",
            f"there is no folder {arguments.output.parent}",
            next_step="Make it, or write -o to another place",
        )
    if arguments.apply is not None:
        done = apply(
            arguments.data,
            arguments.apply,
            arguments.output,
            said=said,
            new_labels=arguments.new_labels,
        )
        print(_sentence(done, arguments.output))
        return EXIT_DONE
    opened = open_data(arguments.data, said)
    reading.warn(opened)
    table = opened.table
    suspects = ranked(table, noise(table))
    write_atomic(arguments.output, export(table, suspects))
    counts = Counter(code for suspect in suspects for code in suspect.why)
    if table.sampled:
        print(f"looked at {len(table)} of {table.total} rows, chosen by content (at most {ROWS})")
    width = max(map(len, counts), default=0)
    for code, count in sorted(counts.items()):
        print(f"{code:<{width}}  {count:>6} rows")
    print(f"{arguments.output}: {len(suspects)} of {len(table)} rows to look at")
    return EXIT_DONE


def _sentence(done: Applied, output: Path) -> str:
    bad = f", {done.bad} unreadable left out" if done.bad else ""
    return f"{output}: {done.kept} rows, {done.relabelled} relabelled, {done.dropped} dropped{bad}"
