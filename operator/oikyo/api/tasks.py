"""What a model is made for, and all that follows from the word alone: one table for every part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .fewshot import PREFIX
from .general import GENERAL_LOSS
from .preferences import Objective

Task = Literal["TextClassification", "TextRegression", "TextGeneration"]
TASKS: tuple[Task, ...] = get_args(Task)

MetricName = Literal[
    "accuracy",
    "f1_macro",
    "f1_micro",
    "loss",
    "r2",
    "rmse",
    "mae",
    "pearson",
    "spearman",
    "perplexity",
    "bleu",
    "rouge_l",
    "exact_match",
    "preference_accuracy",
    "preference_margin",
]
LOWER_IS_BETTER = frozenset(
    {
        "loss",
        "rmse",
        "mae",
        "perplexity",
        f"{PREFIX}loss",
        f"{PREFIX}perplexity",
        GENERAL_LOSS,
    }
)


@dataclass(frozen=True)
class TaskFacts:
    """What one task means outside of the training."""

    main: MetricName
    """What a result is told by in one figure, and must beat the base in where no gate is given."""
    route: str
    """Where a server of it answers."""
    tag: str
    """What the Hugging Face hub calls it."""
    limits: str
    """What a reader of the model card must know."""


FACTS: dict[Task, TaskFacts] = {
    "TextClassification": TaskFacts(
        main="f1_macro",
        route="/v1/classify",
        tag="text-classification",
        limits="It knows only the labels it was trained on and always answers with one of them, also "
        "for text that belongs to none.",
    ),
    "TextRegression": TaskFacts(
        main="r2",
        route="/v1/regress",
        tag="text-classification",  # the hub has no word of its own for it
        limits="It answers every text with a number, also one that has none. The numbers that it learned "
        "spread less than those of the data, and beyond their range it was never measured.",
    ),
    "TextGeneration": TaskFacts(
        main="loss",
        route="/v1/chat/completions",
        tag="text-generation",
        limits="It continues text by likelihood: it can be wrong, biased or outdated, and says so in no "
        "way.",
    ),
}


def main_metric(task: Task, objective: Objective) -> MetricName:
    """The metric of `task` that stands for a result; of preferences, the margin."""
    return FACTS[task].main if objective == "Supervised" else "preference_margin"
