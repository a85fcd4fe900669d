"""The formulas of activations against what torch really keeps of a forward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oikyo_trainer.planning.predict import _activations
from oikyo_trainer.planning.setup import Setup
from oikyo_trainer.planning.shape import ModelShape, read_shape
from oikyo_trainer.training.dropout import keep_bytes
from oikyo_trainer.training.gelu import fuse_gelu
from oikyo_trainer.training.methods.lowrank import fuse

ROWS, LENGTH = 4, 128


def model_of(family: str) -> Any:
    import transformers as t

    sizes: dict[str, Any] = {
        "vocab_size": 1000,
        "hidden_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 704,
        "max_position_embeddings": 256,
    }
    if family == "bert":
        return t.BertForSequenceClassification(t.BertConfig(**sizes))
    if family == "gpt2":
        config = t.GPT2Config(
            vocab_size=1000, n_embd=256, n_layer=3, n_head=4, n_inner=704, n_positions=256
        )
        return t.GPT2LMHeadModel(config)
    kinds: dict[str, Any] = {
        "llama": (t.LlamaConfig, t.LlamaForCausalLM),
        "qwen3": (t.Qwen3Config, t.Qwen3ForCausalLM),
    }
    config, kind = kinds[family]
    more = {"head_dim": 64} if family == "qwen3" else {}
    return kind(config(**sizes, num_key_value_heads=2, **more))


def kept_bytes(model: Any, *, bf16: bool) -> int:
    """Bytes that autograd keeps for the backward pass, parameters left out, each storage once."""
    import torch

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(0, 1000, (ROWS, LENGTH))
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        held = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    del held
    return sum(kept.values())


@pytest.mark.parametrize("method", ["Full", "LoRA"])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "qwen3"])
def test_the_formula_says_what_autograd_keeps(
    family: str, bf16: bool, method: str, tmp_path: Path
) -> None:
    model = model_of(family).train()
    model.save_pretrained(tmp_path)
    if method == "LoRA":
        from peft import LoraConfig, get_peft_model

        kind = "SEQ_CLS" if family == "bert" else "CAUSAL_LM"
        model = get_peft_model(
            model, LoraConfig(task_type=kind, lora_dropout=0.05, r=16, target_modules="all-linear")
        )
        fuse(model)
    keep_bytes(model)
    fuse_gelu(model)
    setup = Setup(method, ROWS, LENGTH, bf16=bf16, loss="Classes")
    predicted = _activations(read_shape(tmp_path), setup)
    assert predicted == pytest.approx(kept_bytes(model, bf16=bf16), rel=0.12)


def test_checkpointing_keeps_one_layer_and_the_inputs_of_all(tmp_path: Path) -> None:
    model_of("llama").save_pretrained(tmp_path)
    shape: ModelShape = read_shape(tmp_path)
    plain = Setup("Full", ROWS, LENGTH)
    assert _activations(shape, replace(plain, checkpointing=True)) < 0.55 * _activations(
        shape, plain
    )
