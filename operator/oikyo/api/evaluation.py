"""spec.evaluation: the metrics, and what a result must reach."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import ATOMIC, Decimal, Model, Rule
from .crossvalidation import CrossValidation
from .tasks import MetricName


def over_folds(metric: str, word: Literal["mean", "std", "min", "max"]) -> str:
    """The name under which a metric over the folds of a cross-validation stands beside the others."""
    return f"{metric}_cv_{word}"


class Gate(Model):
    """One condition on a hold-out metric. All gates must pass before anything is served."""

    metric: Annotated[
        MetricName,
        Field(
            description="Metric on the test split. TextClassification: accuracy, f1_macro, loss, and f1_micro "
            "where rows have several labels (data.fields.labelSeparator). "
            "TextRegression: r2, rmse, mae, pearson, spearman, loss. "
            "TextGeneration: loss, perplexity, bleu, rouge_l, exact_match; with training.objective "
            "DPO, ORPO or KTO: loss, perplexity, preference_margin, preference_accuracy (pairs). Example: f1_macro."
        ),
    ]
    min: Annotated[
        Decimal | None, Field(description='Least value that passes. Example: "0.80".')
    ] = None
    max: Annotated[
        Decimal | None, Field(description='Greatest value that passes. Example: "1.5".')
    ] = None
    of: Annotated[
        Literal["Test", "CrossValidation"],
        Field(
            description="What is judged: Test, the metric on the test split; CrossValidation, its mean "
            "over the folds of evaluation.crossValidation. Default: Test."
        ),
    ] = "Test"
    better_than: Annotated[
        Literal["Base", "FewShot"] | None,
        Field(
            description="The result must beat the base model on this metric, measured the same way (Base), or "
            "with the examples of data.fewShot in its prompt (FewShot). Example: FewShot."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.min) ? 1 : 0) + (has(self.max) ? 1 : 0) + (has(self.betterThan) ? 1 : 0) == 1",
            "a gate needs exactly one of min, max or betterThan: write a gate for each condition",
        ),
        Rule(
            "!has(self.of) || self.of == 'Test' || !has(self.betterThan)",
            "the base model is measured on the test split alone: write min or max for a gate of "
            "CrossValidation",
            ".betterThan",
        ),
    )


class EvaluationSpec(Model):
    """What the result must reach on the test split."""

    gates: Annotated[
        tuple[Gate, ...],
        Field(
            max_length=16,
            description="Conditions of release, at most 16. Default: the task's main metric must be "
            "better than the base model's (f1_macro for TextClassification, r2 for TextRegression, loss for "
            "TextGeneration, preference_margin for preferences).",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    max_rows: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000_000,
            description="Test rows to score at most, chosen by content. Default: all.",
        ),
    ] = None
    max_new_tokens: Annotated[
        int,
        Field(
            ge=1,
            le=32768,
            description="Tokens generated for one test row (TextGeneration: bleu, rouge_l, exact_match). Default: 64.",
        ),
    ] = 64
    cross_validation: Annotated[
        CrossValidation | None,
        Field(
            description="Train once more for each fold, and tell mean and spread of the metrics over the "
            "folds. Default: none. Example: {folds: 5}."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.crossValidation) || !has(self.gates) || self.gates.all(g, !has(g.of) || g.of == 'Test')",
            "a gate of CrossValidation needs the folds: write crossValidation: {folds: 5}, or of: Test",
            ".gates",
        ),
    )
