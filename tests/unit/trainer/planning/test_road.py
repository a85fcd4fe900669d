"""The plan that the prepare stage makes: what fits is taken, what cannot fit is refused early."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.planning.choose import HEADROOM
from oikyo_trainer.planning.road import fit, plan_training, quantity
from oikyo_trainer.planning.shape import read_shape

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "vocab_size": 8000,
    "max_position_embeddings": 2048,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """config.json and a safetensors file of a header alone: a model of 200 million weights."""
    shapes = {"model.embed_tokens.weight": (8000, 1024)}
    for layer in range(12):
        for name, out, into in (
            ("self_attn.q_proj", 1024, 1024),
            ("self_attn.k_proj", 1024, 1024),
            ("mlp.gate_proj", 4096, 1024),
            ("mlp.up_proj", 4096, 1024),
            ("mlp.down_proj", 1024, 4096),
        ):
            shapes[f"model.layers.{layer}.{name}.weight"] = (out, into)
    header = {name: {"dtype": "F32", "shape": shape} for name, shape in shapes.items()}
    body = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(body)) + body)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def training(memory: str | None, **more: Any) -> TrainingSpec:
    given = {"method": "Full", "precision": "Float32", "resources": {"memory": memory}, **more}
    return TrainingSpec.model_validate(given)


def peak(model: Path, rows: int, again: str, longest: int = 512) -> int:
    """Predicted bytes of exactly so many rows."""
    wanted = training(None, micro_batch_size=rows, gradient_checkpointing=again)
    wanted = wanted.model_copy(update={"max_length": longest})
    choice = plan_training(wanted, "TextGeneration", read_shape(model), 1 << 50, longest)
    return choice.prediction.peak


def test_as_many_rows_as_fit_are_taken_and_nothing_is_computed_twice(model: Path) -> None:
    memory = str(int(peak(model, 4, "Never") / HEADROOM) + 1)
    plan = fit(training(memory), "TextGeneration", model, 512)
    assert (plan.micro_batch_size, plan.gradient_checkpointing) == (4, False)
    assert "predicted of" in plan.reason


def test_short_rows_leave_room_for_more_of_them(model: Path) -> None:
    memory = str(int(peak(model, 2, "Never") / HEADROOM) + 1)
    long = fit(training(memory), "TextGeneration", model, 512)
    short = fit(training(memory), "TextGeneration", model, 64)
    assert short.micro_batch_size > long.micro_batch_size


def test_activations_are_computed_again_only_where_not_one_row_fits_without(model: Path) -> None:
    with_, without = peak(model, 1, "Always", 2048), peak(model, 1, "Never", 2048)
    memory = str(int((with_ + without) / 2 / HEADROOM))
    plan = fit(training(memory, max_length=2048), "TextGeneration", model, 2048)
    assert plan.gradient_checkpointing
    assert plan.checkpointing_reason == "no micro-batch fits without"
    never = training(memory, max_length=2048, gradient_checkpointing="Never")
    with pytest.raises(Refused, match="needs") as refused:
        fit(never, "TextGeneration", model, 2048)
    assert "training.gradientCheckpointing: Auto" in refused.value.next_step


def test_what_cannot_fit_is_refused_with_the_smallest_change_that_would(model: Path) -> None:
    with pytest.raises(Refused, match=r"resources\.memory is 3Gi") as refused:
        fit(training("3Gi"), "TextGeneration", model, 512)
    step = refused.value.next_step
    assert step == "In a job with a new name write training.method: LoRA."
    assert fit(training("3Gi", method="LoRA"), "TextGeneration", model, 512).micro_batch_size >= 1


def test_without_a_known_memory_nothing_is_refused_and_the_plan_says_so(model: Path) -> None:
    for wanted, why in (
        (training(None), "training.resources.memory is not given"),
        (training("1Mi", resources={"gpus": 1, "memory": "1Mi"}), "GPU is not known"),
    ):
        plan = fit(wanted, "TextGeneration", model, 512)
        assert why in plan.reason
        assert plan.micro_batch_size == 32


def test_a_batch_that_processes_cannot_share_is_refused_with_the_data(model: Path) -> None:
    with pytest.raises(Refused, match="multiple of 3"):
        fit(training(None, processes_per_node=3), "TextGeneration", model, 512)


@pytest.mark.parametrize(
    ("text", "number"), [("1Gi", 2**30), ("500M", 500_000_000), ("2048", 2048), ("1.5Ki", 1536)]
)
def test_quantities_read_as_in_kubernetes(text: str, number: int) -> None:
    assert quantity(text) == number
