"""Rows with a number: prepared, trained, judged against the base and served."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oikyo.api import workspace as layout
from oikyo.api.stages import EvaluateSpec, LastWords, PrepareSpec, ServeSpec, Source, TrainSpec
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec
from oikyo_trainer.context import Context
from oikyo_trainer.data.prepare import prepare
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.numbers import Scale, scale_in
from oikyo_trainer.progress import Reporter
from oikyo_trainer.serving.loading import load
from oikyo_trainer.serving.metrics import Identity, ModelMetrics, ServerMetrics
from oikyo_trainer.training.batches import Collator
from oikyo_trainer.training.headed import number_loss
from oikyo_trainer.training.heads import NUMBER, Head
from oikyo_trainer.training.model import load_weights, open_base
from oikyo_trainer.training.train import train
from unit.trainer.training.conftest import WORDS, bert_base

pytestmark = pytest.mark.timeout(240)
TASK: Task = "TextRegression"
MEAN, STEP = 50_000, 1_500


def worth(text: str) -> float:
    """The planted rule: words pull up or down, and a pair of equal words counts double."""
    words = [WORDS.index(word) for word in text.split() if word in WORDS]
    pulls = [(word % 3 - 1) * (word // 3 + 1) for word in words]
    return MEAN + STEP * sum(pulls) * (2 if len(set(words)) < len(words) else 1)


def rows(number: int) -> list[dict[str, Any]]:
    random.seed(7)
    made = []
    for row in range(number):
        text = " ".join([*(random.choice(WORDS) for _ in range(3)), f"n{row}"])
        made.append({"text": text, "score": worth(text)})
    return made


def context(workspace: Path, stage: Any) -> Context:
    return Context(workspace, Reporter(stage, 1, "worth"))


def prepared(workspace: Path, lines: list[dict[str, Any]], **settings: Any) -> Any:
    path = workspace / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    base = workspace / layout.model(bert_base(workspace))
    training = TrainingSpec(
        **{"method": "Full", "epochs": 12, "batch_size": 16, "max_length": 16, "learning_rate": "3e-3",
           "scheduler": "Cosine", "dropout": "0",
           "select_by": "r2", "precision": "Float32", **settings}
    )  # fmt: skip
    spec = PrepareSpec(
        run="worth", task=TASK, model=Source(uri=f"file://{base}", path=str(base)),
        sources=(Source(uri=f"file://{path}", path=str(path)),), training=training, max_length=16,
    )  # fmt: skip
    return prepare(spec, context(workspace, "prepare")), training


def trained(workspace: Path, data: Any, training: TrainingSpec) -> Any:
    spec = TrainSpec(
        run="worth", task=TASK, training=training, dataset_digest=data.dataset_digest,
        model_digest=data.model_digest, tokens_digest=data.tokens_digest,
    )  # fmt: skip
    result = train(spec, context(workspace, "train"))
    words = LastWords(stage="train", result=result).json_line()
    (workspace / layout.stage("worth", "train") / layout.RESULT).write_text(words)
    return result


def judged(workspace: Path, data: Any, training: TrainingSpec, *gates: dict[str, Any]) -> Any:
    spec = EvaluateSpec(
        run="worth", task=TASK, training=training, dataset_digest=data.dataset_digest,
        model_digest=data.model_digest, job="worth", job_uid="uid", base_uri="file://base",
        model_name="worth", evaluation={"gates": gates},
    )  # fmt: skip
    return evaluate(spec, context(workspace, "evaluate"))


def served(workspace: Path, spec: ServeSpec) -> Any:
    metrics = ModelMetrics(ServerMetrics(), Identity("worth", 1, TASK))
    return load(spec, workspace, [metrics]).engines[0].computes


def values(metrics: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in metrics}


@pytest.mark.slow
def test_from_rows_to_a_number_in_the_units_of_the_data(tmp_path: Path) -> None:
    data, training = prepared(tmp_path, rows(700))
    result = trained(tmp_path, data, training)
    gates = [
        {"metric": "r2", "min": "0.88"}, {"metric": "rmse", "better_than": "Base"},
        {"metric": "mae", "max": "2000"}, {"metric": "spearman", "better_than": "Base"},
    ]  # fmt: skip
    made = judged(tmp_path, data, training, *gates)
    assert made.accepted
    tuned, base = values(made.metrics), values(made.baseline)
    assert tuned.keys() == base.keys() == {"r2", "rmse", "mae", "pearson", "spearman", "loss"}
    assert 0 < base["r2"] < tuned["r2"] - 0.05  # the probe knows words, not pairs of them
    history = (tmp_path / layout.stage("worth", "train") / layout.HISTORY).read_text()
    assert '"eval_r2"' in history
    assert values(result.metrics)["best_eval_loss"] < 0.2

    card = (tmp_path / made.path / "README.md").read_text("utf-8")
    assert "It answers every text with a number" in card
    assert "ridge regression fitted on" in card
    spec = ServeSpec(model_name="worth", version=1, task=TASK, path=made.path)
    engine = served(tmp_path, spec)
    asked = ["star star blue", "red one one", "green two sun"]
    said = [found.values[0] for found in engine.compute(asked)]
    assert said == pytest.approx([worth(text) for text in asked], abs=6_000)
    assert said[0] > MEAN + 10_000 > MEAN - 3_000 > said[1]


@pytest.mark.slow
def test_an_adapter_alone_says_numbers_too(tmp_path: Path) -> None:
    data, training = prepared(
        tmp_path, rows(300), method="LoRA", merge=False, epochs=2, select_by="loss"
    )
    trained(tmp_path, data, training)
    made = judged(tmp_path, data, training, {"metric": "loss", "max": "2"})
    config = json.loads((tmp_path / made.path / "config.json").read_bytes())
    numbers = [worth(row["text"]) for row in rows(300)]
    assert config["problem_type"] == "regression"
    assert config["target_mean"] == pytest.approx(np.mean(numbers), rel=0.02)
    assert config["target_std"] == pytest.approx(np.std(numbers), rel=0.1)
    spec = ServeSpec(model_name="worth", version=1, task=TASK, path=made.path)
    engine = served(tmp_path, spec)
    (found,) = engine.compute(["red sun"])
    assert abs(found.values[0] - MEAN) < 10 * STEP


def test_the_loss_of_a_batch_is_that_of_its_rows_one_by_one(tmp_path: Path) -> None:
    """Padding and company change nothing: the head reads a row as if it were alone."""
    base = open_base(tmp_path, bert_base(tmp_path), TASK)
    scale = Scale(MEAN, 4 * STEP)
    model = load_weights(base, Head(NUMBER, "regression", scale), torch.float32).eval()
    collate = Collator(base.tokenizer.pad_token_id, scale)
    items = [
        {"input_ids": base.tokenizer(row["text"])["input_ids"][: 3 + number % 3],
         "labels": row["score"]}
        for number, row in enumerate(rows(12))
    ]  # fmt: skip
    with torch.no_grad():
        batch = collate(items)
        labels = batch.pop("labels")
        together = number_loss(model(**batch), labels)
        alone = []
        for item in items:
            said = float(model(input_ids=torch.tensor([item["input_ids"]])).logits)
            alone.append((said - (item["labels"] - MEAN) / (4 * STEP)) ** 2)
    assert float(together) == pytest.approx(sum(alone) / len(alone), rel=1e-5)


def test_a_row_that_is_left_out_has_no_loss_and_none_is_taken_for_one() -> None:
    outputs = type("Outputs", (), {"logits": torch.tensor([[1.0], [2.0], [9.0]])})
    labels = torch.tensor([0.5, 0.0, -100.0])
    assert float(number_loss(outputs, labels)) == pytest.approx((0.25 + 4) / 2)
    assert float(number_loss(outputs, labels, 4)) == pytest.approx((0.25 + 4) / 4)
    made = Collator(0, Scale(0, 1))([{"input_ids": [5], "labels": -100.0}])["labels"]
    assert made.dtype == torch.float32
    assert made.ne(-100).all()
    assert float(made) == pytest.approx(-100, abs=2e-3)


def test_a_head_that_goes_on_says_the_same_on_the_new_scale(tmp_path: Path) -> None:
    """version://: the new rows have another mean and spread, and what was learned stays."""
    base = open_base(tmp_path, bert_base(tmp_path), TASK)
    old = Scale(10.0, 2.0)
    first = load_weights(base, Head(NUMBER, "regression", old), torch.float32).eval()
    with torch.no_grad():
        first.classifier.bias.fill_(0.3)
    folder = tmp_path / layout.model("sha256:" + "a" * 64)
    first.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    again = open_base(tmp_path, "sha256:" + "a" * 64, TASK)
    new = Scale(-5.0, 30.0)
    second = load_weights(again, Head(NUMBER, "regression", new), torch.float32).eval()
    assert scale_in(second.config) == new
    tokens = torch.tensor([[1, 5, 6, 2]])
    with torch.no_grad():
        before, after = (float(model(tokens).logits) for model in (first, second))
    assert float(new.told(after)) == pytest.approx(float(old.told(before)), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"score": "1,5"}, "InvalidData", r"rows.jsonl:4: the field 'score' is no number; write a dec"),
        ({"score": None}, "InvalidData", r"rows.jsonl:4: the number 'score' is missing"),
        ({"score": True}, "InvalidData", r"rows.jsonl:4: the field 'score' is of type bool"),
        ({"score": 1e31}, "InvalidData", r"rows.jsonl:4: the field 'score' is beyond 1e\+30"),
        ({"score": "inf"}, "InvalidData", r"rows.jsonl:4: the field 'score' is no number"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_told_by_line(
    tmp_path: Path, change: dict[str, Any], reason: str, says: str
) -> None:
    lines = rows(120)
    lines[3] |= change
    with pytest.raises(Refused, match=says) as refused:
        prepared(tmp_path, lines)
    assert refused.value.reason == reason


def test_numbers_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    lines = [{**row, "score": 3.0} for row in rows(120)]
    with pytest.raises(Refused, match=r"every row has the number 3 \(column 'score'\)") as refused:
        prepared(tmp_path, lines)
    assert refused.value.reason == "ConstantNumber"
