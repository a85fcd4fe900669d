"""What to try next where a result forgot more than training.general.maxIncrease allows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from oikyo.api.general import GENERAL_LOSS
from oikyo.api.jobstatus import GateResult
from oikyo.api.training import TrainingSpec

MORE_REPLAY = Decimal("0.1")
"""Share of general rows above which more of them is not the first thing to try."""


def forgot(gates: Sequence[GateResult]) -> bool:
    """Whether the general loss is among what failed."""
    return any(gate.metric == GENERAL_LOSS and not gate.passed for gate in gates)


def next_step(training: TrainingSpec) -> str:
    """The levers that were not pulled yet, the cheapest first."""
    return f"in a job with a new name, one of: {'; '.join(_levers(training))}"


def _levers(training: TrainingSpec) -> Iterator[str]:
    general = training.general
    if general is not None and Decimal(general.replay) < MORE_REPLAY:
        yield f'more general rows, training.general.replay: "{MORE_REPLAY}"'
    if general is not None and general.interpolation == "Never":
        merge = "" if training.method == "Full" or training.merge else " with training.merge: true"
        yield f"training.general.interpolation: Auto{merge}"
    if training.method == "Full":
        yield "training.method: LoRA, which learns less and forgets less"
    yield "a training.learningRate half as high, or fewer training.epochs"
    yield "a higher training.general.maxIncrease, if the task is worth it"
