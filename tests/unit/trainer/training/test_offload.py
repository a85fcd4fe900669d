"""One GPU that leaves state to its host learns what it learns without."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult
from unit.trainer.training.conftest import metrics
from unit.trainer.training.processes import in_child, killed_at, result_of
from unit.trainer.training.test_gang import without_dropout

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
# Every row in every step: ZeRO3 pads its rows, and learns them in another order than packed ones.
SETTINGS: dict[str, Any] = {
    "method": "Full", "learning_rate": "3e-3", "checkpoints": {"every_steps": 6},
    "resources": {"gpus": 1}, "batch_size": 96, "epochs": 24,
}  # fmt: skip


def trained(lab: Any, spec: Any) -> TrainResult:
    assert in_child(lab, spec)
    return result_of(lab, spec)


@pytest.mark.parametrize(
    ("task", "strategy", "offload"),
    [
        ("TextGeneration", "FSDP", "Parameters"),
        ("TextGeneration", "ZeRO1", "Optimizer"),
        ("TextGeneration", "ZeRO2", "Optimizer"),
        ("TextGeneration", "ZeRO3", "Parameters"),
        ("TextRegression", "FSDP", "Parameters"),
        ("TextRegression", "ZeRO2", "Optimizer"),  # a new head of ZeRO3 is drawn on the GPU
    ],
)
def test_offloading_learns_the_same_and_goes_on_from_a_checkpoint(
    lab: Any, task: str, strategy: str, offload: str
) -> None:
    if strategy.startswith("ZeRO") and not find_spec("deepspeed"):
        pytest.skip("needs oikyo[deepspeed]")
    plain = lab.spec(task, run="plain", **SETTINGS)
    without_dropout(lab, plain.model_digest)
    expected = metrics(trained(lab, plain))
    state = {"strategy": strategy, "offload": offload}
    left = lab.spec(task, run="left", **SETTINGS, **state)
    place = lab.workspace / layout.checkpoints("left")
    assert not in_child(lab, left, partial(killed_at, place, f"checkpoint-12/{layout.MANIFEST}"))
    result = trained(lab, lab.spec(task, run="left", attempt=2, **SETTINGS, **state))
    assert metrics(result)["resumed_from_step"] >= 12
    assert metrics(result)["eval_loss"] == pytest.approx(expected["eval_loss"], rel=1e-3)
    chosen = {choice.name: choice.value for choice in result.resolved}
    assert chosen["training.strategy"] == strategy
