"""spec.deployment.latency: how fast the server of the result must answer one request."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .base import Model, Rule, Word

Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]

FIRST_TOKEN, TOKEN, ANSWER = (
    "first_token_milliseconds",
    "token_milliseconds",
    "answer_milliseconds",
)
"""Names of the metrics."""


class LatencyBudget(Model):
    """Most milliseconds of one request that the server has to itself."""

    first_token_milliseconds: Annotated[
        Milliseconds | None,
        Field(
            description="TextGeneration: most milliseconds until the first token of an answer (TTFT). "
            "Default: no limit. Example: 500."
        ),
    ] = None
    token_milliseconds: Annotated[
        Milliseconds | None,
        Field(
            description="TextGeneration: most milliseconds for each later token (inter-token latency). "
            "Default: no limit. Example: 50."
        ),
    ] = None
    answer_milliseconds: Annotated[
        Milliseconds | None,
        Field(
            description="TextClassification, TextRegression: most milliseconds until a text is answered. "
            "Default: no limit. Example: 20."
        ),
    ] = None
    prompt_tokens: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Tokens of the prompt, or of the text, for which the limits hold. "
            "Default: training.maxLength. Example: 256.",
        ),
    ] = None
    gpu_product: Annotated[
        Word | None,
        Field(
            description="GPU that will serve, as the label nvidia.com/gpu.product names it, so that "
            "the limits can be held against it before training. Default: measured after training alone. "
            "Example: NVIDIA-H100-80GB-HBM3."
        ),
    ] = None

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.firstTokenMilliseconds) || has(self.tokenMilliseconds)"
            " || has(self.answerMilliseconds)",
            "latency limits nothing: write firstTokenMilliseconds and tokenMilliseconds for "
            "TextGeneration, answerMilliseconds for the other tasks, or leave latency out",
        ),
    )

    @property
    def limits(self) -> dict[str, int]:
        """Name of a metric -> most milliseconds."""
        given = {
            FIRST_TOKEN: self.first_token_milliseconds,
            TOKEN: self.token_milliseconds,
            ANSWER: self.answer_milliseconds,
        }
        return {name: limit for name, limit in given.items() if limit is not None}


def field_of(metric: str) -> str:
    """The field of the budget that limits a metric."""
    first, *rest = metric.split("_")
    return "deployment.latency." + first + "".join(word.capitalize() for word in rest)
