"""A new head begins as a linear probe, and learns at a share of the rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from transformers import RobertaConfig

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.training.batches import Collator
from oikyo_trainer.training.distributed import World
from oikyo_trainer.training.divergence import SmallerRate
from oikyo_trainer.training.fitted import (
    begins_fitted,
    fit,
    put,
    quiet_vectors,
    read,
    trained_layers,
)
from oikyo_trainer.training.headrate import SHARE, slow
from oikyo_trainer.training.heads import Head
from oikyo_trainer.training.methods.adapters import add_adapter
from oikyo_trainer.training.model import open_base
from oikyo_trainer.training.tokenfiles import TokenRows
from unit.trainer.training.conftest import LABELS, bert_base

pytestmark = pytest.mark.timeout(180)
PAD = Collator(0)
RANDOM = np.random.default_rng(0)


def adapted(lab: Any, **training: Any) -> Any:
    from transformers import AutoModelForSequenceClassification

    folder = lab.workspace / layout.model(bert_base(lab.workspace))
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(LABELS))
    return add_adapter(plain, "TextClassification", TrainingSpec(**training), autocast=True)


def rows_of(count: int, classes: int) -> TokenRows:
    lengths = 2 + np.arange(count) % 5
    tokens = RANDOM.integers(4, 13, lengths.sum())
    return TokenRows(tokens, np.arange(count) % classes, lengths.cumsum(), None)


def says(model: Any, rows: TokenRows) -> Any:
    inputs = PAD([rows[index] for index in range(len(rows))])
    inputs.pop("labels")
    with torch.no_grad():
        return model.eval()(**inputs).logits.log_softmax(1).numpy()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("method", ["Full", "LoRA", "IA3", "PromptTuning"])
def test_the_head_says_what_a_probe_on_the_pooler_says(lab: Any, method: str, classes: int) -> None:
    model, rows = adapted(lab, method=method, merge=False), rows_of(40, classes)
    features, found = read(model.train(), rows, PAD, micro=7, bf16=False)
    assert model.training
    assert found.tolist() == [row % classes for row in range(40)]
    put(model, fit(features, found, len(LABELS)))
    squashed = np.tanh((features - features.mean(0)) / features.std(0) / 2)
    probe = LogisticRegression(C=0.12, max_iter=500).fit(squashed, found)
    said = says(model, rows)[:, :classes]
    said -= np.log(np.exp(said).sum(1, keepdims=True))
    assert np.allclose(said, probe.predict_log_proba(squashed), atol=1e-3)


def test_a_class_without_rows_is_as_rare_as_the_rarest_and_one_class_is_not_fitted() -> None:
    features = RANDOM.normal(size=(12, 4))
    found = fit(features, np.arange(12) % 2 * 2, 3)
    assert found is not None
    assert found[2][1].abs().sum() == 0
    assert found[3][1] == found[3].min()
    assert fit(features, np.zeros(12, dtype=np.int64), 3) is None


def test_a_head_begins_fitted_where_the_base_makes_a_pooler_of_its_own(lab: Any) -> None:
    base = open_base(lab.workspace, bert_base(lab.workspace), "TextClassification")
    alone, gang = World(), World(size=2)
    ia3, head = TrainingSpec(method="IA3"), Head(LABELS)
    assert begins_fitted(ia3, head, base, alone)
    assert begins_fitted(TrainingSpec(), head, base, alone)
    assert not begins_fitted(TrainingSpec(method="QLoRA"), head, base, alone)
    assert not begins_fitted(ia3, None, base, alone)
    assert not begins_fitted(ia3, Head(LABELS, "multi_label_classification"), base, alone)
    for strategy in ("FSDP", "ZeRO2", "ZeRO3"):
        assert begins_fitted(TrainingSpec(method="IA3", strategy=strategy), head, base, gang)
    assert not begins_fitted(ia3, head, base, World(size=2, tensor=2))
    roberta = replace(base, config=RobertaConfig(num_hidden_layers=1))
    assert not begins_fitted(ia3, head, roberta, alone)


def test_vectors_begin_as_the_first_token_and_separators(lab: Any) -> None:
    model = adapted(lab, method="PromptTuning", merge=False, prompt_tuning={"virtual_tokens": 3})
    base = open_base(lab.workspace, bert_base(lab.workspace), "TextClassification")
    quiet_vectors(model, base.tokenizer)
    known = model.get_base_model().get_input_embeddings().weight
    assert torch.equal(model.prompt_encoder["default"].embedding.weight, known[[1, 2, 2]])


def test_the_head_learns_at_a_share_also_after_a_rollback(lab: Any) -> None:
    model = adapted(lab, method="IA3")
    head = trained_layers(model)
    rest = [w for w in model.parameters() if w.requires_grad and all(w is not h for h in head)]
    optimizer = torch.optim.AdamW([{"params": rest + head[:2]}, {"params": head[2:]}], lr=0.4)
    slow(optimizer, head)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.4, 0.4 * SHARE, 0.4 * SHARE]
    )
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rest) + 4
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    SmallerRate(0.2).on_train_begin(None, None, None, optimizer, schedule)
    assert schedule.base_lrs == pytest.approx([0.2, 0.2 * SHARE, 0.2 * SHARE])
    assert schedule.get_last_lr() == pytest.approx([0.1, 0.1 * SHARE, 0.1 * SHARE])


def test_the_choice_is_told_where_it_is_made(lab: Any) -> None:
    def chosen(task: str, **training: Any) -> list[str]:
        spec = lab.spec(task, run=f"{task}-{training['method']}".lower(), max_steps=2, **training)
        return [c.reason for c in lab.train(spec).resolved if c.name == "training.head"]

    (reason,) = chosen("TextClassification", method="IA3")
    assert reason.startswith("a logistic regression on 96 training rows")
    assert chosen("TextRegression", method="IA3") == []
