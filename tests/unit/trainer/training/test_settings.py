"""Settings of the optimizer and the loss have the effect that their descriptions promise."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oikyo.api import workspace as layout
from unit.trainer.training.conftest import metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS: dict[str, Any] = {"method": "Full", "epochs": 4, "learning_rate": "3e-3"}


def rates(lab: Any) -> dict[int, float]:
    """Learning rate by step, as the history tells it."""
    text = (lab.workspace / layout.stage("run-1", "train") / "history.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}


def test_the_rate_stays_and_falls_to_nothing_over_the_last_tenth(lab: Any) -> None:
    result = lab.train(
        lab.spec("TextClassification", scheduler="WarmupStableDecay", warmup_steps=5, **SETTINGS)
    )
    told = rates(lab)
    falls = result.steps - result.steps // 10 - 1
    stable = [rate for step, rate in told.items() if 6 < step <= falls]
    assert stable == pytest.approx([3e-3] * len(stable))
    assert told[max(told)] < 1e-3


def test_the_rate_falls_with_the_root_of_the_steps(lab: Any) -> None:
    lab.train(lab.spec("TextGeneration", scheduler="InverseSqrt", warmup_steps=4, **SETTINGS))
    told = rates(lab)
    first, last = min(step for step in told if step > 5), max(told)
    assert told[last] / told[first] == pytest.approx(((first - 1) / (last - 1)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_a_norm_of_next_to_nothing_lets_nothing_be_learned(lab: Any, task: str) -> None:
    learned = metrics(lab.train(lab.spec(task, run="free", max_grad_norm="0", **SETTINGS)))
    held = metrics(lab.train(lab.spec(task, run="held", max_grad_norm="1e-12", **SETTINGS)))
    assert learned["best_eval_loss"] < 0.8 * held["best_eval_loss"]


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_smoothed_labels_keep_the_model_from_certainty(lab: Any, task: str) -> None:
    settings = {**SETTINGS, "epochs": 8}
    sure = metrics(lab.train(lab.spec(task, run="sure", **settings)))
    smooth = metrics(lab.train(lab.spec(task, run="smooth", label_smoothing="0.4", **settings)))
    # Trained with it, told without: the loss that is validated rises only as certainty falls.
    assert smooth["train_loss"] > sure["train_loss"] + 0.3
    assert smooth["best_eval_loss"] > sure["best_eval_loss"] + 0.1
    assert smooth["best_eval_loss"] < smooth["train_loss"]
