"""The table of bench_methods.py: each method and task over its seeds, and whether it beats its base.

A line is what the bench keeps of one case: name, what was chosen, task, metric, rate, steps, seed, and what the tuned and the base
model said of each test row (methods_rows.py).
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from methods_rows import columns, metric, rows_of

from oikyo_trainer.evaluation.paired import Ints, difference

Z = 1.96
"""Of a 95 % interval."""
TEXT = """\
# Methods, measured

`{command}` on the bases of the examples: steps of 16 rows, automatic learning rate, metrics on test rows that \
training never saw ({tested} for each seed). The base of the classes is a linear probe on its features; preferred answers are \
sentences, and the others the same words in a random order. Every seed has a split of its own. Over several seeds the mean is \
told and the standard deviation.

Tuned and base model answer the same rows, so their difference is judged row by row: its standard error over rows is \
that of the paired bootstrap (Efron and Tibshirani 1993, chapter 13; 2,000 samples of the rows that are to test with any \
seed, each sample the same for both models and for every seed). Over several seeds the difference is the mean of theirs, and its \
error is sqrt(rows² + seeds² / number), with the standard deviation of the seeds' differences (Bouthillier et al. 2021, \
"Accounting for Variance in Machine Learning Benchmarks": what varies adds up). A method beats its base where the 95 % interval, \
1.96 errors to both sides, is above 0; of a loss the gain is how much less it is. The error of one seed is of the rows alone: \
another seed may move it.
"""


@dataclass(frozen=True)
class Gain:
    """How much better the tuned models are than their base, and half of the 95 % interval."""

    mean: float
    half: float

    @property
    def verdict(self) -> str:
        if self.mean > self.half:
            return "yes"
        return "**no**, may be chance" if self.mean > -self.half else "**no**"


def table(lines: list[dict[str, Any]], command: str) -> str:
    """Markdown, one row for each method and task, over its seeds."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["task"], line["name"]), []).append(line)
    head = [
        TEXT.format(command=command, tested=_tested(lines)),
        "| method | task | seeds | steps | rate | metric | base | tuned | gain, 95 % | beats the base |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_row, groups.values())]) + "\n"


def _row(lines: list[dict[str, Any]]) -> str:
    line = lines[0]
    base, tuned = (_told([over_all(one[side]) for one in lines]) for side in ("base", "tuned"))
    name = ", ".join(filter(None, (line["name"], line["chosen"])))
    seeds, found = spans([one["seed"] for one in lines]), gain(lines)
    return (
        f"| {name} | {line['task']} | {seeds} | {line['steps']} | {line['rate']} "
        f"| {line['metric']} | {base} | {tuned} "
        f"| {found.mean:.3g} ± {found.half:.2g} | {found.verdict} |"
    )


def _told(values: list[float]) -> str:
    told = f"{statistics.mean(values):.4g}"
    return f"{told} ± {statistics.stdev(values):.2g}" if len(values) > 1 else told


def spans(seeds: list[int]) -> str:
    """42, 44 to 49."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if not runs or seed != runs[-1][1] + 1:
            runs.append([seed, seed])
        runs[-1][1] = seed
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in runs)


def gain(lines: list[dict[str, Any]]) -> Gain:
    """Of one method on one task: the mean over its seeds, and the error that rows and seeds leave."""
    name, higher = lines[0]["metric"], lines[0]["metric"] != "loss"
    sides = [[columns(line[side]) for line in lines] for side in ("tuned", "base")]
    places = _places([line["rows"] for line in lines])

    def both(chosen: Ints) -> tuple[float, float]:
        here = [place[chosen][place[chosen] >= 0] for place in places]
        tuned, base = (
            statistics.mean(metric(said, rows) for said, rows in zip(side, here, strict=True))
            for side in sides
        )
        return tuned, base

    found = difference(name, places.shape[1], both, higher_is_better=higher)
    gains = [over_all(line["tuned"]) - over_all(line["base"]) for line in lines]
    of_seeds = Z * statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    better = found.one - found.other if higher else found.other - found.one
    return Gain(better, math.hypot((found.high - found.low) / 2, of_seeds))


def _places(rows: list[list[int]]) -> Ints:
    """(seeds, rows of any seed): where each row stands among the test rows of a seed; -1: it is none."""
    every = {row: column for column, row in enumerate(dict.fromkeys(chain(*rows)))}
    places = np.full((len(rows), len(every)), -1)
    for seed, tested in enumerate(rows):
        places[seed, [every[row] for row in tested]] = np.arange(len(tested))
    return places


def over_all(said: dict[str, list[float]]) -> float:
    return metric(columns(said), np.arange(rows_of(said)))


def _tested(lines: list[dict[str, Any]]) -> str:
    """How many test rows each task has, in words."""
    told = {"TextClassification": "of the classes", "TextGeneration": "of the answers"}
    rows = {line["task"]: rows_of(line["base"]) for line in reversed(lines)}
    return ", ".join(f"{count:,} {told[task]}" for task, count in rows.items())
