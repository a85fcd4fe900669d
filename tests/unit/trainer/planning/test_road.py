"""The plan that the prepare stage makes: what fits is taken, what cannot fit is refused early."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
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


@pytest.mark.parametrize("tied", [True, False])
def test_config_json_alone_says_what_the_weights_would(tmp_path: Path, tied: bool) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        dtype="bfloat16",
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    whole = read_shape(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    alone = read_shape(tmp_path)
    assert sorted(map(str, alone.linears)) == sorted(map(str, whole.linears))
    assert replace(alone, linears=whole.linears) == whole


@pytest.mark.parametrize(
    ("config", "weights", "told"),
    [
        ("[]", None, "is no object"),
        ('{"model_type": "nobodys"}', None, "transformers makes no model"),
        (json.dumps(CONFIG), b"\x05", "is no whole safetensors file"),
        (json.dumps(CONFIG), struct.pack("<Q", 90) + b"{", "is no whole safetensors file"),
    ],
)
def test_files_that_say_nothing_are_refused_by_name(
    tmp_path: Path, config: str, weights: bytes | None, told: str
) -> None:
    (tmp_path / "config.json").write_text(config)
    if weights is not None:
        (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(Refused, match=told) as refused:
        read_shape(tmp_path)
    assert str(tmp_path) in refused.value.message


def test_masks_that_older_files_keep_are_no_weights(tmp_path: Path) -> None:
    config = CONFIG | {"model_type": "gpt2"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    header = {
        name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}
        for name, shape in (
            ("wte.weight", [8, 4]),
            ("h.0.attn.bias", [1, 1, 1024, 1024]),
            ("h.0.attn.c_attn.bias", [12]),
        )
    }
    body = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(body)) + body)
    assert read_shape(tmp_path).parameters == 44


@pytest.mark.parametrize("text", ["16GB", "-5Gi", "nan", "1e3Gi", "", "5 Gi", "Gi", "16gi"])
def test_what_is_no_quantity_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        quantity(text)
