"""The dataset card: README.md of a version, with the metadata header that the Hugging Face hub reads.

https://huggingface.co/docs/hub/datasets-cards: the `configs` of the header say which file is which
split, so that `datasets.load_dataset(FOLDER)` opens a version as it stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oikyo.api.tasks import FACTS, Task

from .split import SIDES

FILE = "README.md"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
LARGEST = "n>1M"


def card(
    task: Task, digest: str, seed: int, rows: Mapping[str, int], report: Mapping[str, Any]
) -> str:
    """The card of a version with `rows` on each side; `report` as in report.json."""
    return "\n".join([*_header(task, rows), "", *_body(task, digest, seed, rows, report)]) + "\n"


def _header(task: Task, rows: Mapping[str, int]) -> list[str]:
    total = sum(rows.values())
    size = next((name for end, name in SIZES if total < end), LARGEST)
    files = [
        line
        for side in SIDES
        if rows[side]
        for line in (f"  - split: {side}", f"    path: {side}.parquet")
    ]
    return [
        "---",
        "task_categories:",
        f"- {FACTS[task].tag}",
        "size_categories:",
        f"- {json.dumps(size)}",
        "tags:",
        "- oikyo",
        "configs:",
        "- config_name: default",
        "  data_files:",
        *files,
        "---",
    ]


def _body(
    task: Task, digest: str, seed: int, rows: Mapping[str, int], report: Mapping[str, Any]
) -> list[str]:
    columns = report.get("columns", {})
    return [
        f"# Prepared rows for {task}",
        "",
        f"Digest `{digest}`, seed of the split {seed}.",
        "",
        "| split | rows |",
        "|---|---|",
        *(f"| {side} | {rows[side]} |" for side in SIDES),
        "",
        *_times(report),
        "## Where the rows come from",
        "",
        "`source` of each row names its file and line, `id` is the hash of its input and answer.",
        "",
        "| source | rows | unreadable |",
        "|---|---|---|",
        *(f"| {_cell(s['name'])} | {s['rows']} | {s['bad']} |" for s in report.get("sources", ())),
        "",
        "Columns: " + (", ".join(f"{r} from `{_cell(c)}`" for r, c in columns.items()) or "none"),
        "",
        *_weights(report),
        "## What was left out",
        "",
        f"- {report.get('bad_rows', {}).get('count', 0)} rows that cannot be used",
        f"- {report.get('duplicates', {}).get('count', 0)} rows that stand twice",
        f"- {report.get('leaked', {}).get('count', 0)} rows that also stand in the test set",
        *_benchmarks(report),
        "",
        *_cleaned(report),
        "",
        *_augmented(report.get("augment")),
        "## Limits",
        "",
        "Nobody vouches for the answers: checks find what contradicts itself, not what is wrong. "
        "report.json holds what was found.",
    ]


def _benchmarks(report: Mapping[str, Any]) -> list[str]:
    dropped = report.get("contaminated", {}).get("count", 0)
    found = report.get("contamination", ())
    return [
        *([f"- {dropped} rows that hold an item of a benchmark"] if dropped else []),
        *(["", "## Benchmarks", ""] if found else []),
        *(
            f"- {one['name']}: {one['rows']} rows to learn hold one of its {one['items']} items"
            f"{', and were dropped' if one['action'] == 'Remove' and one['rows'] else ''}"
            for one in found
        ),
    ]


def _weights(report: Mapping[str, Any]) -> list[str]:
    if "weights" not in report:
        return []
    return [
        "An epoch shows rows of some sources more often than others (`learn.times`):",
        "",
        "| source | weight | different training rows | rows an epoch |",
        "|---|---|---|---|",
        *(
            f"| {_cell(s['name'])} | {s['weight']} | {s['train_rows']} | {s['rows_an_epoch']} |"
            for s in report["weights"]
        ),
        "",
    ]


def _times(report: Mapping[str, Any]) -> list[str]:
    if "times" not in report:
        return []
    times = report["times"]
    return [
        f"Split by the time in `{_cell(times['column'])}`:",
        "",
        *(f"- {name}: from {s['from']} until {s['until']}" for name, s in times["sides"].items()),
        f"- {times['newer_in_train']} training rows are newer than that: they resemble an older row, "
        "or are all that their class has",
        "",
    ]


def _cleaned(report: Mapping[str, Any]) -> list[str]:
    steps = [
        one for one in report.get("cleaned", ()) if one["step"] not in ("duplicates", "leaked")
    ]
    if not steps:
        return [
            "The texts stand as in the sources: no step of cleaning was asked for, or none did anything."
        ]
    return [
        "## How the texts were cleaned",
        "",
        "Every changed and dropped row stands in cleaned.jsonl, with its file and line.",
        "",
        "| step | rows changed | rows left out |",
        "|---|---|---|",
        *(f"| {one['step']} | {one['changed']} | {one['dropped']} |" for one in steps),
    ]


def _augmented(told: Mapping[str, Any] | None) -> list[str]:
    if not told:
        return []
    by = ", ".join(f"{part['rows']} by {name}" for name, part in told["methods"].items())
    left = ", ".join(f"{count} {reason}" for reason, count in told["dropped"].items()) or "none"
    return [
        "## Synthetic rows",
        "",
        f"{told['rows']} rows of the training split were made of {told['of']} others ({by}; seed "
        f"{told['seed']}). Their column `synthetic` names the method, `source` the row they were made "
        f"of. Left out: {left}.",
        "",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("`", "'")
