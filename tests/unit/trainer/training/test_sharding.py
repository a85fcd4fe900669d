"""What is said to DeepSpeed and FSDP, as far as no gang is needed to see it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch

from oikyo_trainer.errors import Refused
from oikyo_trainer.training.deepspeed import prepare_deepspeed, zero_settings
from oikyo_trainer.training.fsdp import layers


@pytest.mark.parametrize(
    ("offload", "told"),
    [
        ("None", set()),
        ("Optimizer", {"offload_optimizer"}),
        ("Parameters", {"offload_optimizer", "offload_param"}),
    ],
)
def test_zero_leaves_to_the_host_what_was_asked(offload: str, told: set[str]) -> None:
    zero = zero_settings(3, cuda=True, offload=offload)["zero_optimization"]
    assert {name for name in zero if name.startswith("offload")} == told
    assert all(zero[name]["device"] == "cpu" for name in told)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is here")
@pytest.mark.parametrize("cuda", [False, True])
def test_a_stage_of_zero_without_deepspeed_is_refused(
    cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")  # it is set for a CPU, and stays
    with pytest.raises(Refused, match="this image holds no deepspeed"):
        prepare_deepspeed(cuda=cuda)


def a_llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8}
    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=3, num_attention_heads=2, **sizes))


def a_bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8}
    return BertForSequenceClassification(
        BertConfig(num_hidden_layers=3, num_attention_heads=2, **sizes)
    )


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (a_llama, ["LlamaDecoderLayer"] * 3),
        (a_bert, ["BertEmbeddings", *["BertLayer"] * 3]),
        (
            lambda: torch.nn.ModuleDict({"body": torch.nn.ModuleList([torch.nn.Linear(2, 2)])}),
            ["Linear"],
        ),
    ],
    ids=["named by its layers", "named with its embeddings", "not named: the items of its lists"],
)
def test_the_weights_of_a_layer_are_gathered_together(make: Any, kinds: list[str]) -> None:
    assert [type(layer).__name__ for layer in layers(make())] == kinds


def test_adapters_are_gathered_with_the_layer_that_they_stand_beside() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(a_llama(), LoraConfig(r=2, target_modules=["q_proj"]))
    found = list(layers(model))
    assert [type(layer).__name__ for layer in found] == ["LlamaDecoderLayer"] * 3
    assert any("lora_A" in name for name, _ in found[0].named_parameters())


def test_embeddings_that_prompt_tuning_reads_are_gathered_with_the_whole_model() -> None:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=2)
    model = get_peft_model(a_bert(), config)
    assert [type(layer).__name__ for layer in layers(model)] == ["BertLayer"] * 3
