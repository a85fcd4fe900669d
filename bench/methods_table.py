"""The table of bench_methods.py: each method and task over its seeds, and whether it beats its base.

A line is what the bench keeps of one case: name, task, metric, rate, steps, seed, test rows, base and tuned.
"""

from __future__ import annotations

import math
import statistics
from typing import Any


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown, one row for each method and task, over its seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["task"], line["name"]), []).append(line)
    head = [
        "# Methods, measured",
        "",
        "`python bench/bench_methods.py DIR --write docs/reference/methods-measured.md` on the bases of the "
        f"examples: steps of 16 rows, automatic learning rate, metrics on test rows that training never saw "
        f"({_tested(lines)}). The base of the classes is a linear probe on its features; "
        "preferred answers are sentences, and the others the same words in a random order. Over several seeds "
        "the mean is told and the standard deviation; within that of the base, or of the classes within the "
        f"standard error that so many rows leave of the base's share ({_standard_error(lines):.2g}), is noise.",
        "",
        "| method | task | seeds | steps | rate | metric | base | tuned | beats the base |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_row, groups.values())]) + "\n"


def _row(lines: list[dict[str, Any]]) -> str:
    line, values = lines[0], [item["tuned"] for item in lines]
    told = f"{statistics.mean(values):.4g}"
    if len(values) > 1:
        told += f" ± {statistics.stdev(values):.2g}"
    seeds = ", ".join(str(item["seed"]) for item in lines)
    return (
        f"| {line['name']} | {line['task']} | {seeds} | {line['steps']} | {line['rate']} "
        f"| {line['metric']} | {line['base']:.4g} | {told} | {verdict(lines)} |"
    )


def verdict(lines: list[dict[str, Any]]) -> str:
    """Whether the mean over the seeds beats the base by more than they differ among themselves."""
    values, base = [item["tuned"] for item in lines], lines[0]["base"]
    gain = statistics.mean(values) - base
    if lines[0]["metric"] == "loss":
        gain = -gain
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    spread = max(spread, _standard_error(lines))
    if gain > spread:
        return "yes"
    return "**no**, within noise" if gain > -spread else "**no**"


def _standard_error(lines: list[dict[str, Any]]) -> float:
    """Of the base's share of right rows: what the choice of the test rows leaves open; 0 of other metrics."""
    shares = [line for line in lines if line["metric"] == "f1_macro"]
    return max(
        (math.sqrt(one["base"] * (1 - one["base"]) / one["rows"]) for one in shares), default=0.0
    )


def _tested(lines: list[dict[str, Any]]) -> str:
    """How many test rows each task has, in words."""
    told = {"TextClassification": "of the classes", "TextGeneration": "of the answers"}
    rows = {line["task"]: line["rows"] for line in lines}
    return ", ".join(f"{count:,} {told[task]}" for task, count in rows.items())
