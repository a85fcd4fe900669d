"""What the tuned model still knows of what the base knew: the general rows that nobody trained on.

Both models read the same tokens of the same rows; the loss of the tuned one may stand above the base's by
training.general.maxIncrease. The levers that were pulled are named beside the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from oikyo.api.general import GENERAL_LOSS, General
from oikyo.api.jobstatus import GateResult
from oikyo.api.stages import EvaluateSpec, TrainResult

from ..errors import Refused
from ..progress import text
from .gates import shown
from .generation import measure_generator
from .measure import Models, fits, reading_of
from .models import load_tokenizer
from .prompts import encode
from .rows import choose, open_dataset


@dataclass(frozen=True)
class Remembered:
    """The general loss of both models."""

    asked: General
    tuned: float
    base: float
    rows: int

    @property
    def metrics(self) -> Mapping[str, float]:
        return {GENERAL_LOSS: self.tuned}

    @property
    def baseline(self) -> Mapping[str, float]:
        return {GENERAL_LOSS: self.base}

    def gate(self) -> GateResult:
        """Whether the rise keeps to its bound, judged on the figures that people are shown."""
        base, bound = shown(self.base), float(self.asked.max_increase)
        return GateResult(
            metric=GENERAL_LOSS,
            rule=f"at most {self.asked.max_increase} above base",
            value=text(self.tuned),
            threshold=text(base + bound),
            baseline=text(self.base),
            passed=shown(self.tuned) <= shown(base + bound),
        )

    def sentence(self, training: TrainResult) -> str:
        """The figures and the levers."""
        change = shown(self.tuned) - shown(self.base)
        levers = "; ".join(training.levers) or "no lever was pulled"
        return (
            f"general loss {text(self.tuned)}, base {text(self.base)} ({change:+.4g}, at most "
            f"+{self.asked.max_increase}) on {self.rows} held-out general rows; {levers}"
        )


def remembered(spec: EvaluateSpec, models: Models, workspace: Path) -> Remembered | None:
    """Both models on the held-out general rows; None without training.general."""
    asked = spec.training.general
    if asked is None or spec.general is None:
        return None
    dataset = open_dataset(workspace, spec.general.dataset_digest)
    rows = choose(dataset.rows("test"), asked.max_rows)
    tokenizer = load_tokenizer(models.tuned)
    encoded = encode(tokenizer, rows, dataset.shape, reading_of(spec, models))
    if not any(row.answer[1:].any() for row in encoded):
        raise Refused(
            "NoLabelledTokens",
            "in no general row of the verdict does a token of the answer stand within training.maxLength "
            f"{spec.training.max_length}",
            next_step="Give shorter general rows, or raise training.maxLength, in a job with a new name",
        )
    fits(models.base, encoded)
    tuned, base = (
        measure_generator(
            folder,
            tokenizer,
            encoded,
            generate=(),
            max_new_tokens=1,
            tell=lambda share: None,
        ).metrics["loss"]
        for folder in (models.tuned, models.base)
    )
    return Remembered(asked, tuned, base, len(rows))
