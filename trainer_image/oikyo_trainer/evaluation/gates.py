"""Whether a result may be released: pure, judged on the very numbers that people are shown.

Called by `evaluate` with the metrics of the tuned and of the base model. A value that is not a
number passes nothing, and equal to the base is not better than the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from oikyo.api.evaluation import Gate, over_folds
from oikyo.api.fewshot import PREFIX
from oikyo.api.jobstatus import GateResult
from oikyo.api.preferences import Objective
from oikyo.api.tasks import LOWER_IS_BETTER, Task, main_metric

from ..progress import text


def judge(
    gates: tuple[Gate, ...],
    metrics: Mapping[str, float],
    baseline: Mapping[str, float],
    task: Task,
    objective: Objective = "Supervised",
) -> tuple[GateResult, ...]:
    """The verdict gate by gate; without gates the main metric must beat the base."""
    wanted = gates or (Gate(metric=main_metric(task, objective), better_than="Base"),)
    return tuple(_judge(gate, metrics, baseline) for gate in wanted)


def accepted(results: tuple[GateResult, ...]) -> bool:
    """All gates passed; no gate at all accepts nothing."""
    return bool(results) and all(result.passed for result in results)


def shown(value: float) -> float:
    """The value as it stands in the record: judged so that no reader sees 0.8 fail `min 0.80`."""
    return float(text(value))


def _judge(gate: Gate, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> GateResult:
    of_folds = gate.of == "CrossValidation"
    name = over_folds(gate.metric, "mean") if of_folds else gate.metric
    value = metrics.get(name, math.nan)
    base = baseline.get(gate.metric, math.nan)
    other = base
    if gate.better_than == "FewShot":
        other = baseline.get(PREFIX + gate.metric, math.nan)
    rule, threshold, passed = _apply(gate, shown(value), shown(other))
    return GateResult(
        metric=gate.metric,
        rule=f"{rule}, mean of the folds" if of_folds else rule,
        value=text(value),
        threshold=threshold,
        baseline=text(base) if gate.metric in baseline and not of_folds else "",
        passed=passed,
    )


def _apply(gate: Gate, value: float, base: float) -> tuple[str, str, bool]:
    """Rule in words, threshold as text, and whether it passed: NaN compares false throughout."""
    if gate.min is not None:
        return f"min {gate.min}", gate.min, value >= float(gate.min)
    if gate.max is not None:
        return f"max {gate.max}", gate.max, value <= float(gate.max)
    better = value < base if gate.metric in LOWER_IS_BETTER else value > base
    rival = "the base with examples" if gate.better_than == "FewShot" else "base"
    return f"better than {rival}", text(base), better
