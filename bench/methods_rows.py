"""What a model says of each test row, by the functions of the evaluate stage, and a metric over any of the rows.

Tuned and base model are asked the same rows in the same order, so that their difference can be judged row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import AutoModelForCausalLM

from oikyo_trainer.evaluation.classification import Question, ask_base, ask_classifier
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.generation import answer_losses
from oikyo_trainer.evaluation.models import load_model, load_tokenizer
from oikyo_trainer.evaluation.paired import Ints, macro_f1
from oikyo_trainer.evaluation.preferences import answer_log_probabilities, read_answers
from oikyo_trainer.evaluation.prompts import encode
from oikyo_trainer.evaluation.rows import Dataset, Row

Said = dict[str, list[float]]
"""By what a metric needs: a number for each row."""


def ask(
    folder: Path, dataset: Dataset, rows: Sequence[Row], length: int, *, base: bool = False
) -> Said:
    """What the model in `folder` says of `rows`; a base of classes is a linear probe on its features."""
    reading = Reading(length, "End")
    if dataset.shape == "classification":
        return _classes(folder, dataset, Question(rows, dataset.labels, reading), base=base)
    model, tokenizer = load_model(AutoModelForCausalLM, folder), load_tokenizer(folder)
    if dataset.shape not in ("preference", "unpaired"):
        encoded = encode(tokenizer, rows, dataset.shape, reading)
        losses = answer_losses(model, encoded, _untold)
        return {"sums": losses.sums.tolist(), "tokens": losses.tokens.tolist()}
    answers = read_answers(tokenizer, rows, dataset.shape, reading)
    sums, tokens = answer_log_probabilities(model, answers.encoded, _untold)
    if answers.paired:
        return {"gaps": (sums[0::2] - sums[1::2]).tolist()}
    means = sums / np.maximum(tokens, 1)
    return {"means": means.tolist(), "wanted": [float(one) for one in answers.wanted]}


def _classes(folder: Path, dataset: Dataset, question: Question, *, base: bool) -> Said:
    index = {label: column for column, label in enumerate(question.labels)}
    truth = [float(index[row["label"]]) for row in question.rows]
    if base:
        said, _ = ask_base(folder, dataset.rows("train"), question, _untold)
    else:
        said = ask_classifier(folder, question, _untold)
    return {"truth": truth, "guess": said.argmax(axis=1).astype(float).tolist()}


def _untold(_: float) -> None:
    """Nobody watches how far it is."""


def columns(said: Said) -> dict[str, npt.NDArray[Any]]:
    """The same for `metric`."""
    whole = ("truth", "guess")
    return {name: np.array(said[name], dtype=int if name in whole else float) for name in said}


def rows_of(said: Said) -> int:
    """How many rows were asked."""
    return len(next(iter(said.values())))


def metric(said: dict[str, npt.NDArray[Any]], chosen: Ints) -> float:
    """f1_macro, loss or preference_margin over the rows that are `chosen`, as the verdict has it."""
    if "truth" in said:
        truth, guess = said["truth"][chosen], said["guess"][chosen]
        return macro_f1(truth, guess, int(max(said["truth"].max(), said["guess"].max())) + 1)
    if "tokens" in said:
        return float(said["sums"][chosen].sum() / said["tokens"][chosen].sum())
    if "gaps" in said:
        return float(said["gaps"][chosen].mean())
    means, wanted = said["means"][chosen], said["wanted"][chosen] > 0
    return float(means[wanted].mean() - means[~wanted].mean())
