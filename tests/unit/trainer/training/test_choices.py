"""Optimizer, dropout, NEFTune, and the best checkpoint by another metric than the loss."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.training.callbacks import Rhythm, ranking_at
from oikyo_trainer.training.distributed import World
from oikyo_trainer.training.heads import Head
from oikyo_trainer.training.history import History
from oikyo_trainer.training.manifest import read_manifest
from oikyo_trainer.training.model import dropouts, load_weights, open_base
from oikyo_trainer.training.trainers import optimizer_name
from unit.trainer.training.conftest import llama_base

pytestmark = pytest.mark.timeout(180)


def test_the_optimizer_is_what_was_asked_for_or_refused() -> None:
    assert optimizer_name(TrainingSpec(), cuda=False) == "adamw_torch"
    assert optimizer_name(TrainingSpec(), cuda=True) == "adamw_torch_fused"
    assert optimizer_name(TrainingSpec(optimizer="Adafactor"), cuda=False) == "adafactor"
    with pytest.raises(Refused, match="AdamW8bit, and this worker sees no GPU"):
        optimizer_name(TrainingSpec(optimizer="AdamW8bit"), cuda=False)


def test_dropout_sets_what_the_config_has(lab: Any) -> None:
    spec = lab.spec("TextClassification")
    base = open_base(lab.workspace, spec.model_digest, spec.task)
    import torch

    model = load_weights(base, Head(("a", "b")), torch.float32, dropout="0.25")
    shares = {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)}
    assert shares == {0.25}
    plain = load_weights(base, Head(("a", "b")), torch.float32)
    assert {m.p for m in plain.modules() if isinstance(m, torch.nn.Dropout)} == {0.1}


def test_dropout_before_the_head_is_set_too() -> None:
    from transformers import AlbertConfig, DistilBertConfig

    assert dropouts(DistilBertConfig(), 0.3)["seq_classif_dropout"] == 0.3
    assert dropouts(AlbertConfig(), 0.0)["classifier_dropout_prob"] == 0.0


def test_a_model_without_dropout_refuses_it() -> None:
    from transformers import MambaConfig

    with pytest.raises(Refused, match=r"training.dropout is 0.2, and the config of this mamba"):
        dropouts(MambaConfig(), 0.2)


class _State:
    """As far as the callbacks read transformers' TrainerState."""

    def __init__(self, *values: float) -> None:
        self.log_history = [
            {"step": 10 * n, "eval_loss": 1.0, "eval_f1_macro": value}
            for n, value in enumerate(values, 1)
        ]
        self.global_step = 10 * len(values)


class _Control:
    should_training_stop = False


def test_early_stopping_waits_for_the_chosen_metric_to_rise() -> None:
    rhythm = Rhythm(
        None,  # type: ignore[arg-type]
        World(),
        validates=True,
        patience=2,
        select_by="f1_macro",
    )
    control = _Control()
    rhythm.on_evaluate(None, _State(0.5, 0.7, 0.6), control)
    assert not control.should_training_stop
    rhythm.on_evaluate(None, _State(0.5, 0.7, 0.6, 0.69), control)
    assert control.should_training_stop
    assert rhythm.stopped_early == (
        "stopped early at step 40: the validation f1_macro has not risen above 0.7 of step 20 in 2 "
        "validations"
    )


def test_a_checkpoint_is_ranked_so_that_less_is_better() -> None:
    state = _State(0.5, 0.7)
    assert ranking_at(state, 20, "f1_macro") == -0.7
    assert ranking_at(state, 20, "loss") is None


@pytest.mark.slow
def test_the_best_checkpoint_is_the_one_of_the_best_metric(lab: Any) -> None:
    settings = {"epochs": 4, "select_by": "accuracy", "checkpoints": {"every_steps": 6, "keep": 20}}
    result = lab.train(lab.spec("TextClassification", **settings))
    lines = History(lab.workspace / layout.stage("run-1", "train") / "history.jsonl").lines()
    seen = {line["step"]: line["eval_accuracy"] for line in lines if "eval_accuracy" in line}
    assert set(seen) >= {6, 12, 18}
    best = max(seen.values())
    assert result.best_step == min(step for step, value in seen.items() if value == best)
    folder = lab.workspace / layout.checkpoints("run-1") / f"checkpoint-{result.best_step}"
    assert read_manifest(folder).ranking == pytest.approx(-best)
    assert all("eval_f1_macro" in line for line in lines if "eval_accuracy" in line)


@pytest.mark.slow
def test_neftune_adafactor_and_dropout_train(lab: Any) -> None:
    llama_base(lab.workspace)
    settings = {"neftune_alpha": "5", "optimizer": "Adafactor", "dropout": "0.2", "epochs": 3}
    result = lab.train(lab.spec("TextGeneration", learning_rate="1e-2", **settings))
    rows = next(choice for choice in result.resolved if choice.name == "training.rows")
    assert rows.value == "Padded"
    assert "noise" in rows.reason
    loss = next(float(m.value) for m in result.metrics if m.name == "best_eval_loss")
    assert loss < math.log(9)
    config = json.loads((lab.workspace / result.model_path / "config.json").read_text())
    assert config["attention_dropout"] == 0.2
