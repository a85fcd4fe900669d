"""Compare two files or prepared versions: rows added, removed, changed, and what drifted.

oikyo data diff tickets-may.jsonl tickets-june.jsonl
oikyo data diff .oikyo/workspace/datasets/A .oikyo/workspace/datasets/B --json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from oikyo.api.stages import EXIT_DONE

from ...errors import Refused
from ..diff import diff
from ..insight.source import open_data
from ..insight.table import Table
from ..version import pretty
from . import reading

MOST = 2_000_000
"""Rows of a side: their ids and the beginnings of their texts are held in memory."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--json", action="store_true", help="for programs")
    reading.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    old, new = (_table(path, arguments) for path in (arguments.old, arguments.new))
    if old.shape != new.shape:
        raise Refused(
            "MixedShapes",
            f"{arguments.old} holds {old.shape} rows, {arguments.new} {new.shape} rows",
            next_step="Compare data of one shape",
        )
    told = diff(old, new)
    sys.stdout.write(pretty(told) if arguments.json else "\n".join(_lines(told)) + "\n")
    return EXIT_DONE


def _table(path: Path, arguments: argparse.Namespace) -> Table:
    opened = open_data(path, reading.said(arguments), MOST, made=True)
    reading.warn(opened)
    table = opened.table
    if table.sampled:
        raise Refused(
            "TooManyRows",
            f"{path} has {table.total} rows, at most {MOST} are compared",
            next_step="Compare parts of it",
        )
    return table


def _lines(told: dict[str, Any]) -> list[str]:  # JSON of diff.py
    rows = told["rows"]
    counts = {
        "same": rows["same"],
        **{k: told[k]["count"] for k in ("added", "removed", "changed")},
    }
    if told["moved"]:
        counts["other side"] = told["moved"]
    lines = [f"{name:<10}  {count:>9}" for name, count in counts.items()]
    for kind in ("added", "removed", "changed"):
        for row in told[kind]["examples"][:3]:
            was = f" (was {row['was']})" if "was" in row else ""
            lines.append(f"  {kind:<8} {row['source']}  {row['text']} | {row['answer']}{was}")
    drift = told["drift"]
    if drift:
        low, high = drift["lengths"]["median"]
        lines.append(f"lengths     {_psi(drift['lengths'])}, median {low} -> {high} characters")
        if drift["classes"]:
            lines.append(f"classes     {_psi(drift['classes'])}{_names(drift['classes'])}")
        if drift["numbers"]:
            low, high = drift["numbers"]["median"]
            lines.append(f"numbers     {_psi(drift['numbers'])}, median {low:g} -> {high:g}")
        words = drift["words"]
        lines.append(
            f"words       JS {words['js']:.3f}; more: {', '.join(words['more'][:5]) or '-'}"
        )
        lines.append(f"            less: {', '.join(words['less'][:5]) or '-'}")
    return lines


def _psi(part: dict[str, Any]) -> str:
    return f"PSI {part['psi']:.3f}, {part['drift']} drift"


def _names(classes: dict[str, Any]) -> str:
    told = [f"{k}: {', '.join(classes[k][:5])}" for k in ("new", "gone") if classes[k]]
    return "".join(f"; {one}" for one in told)
