"""What the tuned model still knows: both models on the same held-out general rows, a gate, and the levers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import EvaluateResult, EvaluateSpec, LastWords, TrainResult
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.evaluation.general import Remembered
from oikyo_trainer.evaluation.record import read_record
from unit.trainer.evaluation.tiny import Bench, write_dataset

pytestmark = pytest.mark.parametrize("bench", ["prompt-completion"], indirect=True)
LEVERS = ("replay 0.1: 5 general rows (60 different ones there) in each epoch of 50 rows",)


def asked(bench: Bench, **general: Any) -> EvaluateSpec:
    """The evaluation of a training with general texts; its gate of the task always passes."""
    tokens = "sha256:" + "c" * 64
    rows = {"dataset_digest": write_dataset(bench.workspace, "text"), "tokens_digest": tokens}
    given = {"sources": [{"uri": "file:///general.jsonl"}], **general}
    return bench.spec(
        training=TrainingSpec(max_length=64, general=given),
        general=rows,
        evaluation={"max_new_tokens": 2, "max_rows": 4, "gates": [{"metric": "loss", "max": "99"}]},
    )


def with_levers(bench: Bench) -> None:
    path = bench.tuned.parent / layout.RESULT
    words = LastWords.model_validate_json(path.read_bytes())
    assert isinstance(words.result, TrainResult)
    result = words.result.model_copy(update={"levers": LEVERS})
    path.write_text(words.model_copy(update={"result": result}).json_line())


def value(result: EvaluateResult, name: str, *, base: bool = False) -> float:
    return {m.name: float(m.value) for m in (result.baseline if base else result.metrics)}[name]


def test_a_rise_above_the_bound_is_rejected_and_one_within_it_is_not(bench: Bench) -> None:
    with_levers(bench)
    spec = asked(bench, max_increase="0")
    result = evaluate(spec, bench.context)
    rise = value(result, "general_loss") - value(result, "general_loss", base=True)
    assert rise > 0  # two random models, the tuned one knows less by chance
    gate = result.gates[-1]
    assert (gate.metric, gate.rule) == ("general_loss", "at most 0 above base")
    assert not result.accepted
    assert not gate.passed
    bound = f"{rise + 0.01:.4f}"
    general = spec.training.general.model_copy(update={"max_increase": bound})
    training = spec.training.model_copy(update={"general": general})
    wide = evaluate(spec.model_copy(update={"training": training}), bench.context)
    assert wide.accepted
    assert float(wide.gates[-1].threshold) == pytest.approx(
        value(wide, "general_loss", base=True) + float(bound), abs=1e-4
    )
    record = read_record(bench.workspace / wide.path)
    assert record is not None
    assert record.forgetting == wide.forgetting
    assert wide.forgetting.endswith(f"on 30 held-out general rows; {LEVERS[0]}")
    assert f"What it still knows: {wide.forgetting}." in (
        bench.workspace / wide.path / "README.md"
    ).read_text(encoding="utf-8")


def test_the_base_forgets_nothing_of_itself(bench: Bench) -> None:
    import shutil

    shutil.rmtree(bench.base)
    shutil.copytree(bench.tuned, bench.base)
    result = evaluate(asked(bench, max_increase="0", max_rows=5), bench.context)
    assert value(result, "general_loss") == value(result, "general_loss", base=True)
    assert result.gates[-1].passed
    assert "on 5 held-out general rows; no lever was pulled" in result.forgetting


def test_no_number_keeps_to_no_bound(bench: Bench) -> None:
    general = asked(bench).training.general
    assert general is not None
    assert not Remembered(general, float("nan"), 2.0, 9).gate().passed
    assert Remembered(general, 2.1, 2.0, 9).gate().passed
    assert not Remembered(general, 2.10001, 2.0, 9).gate().passed


def test_without_general_rows_nothing_is_said_of_them(bench: Bench) -> None:
    result = evaluate(bench.spec(evaluation={"max_new_tokens": 2, "max_rows": 4}), bench.context)
    assert result.forgetting == ""
    assert "general_loss" not in json.dumps(result.wire())


def test_general_rows_that_vanished_are_told(bench: Bench) -> None:
    spec = asked(bench)
    assert spec.general is not None
    gone = spec.general.model_copy(update={"dataset_digest": "sha256:" + "d" * 64})
    with pytest.raises(Refused, match="no prepared dataset"):
        evaluate(spec.model_copy(update={"general": gone}), bench.context)
