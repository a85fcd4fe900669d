"""An interrupted training ends in the same bits as one that was left alone; damage is passed over."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import MemoryPlan
from oikyo_trainer.errors import Refused, Retry
from oikyo_trainer.training.checkpoint import verify
from unit.trainer.training.poison import poisoned

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
SETTINGS: dict[str, Any] = {
    "epochs": 3,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 10, "keep": 3},
}


@pytest.fixture(autouse=True)
def _agree_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a tiny model are too fast for the half second between two looks at the signal."""
    from oikyo_trainer.training import callbacks

    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_AGREEMENTS", 0)


def interrupt_at(lab: Any, spec: Any, last: int) -> None:
    """SIGTERM this process as a kubelet would, so that step `last` is the last one."""
    context = lab.context(spec)
    update = context.reporter.update
    sent: list[Any] = []

    def watch(**values: Any) -> None:
        update(**values)
        if (values.get("step") or 0) == last - 1 and not sent:
            sent.append(last)
            os.kill(os.getpid(), signal.SIGTERM)

    context.reporter.update = watch
    from oikyo_trainer.training.train import train

    with pytest.raises(Retry) as stopped:
        train(lab.tokenised(spec), context)
    assert stopped.value.reason == "Stopped"


def assert_same_bits(left: dict[str, Any], right: dict[str, Any]) -> None:
    import torch

    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize(
    ("task", "method", "micro"),
    [
        ("TextClassification", "Full", None),
        ("TextClassification", "LoRA", 4),
        ("TextClassification", "IA3", 4),
        ("TextGeneration", "Full", 2),
        ("TextGeneration", "LoRA", None),
    ],
)
def test_a_training_stopped_twice_ends_in_the_same_bits(
    lab: Any, task: str, method: str, micro: int | None
) -> None:
    settings = {**SETTINGS, "method": method, "micro_batch_size": micro}
    whole = lab.train(lab.spec(task, run="whole", **settings))
    interrupt_at(lab, lab.spec(task, run="cut", **settings), 7)  # within the first epoch
    interrupt_at(lab, lab.spec(task, run="cut", attempt=2, **settings), 20)  # at a validation
    resumed = lab.train(lab.spec(task, run="cut", attempt=3, **settings))
    assert resumed.best_step == whole.best_step
    assert_same_bits(lab.weights(whole), lab.weights(resumed))
    assert any("resumed from step 20 of attempt 2" in note for note in resumed.notes)


