"""Examples for prompts, chosen from the training split: the nearest, the most different, one of each class.

Called by the prepare stage once the version is written; the choice lies beside the rows, in
few-shot/<how>.json, and depends on the rows and the settings alone. `evaluation.fewshot` reads it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oikyo.api import workspace as layout
from oikyo.api.fewshot import FewShot

from ..errors import Refused
from ..evaluation.rows import Dataset, Row, content_key, open_dataset
from ..files import write_atomic
from .slicing import META

CANDIDATES = 50_000
"""Training rows that are looked at: the first, which are a sample, since rows lie in the order of a hash."""
LONGEST = 8_000
"""Characters of an example at most: more would fill the prompt by itself."""
ROWS_AT_ONCE = 256
TEXTS = ("prompt", "completion", "messages")
"""Columns of an example."""
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """Examples, and which of them belong before which test row."""

    examples: list[Row]
    fixed: list[int]
    """For every row, in this order; empty where each row has its own."""
    by_row: dict[str, list[int]]
    """Content key of a test row -> its examples."""


def store(workspace: Path, dataset_digest: str, asked: FewShot) -> Choice:
    """Choose the examples and keep them beside the version, unless the same choice is there."""
    path = workspace / layout.few_shot(dataset_digest, asked)
    if not path.exists():
        choice = choose(open_dataset(workspace, dataset_digest), asked)
        body = json.dumps(choice.__dict__, ensure_ascii=False, sort_keys=True)
        write_atomic(path, body)
    return load(path)


def load(path: Path) -> Choice:
    """The choice that `store` left; Refused where there is none."""
    try:
        return Choice(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise Refused(
            "ExamplesMissing",
            "the workspace holds no examples of this choice for data.fewShot",
            evidence="/".join(path.parts[-4:]),
            next_step="Apply the job under a new name: its prepare stage chooses them again.",
        ) from None


def choose(dataset: Dataset, asked: FewShot) -> Choice:
    """The examples for the test split; Refused where rows cannot be examples."""
    rows, classes = _candidates(dataset, asked.class_by)
    if len(rows) < asked.examples:
        raise Refused(
            "TooFewExamples",
            f"data.fewShot.examples is {asked.examples}, and {len(rows)} training rows of at most "
            f"{LONGEST} characters have a question and an answer",
            next_step=f"Write data.fewShot.examples: {max(1, len(rows))}, or give more rows",
        )
    if asked.choose_by == "Similarity":
        return _nearest(rows, dataset.rows("test"), asked.examples)
    if asked.choose_by == "Diversity":
        chosen = _different(rows, asked)
    else:
        chosen = _of_each_class(classes, asked)
    return Choice([rows[index] for index in chosen], list(range(len(chosen))), {})


def _candidates(dataset: Dataset, class_by: str | None) -> tuple[list[Row], list[str]]:
    """Rows that may be examples, and their classes; without the class that a column says a row is none."""
    rows, classes = list[Row](), list[str]()
    if dataset.shape in ("prompt-completion", "messages"):
        for row in dataset.rows("train", most=CANDIDATES):
            said = answer(row)
            own = row[META + class_by] if class_by else said.strip()
            if own is not None and len(question(row)) + len(said) <= LONGEST:
                rows.append({name: row[name] for name in TEXTS if name in row})
                classes.append(own)
    return rows, classes


def question(row: Row) -> str:
    """What is asked, as text."""
    if "messages" not in row:
        return str(row["prompt"])
    said = [turn["content"] for turn in row["messages"][:-1] if turn["role"] != "system"]
    return "\n".join(said)


def answer(row: Row) -> str:
    """What is answered, as text."""
    if "messages" not in row:
        return str(row["completion"])
    last = row["messages"][-1]
    return str(last["content"] or last.get("tool_calls", ""))


def _nearest(rows: Sequence[Row], test: Sequence[Row], count: int) -> Choice:
    """For each test row the rows most like it, the most like last, next to the question."""
    known, asked = _points([question(row) for row in rows], [question(row) for row in test])
    examples: dict[int, int] = {}
    by_row: dict[str, list[int]] = {}
    for start in range(0, len(test), ROWS_AT_ONCE):
        alike = (asked[start : start + ROWS_AT_ONCE] @ known.T).toarray()
        for row, near in zip(test[start : start + ROWS_AT_ONCE], alike, strict=True):
            # Of rows that are equally near, the first: the same on every machine.
            best = np.lexsort((np.arange(len(near)), -near))[:count][::-1]
            places = [examples.setdefault(int(place), len(examples)) for place in best]
            by_row[content_key(row)] = places
    return Choice([rows[place] for place in examples], [], by_row)


def _different(rows: Sequence[Row], asked: FewShot) -> list[int]:
    """Each the one farthest from those before it (Gonzalez 1985)."""
    points, _ = _points([question(row) for row in rows], [])
    chosen = [int(np.random.default_rng(asked.seed).integers(len(rows)))]
    nearest = np.full(len(rows), -np.inf)
    while len(chosen) < asked.examples:
        alike = np.asarray((points @ points[chosen[-1]].T).todense()).ravel()
        nearest = np.maximum(nearest, alike)
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen


def _of_each_class(classes: Sequence[str], asked: FewShot) -> list[int]:
    """Rows of different classes in turn, the most frequent class first."""
    order = sorted(Counter(classes).items(), key=lambda item: (-item[1], item[0]))
    places: dict[str, list[int]] = {name: [] for name, _ in order}
    for index in np.random.default_rng(asked.seed).permutation(len(classes)).tolist():
        places[classes[index]].append(index)
    chosen: list[int] = []
    for turn in range(order[0][1]):
        chosen += [places[name][turn] for name, count in order if turn < count]
        if len(chosen) >= asked.examples:
            break
    return chosen[: asked.examples]


def _points(known: list[str], asked: list[str]) -> tuple[Any, Any]:
    """TF-IDF of both, rows of length 1, over the words of the first; sparse."""
    from .insight.features import common_words, table
    from .insight.terms import count, only, rarity, words

    found = common_words(known)
    rare = rarity(found)
    return table(found, rare), table(only(count(map(words, asked)), found.terms), rare)
