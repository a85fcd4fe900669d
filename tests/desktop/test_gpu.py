"""`oikyo run` on a GPU whose memory runs out, for real: torch is given less of it than the plan knows of."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from desktop.test_example import ENVIRONMENT, oikyo, status
from desktop.test_tensor import text_job
from unit.trainer.evaluation.tiny import LABELS, WORDS, tokenizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
GIVEN = 2**30
"""Bytes of the GPU: too few for 32 rows at once and for 16, on an H200 with torch 2.11."""


def save_base(folder: Path) -> None:
    """A random Llama of 34 M weights."""
    words = tokenizer()
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}
    config = LlamaConfig(
        vocab_size=len(words), **sizes, num_attention_heads=8, max_position_embeddings=128
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)


def rows() -> list[dict[str, str]]:
    """Which kind of thing the last word is."""
    dice = random.Random(7)
    every = [(word, label) for label in LABELS for word in WORDS[label]]
    made = []
    for _ in range(900):
        words = dice.choices(every, k=100)
        prompt = " ".join(word for word, _ in words)
        made.append({"prompt": f"{prompt} is", "completion": f" {words[-1][1]}"})
    return made


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    save_base(tmp_path / "base")
    training = {
        "method": "Full", "batchSize": 128, "epochs": 6, "maxLength": 128, "learningRate": "5e-4",
        "gradientCheckpointing": "Never", "checkpoints": {"everySteps": 6}, "resources": {"gpus": 1},
    }  # fmt: skip
    return text_job(tmp_path, "starved", rows(), training)


def test_a_gpu_that_is_too_small_gets_fewer_rows_at_once_until_they_fit(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = GIVEN / torch.cuda.get_device_properties(0).total_memory
    limit = f"per_process_memory_fraction:{share:.5f}"
    monkeypatch.setitem(ENVIRONMENT, "PYTORCH_CUDA_ALLOC_CONF", limit)
    home = tmp_path / "home"
    code, told = oikyo("run", manifest, home)
    assert code == 0, told
    assert "accepted" in told
    ended = status(home, "starved")
    (training,) = (stage for stage in ended["stages"] if stage["name"] == "train")
    assert training["starved"][0] == 1
    chosen = {choice["name"]: choice for choice in ended["resolved"]}
    rows_at_once = chosen["training.microBatchSize"]
    assert int(rows_at_once["value"]) < 32  # the most that a plan takes at once
    assert rows_at_once["reason"].startswith("memory ran out with")
