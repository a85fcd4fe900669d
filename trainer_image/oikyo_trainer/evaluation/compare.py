"""python -m oikyo_trainer.evaluation.compare: two versions on the test rows that both were judged by.

Behind `oikyo compare`. Both models are asked again, row by row, so that the rows can be paired.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers import AutoModelForCausalLM

from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED
from oikyo.api.tasks import LOWER_IS_BETTER

from ..errors import Refused
from ..offline import go_offline
from .classification import Question, ask_classifier
from .generation import row_losses
from .models import context_length, load_config, load_model, load_tokenizer
from .number_scores import SCORES
from .paired import CONFIDENCE, Difference, Discordant, Ints, difference, discordant, macro_f1
from .prompts import encode
from .record import VersionRecord, read_record
from .regression import ask_numbers, truth_of
from .rows import Dataset, Row, choose, open_dataset

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Side:
    """One of the two versions."""

    name: str
    folder: Path
    record: VersionRecord
    dataset: Dataset

    def training_rows(self) -> tuple[int, int]:
        """Rows of the training split, and how many of them are synthetic."""
        file = pq.ParquetFile(self.dataset.folder / "train.parquet")
        rows = int(file.metadata.num_rows)
        if SYNTHETIC not in file.schema_arrow.names:
            return rows, 0
        marks = file.read(columns=[SYNTHETIC])[SYNTHETIC]
        return rows, int(pc.count(marks).as_py())


@dataclass(frozen=True)
class Compared:
    """What came of it."""

    rows: int
    differences: tuple[Difference, ...]
    discordant: Discordant | None = None


def compare(one: Side, other: Side, max_rows: int | None) -> Compared:
    """Ask both models the same rows; Refused when they were judged by different ones."""
    rows = choose(_same_rows(one, other), max_rows)
    if one.record.task == "TextClassification":
        return _classifiers(one, other, rows)
    if one.record.task == "TextRegression":
        return _numbers(one, other, rows)
    if one.dataset.shape in ("preference", "unpaired"):
        raise Refused(
            "CannotPair",
            "models that learnt preferences are not compared row by row yet",
            next_step="Compare the metrics in the reports of both jobs",
        )
    return _generators(one, other, rows)


def _same_rows(one: Side, other: Side) -> list[Row]:
    if (one.record.task, one.dataset.shape) != (other.record.task, other.dataset.shape):
        raise Refused(
            "TasksDiffer",
            f"{one.name} learnt {one.record.task} from {one.dataset.shape} rows, {other.name} "
            f"{other.record.task} from {other.dataset.shape} rows",
            next_step="Compare two versions of one task",
        )
    rows, others = one.dataset.rows("test"), other.dataset.rows("test")
    if sorted(map(str, rows)) != sorted(map(str, others)):
        raise Refused(
            "TestRowsDiffer",
            f"{one.name} was judged by {len(rows)} test rows and {other.name} by {len(others)} that are "
            "not the same: a difference would speak of the rows as much as of the models",
            next_step="Keep the test rows apart in data.testSources, and compare again",
        )
    return rows


def _classifiers(one: Side, other: Side, rows: Sequence[Row]) -> Compared:
    labels = one.dataset.labels
    index = {label: column for column, label in enumerate(labels)}
    truth = np.array([index[row["label"]] for row in rows])
    said = [
        ask_classifier(side.folder, Question(rows, labels, side.record.reading), lambda _: None)
        for side in (one, other)
    ]
    guesses = [answer.argmax(axis=1) for answer in said]
    losses = [-answer[np.arange(len(rows)), truth] for answer in said]

    def accuracy(chosen: Ints) -> tuple[float, float]:
        first, second = ((guess[chosen] == truth[chosen]).mean() for guess in guesses)
        return float(first), float(second)

    def f1(chosen: Ints) -> tuple[float, float]:
        first, second = (macro_f1(truth[chosen], g[chosen], len(labels)) for g in guesses)
        return first, second

    def loss(chosen: Ints) -> tuple[float, float]:
        return float(losses[0][chosen].mean()), float(losses[1][chosen].mean())

    found = (
        difference("accuracy", len(rows), accuracy, higher_is_better=True),
        difference("f1_macro", len(rows), f1, higher_is_better=True),
        difference("loss", len(rows), loss, higher_is_better=False),
    )
    apart = discordant(guesses[0] == truth, guesses[1] == truth)
    return Compared(len(rows), found, apart)


def _numbers(one: Side, other: Side, rows: Sequence[Row]) -> Compared:
    truth = truth_of(rows)
    said = [
        ask_numbers(side.folder, Question(rows, (), side.record.reading), lambda _: None)
        for side in (one, other)
    ]

    def metric(name: str) -> Callable[[Ints], tuple[float, float]]:
        def both(chosen: Ints) -> tuple[float, float]:
            first, second = (SCORES[name](one[chosen], truth[chosen]) for one in said)
            return first, second

        return both

    found = tuple(
        difference(name, len(rows), metric(name), higher_is_better=name not in LOWER_IS_BETTER)
        for name in ("r2", "rmse", "mae", "spearman")
    )
    return Compared(len(rows), found)


def _generators(one: Side, other: Side, rows: Sequence[Row]) -> Compared:
    sums, counts = [], []
    for side in (one, other):
        context = context_length(load_config(side.folder))
        reading = side.record.reading.for_all(context)
        encoded = encode(load_tokenizer(side.folder), rows, side.dataset.shape, reading)
        model = load_model(AutoModelForCausalLM, side.folder)
        part, tokens = row_losses(model, encoded)
        sums.append(part)
        counts.append(tokens)

    def loss(chosen: Ints) -> tuple[float, float]:
        first, second = (
            float(part[chosen].sum() / max(1, tokens[chosen].sum()))
            for part, tokens in zip(sums, counts, strict=True)
        )
        return first, second

    return Compared(len(rows), (difference("loss", len(rows), loss, higher_is_better=False),))


def page(one: Side, other: Side, found: Compared) -> str:
    """What a person reads."""
    width = max(14, len(one.name) + 2, len(other.name) + 2)
    lines = [
        f"{'':16}{one.name:>{width}}{other.name:>{width}}{'difference':>13}   "
        f"{CONFIDENCE:.0%} interval"
    ]
    for item in found.differences:
        interval = f"{item.low:+.4f} to {item.high:+.4f}"
        lines.append(
            f"{item.name:16}{item.one:>{width}.4f}{item.other:>{width}.4f}"
            f"{item.one - item.other:>+13.4f}   {interval:20} {_word(item)}"
        )
    trained = [_trained(side) for side in (one, other)]
    lines += [
        f"{'training rows':16}{trained[0]:>{width}}{trained[1]:>{width}}",
        f"{'test rows':16}{found.rows:>{width}}{'the same':>{width}}",
        "",
    ]
    if found.discordant is not None:
        apart = found.discordant
        p = f"= {apart.p:.3f}" if apart.p >= 0.001 else "< 0.001"
        lines.append(
            f"{apart.one} rows only {one.name} has right, {apart.other} only {other.name}: as uneven by "
            f"chance with p {p} (McNemar, exact)"
        )
    lines += [
        _verdict(one, other, found),
        "The interval is over rows of this kind. Each was trained once: another training.seed may move "
        "a result as much.",
    ]
    return "\n".join(lines) + "\n"


def _trained(side: Side) -> str:
    rows, made = side.training_rows()
    return f"{rows} ({made} made)" if made else str(rows)


def _word(item: Difference) -> str:
    if item.by_chance:
        return "may be chance"
    better = (item.one > item.other) == item.higher_is_better
    return "better" if better else "worse"


def _verdict(one: Side, other: Side, found: Compared) -> str:
    first = found.differences[0]
    sure = first.by_chance if found.discordant is None else found.discordant.p >= 1 - CONFIDENCE
    if sure:
        return f"On {found.rows} rows the difference in {first.name} may be chance."
    better = one.name if (first.one > first.other) == first.higher_is_better else other.name
    return f"On {found.rows} rows {better} has the better {first.name}, by more than chance."


def report(one: Side, other: Side, found: Compared) -> dict[str, object]:
    """For programs."""
    sides = {}
    for side in (one, other):
        rows, made = side.training_rows()
        sides[side.name] = {
            "version": f"{side.record.model}/{side.record.version}",
            "dataset": side.record.lineage.dataset_digest,
            "trainingRows": rows,
            "synthetic": made,
        }
    apart = found.discordant
    return {
        "rows": found.rows,
        "sides": sides,
        "differences": [asdict(item) | {"by_chance": item.by_chance} for item in found.differences],
        "mcnemar": None if apart is None else {**asdict(apart), "p": apart.p},
    }


def main(argv: list[str] | None = None) -> int:
    """Compare two versions; prints a table or JSON."""
    parser = argparse.ArgumentParser(prog="oikyo compare")
    parser.add_argument("--workspace", type=Path, required=True)
    for name in ("one", "other"):
        parser.add_argument(f"--{name}", nargs=2, metavar=("NAME", "FOLDER"), required=True)
    parser.add_argument("--max-rows", type=int)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    go_offline()
    try:
        one, other = (_side(given.workspace, *pair) for pair in (given.one, given.other))
        found = compare(one, other, given.max_rows)
    except Refused as error:
        print(f"error: {error.message}\n       next: {error.next_step}", file=sys.stderr)
        return EXIT_REFUSED
    told = json.dumps(report(one, other, found), indent=2) + "\n"
    print(told if given.json else page(one, other, found), end="")
    return EXIT_DONE


def _side(workspace: Path, name: str, folder: str) -> Side:
    place = workspace / folder
    record = read_record(place)
    if record is None:
        raise Refused(
            "VersionMissing",
            f"{place} is no version: it has no readable record.json",
            next_step="Run the job again",
        )
    dataset = open_dataset(workspace, record.lineage.dataset_digest)
    return Side(name, place, record, dataset)


if __name__ == "__main__":
    sys.exit(main())
