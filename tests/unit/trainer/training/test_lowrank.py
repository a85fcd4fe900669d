"""LoRA in one step of autograd against peft's own, and dropout that keeps bytes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from oikyo_trainer.training.dropout import ByteDropout, draw, keep_bytes, rounded
from oikyo_trainer.training.gelu import fuse_gelu
from oikyo_trainer.training.methods.lowrank import LowRank, fuse


def adapted(family: str, *, dropout: float = 0.0, **settings: Any) -> Any:
    """A small causal model with LoRA whose second factor is not zero."""
    import transformers as t
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    if family == "gpt2":
        config = t.GPT2Config(
            vocab_size=50, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
        )
        model: Any = t.GPT2LMHeadModel(config)
    else:
        model = t.LlamaForCausalLM(
            t.LlamaConfig(
                vocab_size=50,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                attention_bias=True,
            )
        )
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_dropout=dropout,
        target_modules="all-linear",
        fan_in_fan_out=family == "gpt2",
        **settings,
    )
    model = get_peft_model(model, lora).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def gradients(model: Any, *, bf16: bool) -> tuple[float, dict[str, torch.Tensor]]:
    tokens = torch.arange(24).reshape(2, 12)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_computes_what_peft_computes(family: str, bf16: bool) -> None:
    theirs = adapted(family)
    ours = deepcopy(theirs)
    fuse(ours)
    assert any(type(module) is LowRank for module in ours.modules())
    loss, wanted = gradients(theirs, bf16=bf16)
    found_loss, found = gradients(ours, bf16=bf16)
    near: dict[str, Any] = {"rtol": 5e-2, "atol": 2e-3} if bf16 else {"rtol": 1e-4, "atol": 1e-6}
    assert found_loss == pytest.approx(loss, rel=1e-3 if bf16 else 1e-5)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, **near)


def test_what_was_dropped_is_dropped_in_the_backward_pass_too() -> None:
    layer = next(m for m in _fused(adapted("llama", dropout=0.5)).modules() if type(m) is LowRank)
    x = torch.randn(3, 5, layer.in_features, requires_grad=True)
    torch.manual_seed(7)
    out = layer(x)
    torch.manual_seed(7)
    kept = draw(x, 0.5)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    again = x.detach().requires_grad_()
    wanted = layer.get_base_layer()(again) + (
        (again * kept * 2) @ down.t() @ up.t() * layer.scaling["default"]
    )
    torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-5)
    pull = torch.randn_like(out)
    found = torch.autograd.grad(out, (x, down, up), pull)
    expected = torch.autograd.grad(wanted, (again, down, up), pull)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_dora_and_a_layer_at_rest_go_peft_s_way() -> None:
    dora = adapted("llama", use_dora=True)
    loss, wanted = gradients(deepcopy(dora), bf16=False)
    fuse(dora)
    found_loss, found = gradients(dora, bf16=False)
    assert found_loss == pytest.approx(loss, rel=1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)
    model = adapted("llama").eval()
    tokens = torch.arange(12)[None]
    before = model(input_ids=tokens).logits
    fuse(model)
    torch.testing.assert_close(model(input_ids=tokens).logits, before)
    merged = model.merge_and_unload()(input_ids=tokens).logits
    torch.testing.assert_close(merged, before, rtol=1e-4, atol=1e-5)


def test_checkpointing_draws_the_same_numbers_again() -> None:
    plain = _fused(adapted("llama", dropout=0.3))
    again = deepcopy(plain)
    again.enable_input_require_grads()
    again.gradient_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(3)
    loss, wanted = gradients(plain, bf16=False)
    torch.manual_seed(3)
    found_loss, found = gradients(again, bf16=False)
    assert found_loss == pytest.approx(loss, rel=1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_dropout_keeps_its_share_and_the_mean() -> None:
    torch.manual_seed(0)
    layer = ByteDropout(0.1)
    ones = torch.ones(1001, 333, requires_grad=True)
    out = layer(ones)
    assert (out == 0).float().mean().item() == pytest.approx(0.1, abs=2e-3)
    assert out.mean().item() == pytest.approx(1.0, abs=2e-3)
    out.sum().backward()
    assert ones.grad is not None
    assert torch.equal(ones.grad, out.detach())
    assert rounded(0.1) == pytest.approx(0.1, abs=1e-5)
    assert torch.equal(layer.eval()(ones), ones)


def test_every_dropout_of_a_model_keeps_one_byte_of_a_number() -> None:
    model = torch.nn.Sequential(torch.nn.ModuleDict({"a": torch.nn.Dropout(0.2)})["a"]).train()
    keep_bytes(model)
    kept: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.ones(100, 10, requires_grad=True))
    assert kept == [1000]


def _fused(model: Any) -> Any:
    fuse(model)
    keep_bytes(model)
    return model


@pytest.mark.parametrize("bf16", [False, True])
def test_gelu_in_one_kernel_gives_the_same_loss_and_gradients(bf16: bool) -> None:
    theirs = adapted("gpt2")
    ours = deepcopy(theirs)
    fuse_gelu(ours)
    loss, wanted = gradients(theirs, bf16=bf16)
    found_loss, found = gradients(ours, bf16=bf16)
    near: dict[str, Any] = {"rtol": 5e-2, "atol": 2e-3} if bf16 else {"rtol": 1e-4, "atol": 1e-6}
    assert found_loss == pytest.approx(loss, rel=1e-3 if bf16 else 1e-6)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, **near)
    assert not any(type(module).__name__ == "NewGELUActivation" for module in ours.modules())
