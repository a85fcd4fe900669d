"""Gradient checkpointing: activations are computed again, and what is learned stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from oikyo.api import workspace as layout
from oikyo.api.stages import MemoryPlan
from oikyo_trainer.training.methods.lowrank import LowRank
from unit.trainer.training.conftest import digest, write_dataset

SETTINGS: dict[str, Any] = {"epochs": 1, "learning_rate": "3e-3", "precision": "Float32"}


def values(result: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in result.metrics}


def spec(lab: Any, path: str, *, run: str, **training: Any) -> Any:
    if path != "preference":
        task = "TextClassification" if path == "classes" else "TextGeneration"
        return lab.spec(task, run=run, **SETTINGS, **training)
    rows = [
        {
            "prompt": [{"role": "user", "content": "red"}],
            "chosen": [{"role": "assistant", "content": "sun moon"}],
            "rejected": [{"role": "assistant", "content": "star one"}],
        }
    ] * 24
    if not (lab.workspace / layout.dataset(digest("compared"))).exists():
        write_dataset(lab.workspace, "compared", "preference", rows, validation=6)
    made = lab.spec("TextGeneration", run=run, objective="DPO", **SETTINGS, **training)
    return made.model_copy(update={"dataset_digest": digest("compared")})


@contextmanager
def counted_products() -> Iterator[list[int]]:
    """Forward passes in training of linear layers, alone or in one step with their LoRA."""
    count = [0]

    def add(module: Any, *_: Any) -> None:
        count[0] += module.training and type(module) in (torch.nn.Linear, LowRank)

    handle = register_module_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["Full", "LoRA"])
@pytest.mark.parametrize("path", ["classes", "packed", "preference"])
def test_the_loss_is_the_same_and_layers_are_computed_twice(
    lab: Any, path: str, method: str
) -> None:
    results, products = [], []
    for word in ("Never", "Always"):
        wanted = spec(lab, path, run=word.lower(), method=method, gradient_checkpointing=word)
        with counted_products() as count:
            results.append(lab.train(wanted))
        products.append(count[0])
    for name in ("train_loss", "eval_loss"):
        assert values(results[1])[name] == pytest.approx(values(results[0])[name], abs=1e-5)
    assert products[1] > products[0] * 1.1


def test_a_training_takes_the_plan_that_was_made_with_the_data(lab: Any) -> None:
    memory = MemoryPlan(
        micro_batch_size=2,
        reason="the largest that fits",
        gradient_checkpointing=True,
        checkpointing_reason="no micro-batch fits without",
        longest=12,
    )
    wanted = lab.spec("TextClassification", run="planned", **SETTINGS)
    result = lab.train(wanted.model_copy(update={"memory": memory}))
    chosen = {choice.name: (choice.value, choice.reason) for choice in result.resolved}
    assert chosen["training.microBatchSize"] == ("2", "the largest that fits")
    assert chosen["training.gradientCheckpointing"][0] == "On"


def test_the_record_tells_the_peak_beside_the_prediction(lab: Any) -> None:
    wanted = lab.spec("TextGeneration", run="record", **SETTINGS)
    result = lab.train(wanted)
    told = values(result)
    assert told["predicted_memory_bytes"] > 960 << 20
    assert told["peak_memory_bytes"] > 100 << 20
    error = told["predicted_memory_bytes"] / told["peak_memory_bytes"] - 1
    assert f"{abs(error):.0%} {'more' if error >= 0 else 'less'}" in result.notes[-1]
