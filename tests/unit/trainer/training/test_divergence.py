"""A number that is none sends the training back to its last good checkpoint, at half the rate."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.errors import Refused, Retry
from oikyo_trainer.training.divergence import NAME, Rollback, Rollbacks
from unit.trainer.training.poison import poison_one, poisoned
from unit.trainer.training.processes import gang

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": "4e-3",
    "scheduler": "Constant",
    "warmup_ratio": "0",
    "checkpoints": {"every_steps": 5},
}


def rates(lab: Any) -> list[tuple[int, float]]:
    from oikyo_trainer.training.history import History

    lines = History(lab.workspace / layout.stage("run-1", "train") / "history.jsonl").lines()
    return [(line["step"], line["learning_rate"]) for line in lines if "learning_rate" in line]


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_a_poisoned_gradient_costs_the_steps_since_the_checkpoint_and_half_the_rate(
    lab: Any, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.backward", poisoned(8))
    spec = lab.spec(task, **SETTINGS)
    context = lab.context(spec)
    from oikyo_trainer.training.train import train

    result = train(lab.tokenised(spec), context)
    sentence = (
        "diverged at step 8 (grad_norm is nan): rolled back to the checkpoint of step 5, learning "
        "rate 0.004 -> 0.002 (1 of at most 3 times)"
    )
    assert sentence in result.notes
    assert {metric.name: metric.value for metric in result.metrics}["rollbacks"] == "1"
    assert {metric.name: metric.value for metric in context.reporter.current.metrics}[
        "rollbacks"
    ] == "1"
    assert [rate for step, rate in rates(lab) if step <= 5] == [0.004] * 5
    assert {rate for step, rate in rates(lab) if step > 5} == {0.002}
    assert result.steps == result.total_steps == 24
    chosen = {choice.name: choice for choice in result.resolved}["training.learningRate"]
    assert chosen.value == "0.002"
    assert chosen.reason.endswith("halved once, because the training diverged")
    assert all(math.isfinite(value.float().sum()) for value in lab.weights(result).values())


def test_before_the_first_checkpoint_it_begins_again(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.backward", poisoned(2, times=1))
    result = lab.train(lab.spec("TextClassification", **SETTINGS))
    assert any("rolled back to the beginning" in note for note in result.notes)
    assert {rate for _, rate in rates(lab)} == {0.002}


def test_after_a_kill_the_next_attempt_keeps_the_smaller_rate(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oikyo_trainer.training import callbacks

    class Killed(Exception):
        pass

    def killed(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 12:
            raise Killed

    monkeypatch.setattr("accelerate.Accelerator.backward", poisoned(8))
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Rhythm, "on_step_begin", killed)
        with pytest.raises(Killed):
            lab.train(lab.spec("TextClassification", **SETTINGS))
    result = lab.train(lab.spec("TextClassification", attempt=2, **SETTINGS))
    assert "resumed from step 10 of attempt 1" in result.notes
    assert any("(1 of at most 3 times)" in note for note in result.notes)
    assert {rate for step, rate in rates(lab) if step > 5} == {0.002}
    assert {choice.name: choice.value for choice in result.resolved}[
        "training.learningRate"
    ] == "0.002"


def test_what_diverges_at_every_rate_is_refused_after_three_rollbacks(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.backward", poisoned(8, times=1000))
    with pytest.raises(Refused) as refused:
        lab.train(lab.spec("TextClassification", **SETTINGS))
    assert refused.value.reason == "Diverged"
    assert "3 rollbacks" in refused.value.message
    assert 'training.learningRate: "5e-05"' in refused.value.next_step
    assert len(Rollbacks(lab.workspace / layout.stage("run-1", "train")).done) == 3


STRATEGIES = ["DDP", "FSDP", *(["ZeRO2"] if find_spec("deepspeed") else [])]
"""DeepSpeed has no wheel: the trainer image holds it, the unit environment need not."""


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_gang_agrees_though_one_process_alone_met_it(lab: Any, strategy: str) -> None:
    spec = lab.spec("TextClassification", strategy=strategy, **SETTINGS | {"max_steps": 9})
    result = gang(lab, spec, first=poison_one)
    assert any(
        note.startswith("diverged at step 7")
        and note.endswith("learning rate 0.004 -> 0.002 (1 of at most 3 times)")
        and "rolled back to the checkpoint of step 5" in note
        for note in result.notes
    )
    assert result.steps == result.total_steps == 9
    assert rates(lab) == [(n, 0.004 if n <= 5 else 0.002) for n in range(1, 10)]


def test_a_replaced_attempt_writes_no_rollback(tmp_path: Path) -> None:
    def stale() -> None:
        raise Retry("Stale", "a newer attempt has begun")

    rollback = Rollback(step=7, what="loss is nan", back_to=5, rate=0.1, attempt=1)
    with pytest.raises(Retry):
        Rollbacks(tmp_path, stale).add(rollback, write=True)
    assert not (tmp_path / NAME).exists()