@pytest.mark.parametrize("method", ["IA3", "PromptTuning"])
def test_a_training_whose_head_did_not_begin_fitted_goes_on_as_it_began(
    lab: Any, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As one that was begun before heads were fitted: its optimizer has no groups of their own for them."""
    from oikyo_trainer.training import train

    settings = {**SETTINGS, "method": method}
    with monkeypatch.context() as before:
        before.setattr(train, "begins_fitted", lambda *_: False)
        whole = lab.train(lab.spec("TextClassification", run="whole", **settings))
        interrupt_at(lab, lab.spec("TextClassification", run="cut", **settings), 15)
    resumed = lab.train(lab.spec("TextClassification", run="cut", attempt=2, **settings))
    assert any("resumed from step 15 of attempt 1" in note for note in resumed.notes)
    assert not any(choice.name == "training.head" for choice in resumed.resolved)
    assert_same_bits(lab.weights(whole), lab.weights(resumed))


def _rate(result: Any) -> tuple[str, str]:
    return next((c.value, c.reason) for c in result.resolved if c.name == "training.learningRate")


def test_a_training_goes_on_at_the_rate_that_an_older_version_chose_and_tells_it(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oikyo_trainer.training import hyperparameters

    settings = {**SETTINGS, "method": "IA3", "learning_rate": "Auto"}
    with monkeypatch.context() as before:
        before.setattr(hyperparameters, "FITTED_RATES", {"IA3": ((float("inf"), 5e-3),)})
        whole = lab.train(lab.spec("TextClassification", run="whole", **settings))
        interrupt_at(lab, lab.spec("TextClassification", run="cut", **settings), 15)
    assert _rate(whole)[0] == "0.005"
    resumed = lab.train(lab.spec("TextClassification", run="cut", attempt=2, **settings))
    value, reason = _rate(resumed)
    assert value == "0.005"
    assert reason.startswith("as the training began; a new one would take 0.02, Auto: IA3 beside")
    assert_same_bits(lab.weights(whole), lab.weights(resumed))


def test_a_rollback_halves_the_rate_that_an_older_version_chose(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "method": "IA3", "scheduler": "Constant", "warmup_ratio": "0"}
    interrupt_at(lab, lab.spec("TextClassification", **settings, max_steps=16), 15)
    automatic = {**settings, "learning_rate": "Auto", "max_steps": 16}
    monkeypatch.setattr("accelerate.Accelerator.backward", poisoned(1))
    resumed = lab.train(lab.spec("TextClassification", attempt=2, **automatic))
    assert any("learning rate 0.003 -> 0.0015 (1 of" in note for note in resumed.notes)
    assert _rate(resumed)[0] == "0.0015"


def test_a_validation_that_is_made_up_for_may_be_the_last(lab: Any) -> None:
    """Else an attempt that is killed in the release would be followed by one that trains on."""
    settings = {
        **SETTINGS,
        "learning_rate": "1e-12",
        "select_by": "accuracy",
        "early_stopping": {"patience": 1},
    }
    interrupt_at(lab, lab.spec("TextClassification", **settings), 20)
    result = lab.train(lab.spec("TextClassification", attempt=2, **settings))
    assert result.best_step == 10
    assert any("stopped early at step 20" in note for note in result.notes)
    assert verify(lab.workspace / layout.checkpoints("run-1") / "checkpoint-20").final


def test_the_history_goes_on_without_a_step_told_twice(lab: Any) -> None:
    interrupt_at(lab, lab.spec("TextGeneration", **SETTINGS), 15)
    lab.train(lab.spec("TextGeneration", attempt=2, **SETTINGS))
    text = (lab.workspace / layout.stage("run-1", "train") / "history.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    for kind in ("loss", "eval_loss"):
        steps = [line["step"] for line in lines if kind in line]
        assert steps == sorted(set(steps))
    assert lines[-1]["step"] == 36


def test_a_damaged_newest_checkpoint_is_passed_over_and_named(lab: Any) -> None:
    whole = lab.train(lab.spec("TextClassification", run="whole", **SETTINGS))
    interrupt_at(lab, lab.spec("TextClassification", **SETTINGS), 25)
    newest = lab.workspace / layout.checkpoints("run-1") / "checkpoint-25"
    with (newest / "optimizer.pt").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    resumed = lab.train(lab.spec("TextClassification", attempt=2, **SETTINGS))
    assert resumed.notes[0] == (
        "skipped checkpoint-25: optimizer.pt has another content than was written"
    )
    assert resumed.notes[1] == "resumed from step 20 of attempt 1"
    assert_same_bits(lab.weights(whole), lab.weights(resumed))


def test_a_checkpoint_without_its_manifest_does_not_count(lab: Any) -> None:
    interrupt_at(lab, lab.spec("TextClassification", **SETTINGS), 25)
    newest = lab.workspace / layout.checkpoints("run-1") / "checkpoint-25"
    (newest / layout.MANIFEST).unlink()
    resumed = lab.train(lab.spec("TextClassification", attempt=2, **SETTINGS))
    assert resumed.notes[0] == (
        "skipped checkpoint-25: it has no manifest.json: it was never finished"
    )


def test_a_finished_training_is_only_released_again(lab: Any) -> None:
    spec = lab.spec("TextGeneration", method="LoRA", **SETTINGS)
    first = lab.weights(lab.train(spec))
    shutil.rmtree(lab.workspace / layout.stage("run-1", "train") / "model")
    again = lab.train(spec.model_copy(update={"attempt": 2}))
    assert again.steps == 36
    assert_same_bits(first, lab.weights(again))


def test_a_diverged_training_is_refused_and_leaves_no_checkpoint_of_it(lab: Any) -> None:
    spec = lab.spec(
        "TextGeneration", method="Full", learning_rate="1", warmup_ratio="0", weight_decay="1e30"
    )
    with pytest.raises(Refused) as refused:
        lab.train(spec)
    assert refused.value.reason == "Diverged"
    assert 'training.learningRate: "0.0125"' in refused.value.next_step
    folder: Path = lab.workspace / layout.checkpoints("run-1")
    assert not any(path.joinpath(layout.MANIFEST).exists() for path in folder.glob("checkpoint-*"))


def test_every_checkpoint_left_behind_verifies(lab: Any) -> None:
    lab.train(lab.spec("TextClassification", **SETTINGS))
    folder: Path = lab.workspace / layout.checkpoints("run-1")
    for checkpoint in folder.glob("checkpoint-*"):
        manifest = verify(checkpoint)
        assert manifest.world_size == 1
        assert manifest.rows_seen == min(manifest.step * 8, 3 * 96)
        assert not (checkpoint / "training_args.bin").exists()


def test_checkpoints_by_time_are_saved_between_those_by_steps(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oikyo_trainer.training import callbacks

    class Rhythm(callbacks.Rhythm):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **{**named, "seconds_between_saves": 0.0})

    monkeypatch.setattr("oikyo_trainer.training.running.Rhythm", Rhythm)
    settings = {"max_steps": 9, "checkpoints": {"every_steps": 100, "keep": 20}}
    lab.train(lab.spec("TextClassification", **settings))
    folder = lab.workspace / layout.checkpoints("run-1")
    assert sorted(verify(path).step for path in folder.glob("checkpoint-*")) == list(range(1, 10))


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_a_training_that_ran_out_of_memory_goes_on_with_less_of_it(lab: Any, task: str) -> None:
    path = lab.workspace / layout.model(lab.spec(task).model_digest) / "config.json"
    config = json.loads(path.read_text())
    dropouts = [name for name in config if name.endswith(("dropout", "dropout_prob"))]
    path.write_text(json.dumps(config | dict.fromkeys(dropouts, 0.0)))
    settings = {**SETTINGS, "method": "Full", "precision": "Float32"}
    whole = lab.train(lab.spec(task, run="whole", **settings))
    interrupt_at(lab, lab.spec(task, run="cut", **settings), 12)
    less = MemoryPlan(micro_batch_size=2, reason="memory ran out", gradient_checkpointing=True)
    spec = lab.spec(task, run="cut", attempt=2, **settings).model_copy(update={"memory": less})
    resumed = lab.train(spec)
    told = [{m.name: float(m.value) for m in result.metrics} for result in (whole, resumed)]
    assert told[1]["resumed_from_step"] == 12
    assert told[1]["best_eval_loss"] == pytest.approx(told[0]["best_eval_loss"], abs=1e-3)
