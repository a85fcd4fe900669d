"""Rows with several labels: prepared, trained, judged and served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oikyo.api import workspace as layout
from oikyo.api.data import Fields
from oikyo.api.stages import EvaluateSpec, LastWords, PrepareSpec, ServeSpec, Source, TrainSpec
from oikyo.api.training import TrainingSpec
from oikyo_trainer import labelset
from oikyo_trainer.context import Context
from oikyo_trainer.data.prepare import prepare
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.class_scores import set_scores
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.progress import Reporter
from oikyo_trainer.serving.loading import load
from oikyo_trainer.serving.metrics import Identity, ModelMetrics, ServerMetrics
from oikyo_trainer.training.export import export
from oikyo_trainer.training.headed import several_loss
from unit.trainer.training.conftest import LABELS, WORDS, bert_base

pytestmark = pytest.mark.timeout(180)


def rows(number: int) -> list[dict[str, Any]]:
    """A word of each kind that the row's number names; its labels are these kinds, or none."""
    made = []
    for row in range(number):
        kinds = [kind for kind in range(3) if row % 8 >> kind & 1]
        words = [WORDS[3 * kind + (row // 8 + kind) % 3] for kind in kinds] or ["<unk>"]
        tail = [WORDS[3 * kind + (row // 24) % 3] for kind in kinds]
        text = " ".join([*words, *tail, f"n{row}"])
        made.append({"text": text, "label": [LABELS[kind] for kind in kinds]})
    return made


def context(workspace: Path, stage: Any) -> Context:
    return Context(workspace, Reporter(stage, 1, "several"))


def written(path: Path, lines: list[dict[str, Any]]) -> Source:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return Source(uri=f"file://{path}", path=str(path))


def prepared(
    workspace: Path,
    lines: list[dict[str, Any]],
    separator: str = ",",
    test: list[dict[str, Any]] | None = None,
) -> Any:
    base = workspace / layout.model(bert_base(workspace))
    training = TrainingSpec(
        method="Full", epochs=6, batch_size=8, max_length=16, learning_rate="3e-3",
        select_by="f1_macro",
    )  # fmt: skip
    spec = PrepareSpec(
        run="several", task="TextClassification", fields=Fields(label_separator=separator),
        model=Source(uri=f"file://{base}", path=str(base)),
        sources=(written(workspace / "rows.jsonl", lines),),
        test_sources=(written(workspace / "test.jsonl", test),) if test else (),
        training=training, max_length=16,
    )  # fmt: skip
    return prepare(spec, context(workspace, "prepare")), training


@pytest.mark.slow
def test_from_rows_to_an_answer(tmp_path: Path) -> None:
    from oikyo_trainer.training.train import train

    data, training = prepared(tmp_path, rows(240))
    assert data.num_labels == 3
    common: dict[str, Any] = {"run": "several", "task": "TextClassification", "training": training}
    digests = {"dataset_digest": data.dataset_digest, "model_digest": data.model_digest}
    training_spec = TrainSpec(**common, **digests, tokens_digest=data.tokens_digest)
    result = train(training_spec, context(tmp_path, "train"))
    export(training_spec, tmp_path, tmp_path / "out", step=None, alone=False)
    config = json.loads((tmp_path / "out" / "config.json").read_bytes())
    assert config["problem_type"] == "multi_label_classification"
    assert set(config["label2id"]) == set(LABELS)
    words = LastWords(stage="train", result=result).json_line()
    (tmp_path / layout.stage("several", "train") / layout.RESULT).write_text(words)
    gates = [{"metric": "f1_micro", "min": "0.9"}, {"metric": "f1_macro", "min": "0.9"}]
    judged = evaluate(
        EvaluateSpec(
            **common, **digests, job="several", job_uid="uid", base_uri="file://base",
            model_name="several", evaluation={"gates": gates},
        ),
        context(tmp_path, "evaluate"),
    )  # fmt: skip
    assert judged.accepted
    assert {m.name for m in judged.metrics} >= {"accuracy", "f1_macro", "f1_micro", "loss"}
    card = (tmp_path / judged.path / "README.md").read_text("utf-8")
    assert "those of them that are likelier than not, or none" in card
    assert {m.name for m in judged.baseline} == {m.name for m in judged.metrics}
    spec = ServeSpec(model_name="several", version=1, task="TextClassification", path=judged.path)
    identity = Identity("several", 1, "TextClassification")
    loaded = load(spec, tmp_path, [ModelMetrics(ServerMetrics(), identity)])
    engine = loaded.engines[0].computes
    assert engine.several
    both, one = engine.compute([row["text"] for row in (rows(240)[3], rows(240)[4])])
    said = [
        {label for label, score in zip(engine.labels, found.values, strict=True) if score > 0.5}
        for found in (both, one)
    ]
    assert said == [{"colour", "number"}, {"sky"}]


def test_a_set_has_one_form_whatever_its_order() -> None:
    assert labelset.text_of(["b", "a", "b"]) == labelset.text_of(["a", "b"]) == '["a", "b"]'
    assert labelset.all_names(['["b"]', '["a", "b"]', "[]"]) == ("a", "b")
    table = labelset.membership(['["b"]', "[]", '["a", "b"]'], ("a", "b"))
    assert table.tolist() == [[0, 1], [0, 0], [1, 1]]


def test_text_is_cut_at_the_separator_and_a_label_that_is_none_is_told_by_line(
    tmp_path: Path,
) -> None:
    lines = [{**row, "label": "; ".join(row["label"])} for row in rows(240)]
    data, _ = prepared(tmp_path, lines, separator=";")
    assert data.num_labels == 3
    lines[6]["label"] = {"colour": 1}
    with pytest.raises(Refused) as refused:
        prepared(tmp_path, lines, separator=";")
    assert "rows.jsonl:7" in str(refused.value.evidence)
    assert "expected text or an integer" in str(refused.value.evidence)


def test_a_label_that_no_training_row_has_is_refused_but_a_new_set_of_known_ones_is_not(
    tmp_path: Path,
) -> None:
    known = [row for row in rows(240) if len(row["label"]) < 2]
    new_sets = [row for row in rows(240) if len(row["label"]) == 2]
    data, _ = prepared(tmp_path, known, test=new_sets)
    assert data.test == len(new_sets)
    new_sets[3]["label"] = ["colour", "smell"]
    with pytest.raises(Refused, match=r"has the label 'smell' that no training row has .*:4"):
        prepared(tmp_path, known, test=new_sets)


def test_the_loss_is_the_mean_over_labels_and_rows_that_count() -> None:
    members = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.3], [9.0, 9.0]])
    outputs = type("Outputs", (), {"logits": logits})
    found = several_loss(outputs, torch.tensor([0, 1, -100]), members=members)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:2], members)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_scores_of_sets() -> None:
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    guess = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 1]], dtype=bool)
    scores = set_scores(guess, truth)
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["f1_micro"] == pytest.approx(2 * 3 / (4 + 4))
    assert scores["f1_macro"] == pytest.approx((1 + 2 / 3) / 2)  # the third label stands in no row
