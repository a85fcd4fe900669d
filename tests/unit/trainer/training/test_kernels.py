"""Which kernels a model gets; that they compute the same needs a GPU."""

from __future__ import annotations

import copy
from importlib.util import find_spec

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from oikyo_trainer.training.kernels import PACKAGE, fuse


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 100}
    return LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=2, num_attention_heads=2))


def test_a_cpu_has_no_choice_and_its_model_stays_as_it_is() -> None:
    ours = model()
    before = ours.forward
    assert fuse(ours, cuda=False) == ()
    assert ours.forward == before


def test_a_model_that_is_tried_on_the_host_stays_as_it_is() -> None:
    ours = model()
    before = [layer.mlp.forward for layer in ours.model.layers]
    (choice,) = fuse(ours, cuda=True, on_host=True)
    assert (choice.value, [layer.mlp.forward for layer in ours.model.layers]) == ("PyTorch", before)


@pytest.mark.skipif(find_spec(PACKAGE) is not None, reason="the package is here")
def test_a_missing_package_is_said() -> None:
    (choice,) = fuse(model(), cuda=True)
    assert choice.value == "PyTorch"
    assert "not installed" in choice.reason


@pytest.mark.gpu
def test_fused_kernels_compute_the_same_loss() -> None:
    pytest.importorskip(PACKAGE)
    plain = model().cuda()
    fused = copy.deepcopy(plain)
    (choice,) = fuse(fused, cuda=True)
    assert choice.value == "Liger"
    ids = torch.arange(64, device="cuda")[None] % 100
    losses = [one(ids, labels=ids).loss for one in (plain, fused)]
    for loss in losses:
        loss.backward()
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-4)
    gradients = [one.model.embed_tokens.weight.grad for one in (plain, fused)]
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
def test_a_model_made_after_it_computes_on_a_cpu_as_before() -> None:
    pytest.importorskip(PACKAGE)
    ids = torch.arange(64)[None] % 100
    before = model()(input_ids=ids).logits
    for _ in range(2):  # a second fold, and a training after a rollback, fuse again
        fuse(model().cuda(), cuda=True)
    assert torch.equal(model()(input_ids=ids).logits, before)


@pytest.mark.gpu
def test_trained_norms_stay_those_that_are_learned() -> None:
    pytest.importorskip(PACKAGE)
    from oikyo.api.training import TrainingSpec
    from oikyo_trainer.training.methods.adapters import add_adapter

    spec = TrainingSpec(method="LayerNorm", merge=False)
    tuned = add_adapter(model().cuda(), "TextGeneration", spec, autocast=True)
    fuse(tuned, cuda=True, norms=False)
    ids = torch.arange(64, device="cuda")[None] % 100
    tuned(input_ids=ids, labels=ids).loss.backward()
    assert all(weight.grad is not None for weight in tuned.parameters() if weight.requires_grad)
