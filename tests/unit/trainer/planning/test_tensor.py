"""Which models tensor groups can train, told from their config before any pod of a training starts."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.planning.road import fit
from oikyo_trainer.planning.tensor import check_tensor

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "intermediate_size": 384,
    "vocab_size": 100,
}


def a_model(folder: Path, **config: Any) -> Path:
    """A folder with config.json and the header of one tensor."""
    body = json.dumps({"model.embed_tokens.weight": {"dtype": "F32", "shape": (100, 96)}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(body)) + body)
    (folder / "config.json").write_text(json.dumps({**LLAMA, **config}))
    return folder


def training(size: int, **more: Any) -> TrainingSpec:
    given = {"method": "Full", "strategy": "FSDP", "processes_per_node": 6, **more}
    return TrainingSpec(tensor_parallel_size=size, **given)


@pytest.mark.parametrize(
    ("size", "config", "says", "step"),
    [
        (3, {}, "does not divide the model's num_key_value_heads 4", "training.tensorParallelSize: 2"),
        (6, {"num_key_value_heads": 4}, "num_key_value_heads 4", "training.tensorParallelSize: 2"),
        (2, {"num_attention_heads": 3, "num_key_value_heads": 3}, "heads 3", "leave"),
        (2, {"intermediate_size": 385}, "intermediate_size 385", "leave tensorParallelSize out"),
        (2, {"model_type": "gpt2"}, "a gpt2 model is not there", "FSDP alone parts"),
        (2, {"model_type": "phi3"}, "asks for colwise_gather_output", "FSDP alone"),
        (2, {"attention_dropout": 0.1}, "attention_dropout 0.1", 'training.dropout: "0"'),
    ],
)  # fmt: skip
def test_a_model_that_groups_cannot_train_is_refused_with_what_to_write(
    tmp_path: Path, size: int, config: dict[str, Any], says: str, step: str
) -> None:
    with pytest.raises(Refused) as refused:
        fit(training(size), "TextGeneration", a_model(tmp_path, **config), 64)
    assert f"training.tensorParallelSize is {size}" in refused.value.message
    assert says in refused.value.message
    assert step in refused.value.next_step


def test_others_are_let_through(tmp_path: Path) -> None:
    plan = fit(training(2, batch_size=6), "TextGeneration", a_model(tmp_path), 64)
    assert plan.micro_batch_size == 2, "six rows of three groups"
    noisy = a_model(tmp_path, attention_dropout=0.1)
    check_tensor(training(2, dropout="0"), noisy, processes=6)
    check_tensor(training(1), noisy, processes=6)
