"""Measuring both models on the same rows: what the task asks, and what "base" means for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.fewshot import PREFIX
from oikyo.api.stages import EvaluateSpec

from ..data.fewshot import load
from ..errors import Refused
from ..labelset import all_names
from ..numbers import Scale
from .classification import Question, ask_base, ask_classifier, right, score
from .cut import Reading
from .fewshot import encode_with_examples
from .generation import GENERATED_ROWS, measure_generator
from .models import context_length, load_config, load_tokenizer
from .preferences import measure_preferences, read_answers
from .prompts import Encoded, encode
from .record import SliceScore
from .regression import ask_base_for_numbers, ask_numbers, score_numbers
from .rows import Dataset, Row, choose
from .several import ask_base_for_sets, ask_sets, right_sets, score_sets
from .slices import slice_losses, slice_scores

Tell = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""


@dataclass(frozen=True)
class Models:
    """The folders of the two models that are compared."""

    tuned: Path
    base: Path


@dataclass(frozen=True)
class Measured:
    """Both models on the same rows."""

    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    baseline_method: str
    rows: int
    generated_rows: int = 0
    slices: tuple[SliceScore, ...] = ()


def measure(spec: EvaluateSpec, models: Models, dataset: Dataset, tell: Tell) -> Measured:
    """Both models on the test split."""
    rows = choose(dataset.rows("test"), spec.evaluation.max_rows)
    if not rows:
        raise Refused(
            "TestSplitEmpty",
            "the test split has no rows, so there is nothing to judge the result by",
            next_step="Give data.testSources, or raise data.split.test, in a job with a new name.",
        )
    if spec.task == "TextClassification":
        return _classifiers(spec, models, dataset, rows, tell)
    if spec.task == "TextRegression":
        return _numbers(spec, models, dataset, rows, tell)
    if spec.training.objective != "Supervised":
        return _preferences(spec, models, dataset, rows, tell)
    return _generators(spec, models, dataset, rows, tell)


def measure_tuned(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> dict[str, float]:
    """The tuned model alone, on `rows`, with the metrics of the task."""
    reading = reading_of(spec, models)
    if spec.task == "TextClassification":
        names = all_names(dataset.labels) if dataset.several else dataset.labels
        question = Question(rows, names, reading, spec.training.seed)
        if dataset.several:
            return score_sets(ask_sets(models.tuned, question, tell), question)
        return score(ask_classifier(models.tuned, question, tell), question)
    if spec.task == "TextRegression":
        question = Question(rows, (), reading)
        return score_numbers(ask_numbers(models.tuned, question, tell), question, _scale(dataset))
    tokenizer = load_tokenizer(models.tuned)
    if spec.training.objective != "Supervised":
        answers = read_answers(tokenizer, rows, dataset.shape, reading)
        return measure_preferences(models.tuned, answers, tell)
    encoded = encode(tokenizer, rows, dataset.shape, reading)
    return measure_generator(
        models.tuned,
        tokenizer,
        encoded,
        generate=encoded[: _asked(spec, dataset)],
        max_new_tokens=spec.evaluation.max_new_tokens,
        tell=tell,
    ).metrics


def _asked(spec: EvaluateSpec, dataset: Dataset) -> int:
    """Rows whose answer is generated; a text to go on with answers nothing."""
    return 0 if dataset.shape == "text" else spec.evaluation.max_rows or GENERATED_ROWS


def _classifiers(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> Measured:
    if dataset.several:
        return _several(spec, models, dataset, rows, tell)
    question = Question(rows, dataset.labels, reading_of(spec, models), spec.training.seed)
    tuned = ask_classifier(models.tuned, question, lambda share: tell(share * 0.3))
    base, method = ask_base(
        models.base, dataset.rows("train"), question, lambda share: tell(0.3 + share * 0.7)
    )
    slices = slice_scores(rows, right(tuned, question), right(base, question))
    return Measured(score(tuned, question), score(base, question), method, len(rows), slices=slices)


def _several(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> Measured:
    names = all_names(dataset.labels)
    question = Question(rows, names, reading_of(spec, models), spec.training.seed)
    tuned = ask_sets(models.tuned, question, lambda share: tell(share * 0.3))
    base, method = ask_base_for_sets(
        models.base, dataset.rows("train"), question, lambda share: tell(0.3 + share * 0.7)
    )
    slices = slice_scores(rows, right_sets(tuned, question), right_sets(base, question))
    scores = score_sets(tuned, question), score_sets(base, question)
    return Measured(*scores, method, len(rows), slices=slices)


def _numbers(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> Measured:
    question = Question(rows, (), reading_of(spec, models))
    tuned = ask_numbers(models.tuned, question, lambda share: tell(share * 0.3))
    base, method = ask_base_for_numbers(
        models.base, dataset.rows("train"), question, lambda share: tell(0.3 + share * 0.7)
    )
    metrics, baseline = (score_numbers(said, question, _scale(dataset)) for said in (tuned, base))
    return Measured(metrics, baseline, method, len(rows))


def _scale(dataset: Dataset) -> Scale:
    assert dataset.scale is not None  # every version of numbers has it
    return dataset.scale


def _generators(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> Measured:
    tokenizer = load_tokenizer(models.tuned)
    encoded = encode(tokenizer, rows, dataset.shape, reading_of(spec, models))
    fits(models.base, encoded)
    asked = encoded[: _asked(spec, dataset)]
    found = [
        measure_generator(
            folder,
            tokenizer,
            encoded,
            generate=asked,
            max_new_tokens=spec.evaluation.max_new_tokens,
            tell=lambda share, start=start: tell(start + share / 2),  # type: ignore[misc]
        )
        for folder, start in ((models.tuned, 0.0), (models.base, 0.5))
    ]
    method = "the base model, given the very same tokens in the same batches"
    metrics, baseline = (one.metrics for one in found)
    slices = slice_losses(rows, *(one.losses for one in found))
    if spec.few_shot is not None and dataset.shape != "text":
        shown = _with_examples(spec, models, dataset, rows, tokenizer)
        metrics, baseline = (
            {**plain, **_few_shot(spec, folder, tokenizer, shown, len(asked))}
            for plain, folder in ((metrics, models.tuned), (baseline, models.base))
        )
        method += f"; {PREFIX}...: each with {spec.few_shot.examples} examples in the prompt"
    return Measured(metrics, baseline, method, len(rows), len(asked), slices=slices)


def _with_examples(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tokenizer: Any
) -> list[Encoded]:
    assert spec.few_shot is not None
    context = min(context_length(load_config(folder)) for folder in (models.tuned, models.base))
    workspace = dataset.folder.parent.parent
    return encode_with_examples(
        tokenizer,
        rows,
        dataset.shape,
        reading_of(spec, models),
        load(workspace / layout.few_shot(spec.dataset_digest, spec.few_shot)),
        context=context,
        room=spec.evaluation.max_new_tokens,
    )


def _few_shot(
    spec: EvaluateSpec, folder: Path, tokenizer: Any, shown: Sequence[Encoded], asked: int
) -> dict[str, float]:
    """The metrics of a model that reads examples first, under names of their own."""
    found = measure_generator(
        folder,
        tokenizer,
        shown,
        generate=shown[:asked],
        max_new_tokens=spec.evaluation.max_new_tokens,
        tell=lambda share: None,
    )
    return {PREFIX + name: value for name, value in found.metrics.items()}


def _preferences(
    spec: EvaluateSpec, models: Models, dataset: Dataset, rows: Sequence[Row], tell: Tell
) -> Measured:
    tokenizer = load_tokenizer(models.tuned)
    answers = read_answers(tokenizer, rows, dataset.shape, reading_of(spec, models))
    fits(models.base, answers.encoded)
    metrics = measure_preferences(models.tuned, answers, lambda share: tell(share / 2))
    baseline = measure_preferences(models.base, answers, lambda share: tell(0.5 + share / 2))
    method = "the base model, given the very same prompts and answers"
    return Measured(metrics, baseline, method, len(rows))


def reading_of(spec: EvaluateSpec, models: Models) -> Reading:
    """Rows are read as in training; but none is dropped."""
    context = context_length(load_config(models.tuned))
    return Reading.of(spec.training, context).for_all(context)


def fits(base: Path, rows: Sequence[Encoded]) -> None:
    """Both models read the tuned model's tokens, so that they are paired: the base must know them."""
    known = int(load_config(base).get_text_config().vocab_size)
    largest = max(int(row.tokens.max(initial=0)) for row in rows)
    if largest >= known:
        raise Refused(
            "VocabulariesDiffer",
            f"the tuned model's tokenizer makes token {largest}, the base model knows {known}",
            next_step="Start from a base model whose vocabulary the training does not enlarge.",
        )
