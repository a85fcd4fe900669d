"""Tensor groups learn what one process learns: real processes over gloo, models of several shapes."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult, TrainSpec
from unit.trainer.training.conftest import WORDS, digest, metrics, tokenizer
from unit.trainer.training.processes import gang

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SETTINGS: dict[str, Any] = {
    "method": "Full",
    "lora": {"rank": 4, "dropout": "0"},
    "epochs": 1,
    "learning_rate": "3e-3",
    "max_grad_norm": "0.5",
    "checkpoints": {"every_steps": 6, "keep": 3},
}
GROUPS = {"strategy": "FSDP", "tensor_parallel_size": 2}


def a_base(lab: Any, kind: str, *, tied: bool) -> str:
    """A random causal model of two kinds of heads, biases, and norms that scale; returns its digest."""
    import torch
    import transformers

    name = f"{kind}-for-groups"
    folder = lab.workspace / layout.model(digest(name))
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.2,
        attention_bias=True,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    for name_, parameter in model.named_parameters():
        if name_.endswith("bias") or "norm" in name_:
            torch.nn.init.normal_(parameter, float("norm" in name_), 0.2)
    model.save_pretrained(folder)
    tokenizer(folder, bert=False)
    return digest(name)


def a_spec(lab: Any, base: str, run: str, **settings: Any) -> TrainSpec:
    spec: TrainSpec = lab.spec("TextGeneration", run=run, **{**SETTINGS, **settings})
    return spec.model_copy(update={"model_digest": base})


def history(lab: Any, run: str) -> list[dict[str, float]]:
    """The logged steps of a run."""
    path = lab.workspace / layout.stage(run, "train") / layout.HISTORY
    return [told for line in path.open() if "grad_norm" in (told := json.loads(line))]


@pytest.mark.parametrize(
    ("kind", "method", "tied", "processes"),
    [("Llama", "Full", True, 2), ("Qwen3", "Full", False, 4), ("Llama", "LoRA", True, 2)],
    ids=[
        "one group, a head tied to the embeddings",
        "two groups, norms of single heads",
        "one group, low-rank adapters",
    ],
)
def test_tensor_groups_reach_the_loss_of_one_process(
    lab: Any, kind: str, method: str, tied: bool, processes: int
) -> None:
    import torch

    base = a_base(lab, kind, tied=tied)
    settings = {"method": method, "label_smoothing": "0.1", "micro_batch_size": 2}
    alone = lab.train(a_spec(lab, base, "alone", **settings))
    several = gang(lab, a_spec(lab, base, "gang", **settings, **GROUPS), processes)
    told = {choice.name: choice.value for choice in several.resolved}
    assert told["training.tensorParallelSize"] == "2"
    assert metrics(several)["eval_loss"] == pytest.approx(metrics(alone)["eval_loss"], abs=1e-4)
    _same_steps(history(lab, "alone"), history(lab, "gang"))
    left, right = lab.weights(alone), lab.weights(several)
    assert left.keys() == right.keys()
    # Softmax takes no notice of a key's bias: its gradient is rounding alone, which Adam enlarges.
    for name, value in ((n, v) for n, v in left.items() if not n.endswith("k_proj.bias")):
        assert torch.allclose(value, right[name], atol=1e-4), name


def _same_steps(alone: list[dict[str, float]], gang: list[dict[str, float]]) -> None:
    """Loss and norm of each step agree, and the norm is one that is clipped."""
    assert len(alone) == len(gang) == 12
    for one, several in zip(alone, gang, strict=True):
        assert one["grad_norm"] > 0.5
        assert several["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert several["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert several["padding_share"] == one["padding_share"]


@pytest.mark.parametrize(
    ("method", "first", "others"), [("Full", 4, ((2, 2), (2, 1))), ("LoRA", 2, ())]
)
def test_a_checkpoint_of_groups_is_gone_on_from_by_any_number_of_processes(
    lab: Any, method: str, first: int, others: tuple[tuple[int, int], ...]
) -> None:
    """Bit for bit by the same groups; to rounding by others and by none."""
    import torch

    base = a_base(lab, "Qwen3", tied=True)
    settings = {"method": method, "gradient_checkpointing": "Always"}
    spec = a_spec(lab, base, "parts", **settings, **GROUPS)
    whole = gang(lab, spec, first)
    weights = lab.weights(whole)
    folder = lab.workspace / layout.checkpoints("parts")

    def again(processes: int, size: int) -> dict[str, torch.Tensor]:
        """The training from step 6 on, by so many processes in groups of `size`."""
        shutil.rmtree(folder / "checkpoint-12")
        (lab.workspace / layout.stage("parts", "train") / layout.RESULT).unlink(missing_ok=True)
        changed = spec.training.model_copy(update={"tensor_parallel_size": size})
        asked = spec.model_copy(update={"training": changed})
        result: TrainResult = gang(lab, asked, processes)
        assert metrics(result)["resumed_from_step"] == 6
        assert metrics(result)["eval_loss"] == pytest.approx(metrics(whole)["eval_loss"], abs=1e-4)
        return dict(lab.weights(result))

    for name, value in again(first, 2).items():
        assert torch.equal(value, weights[name]), name
    for processes, size in others:
        for name, value in again(processes, size).items():
            assert torch.allclose(value, weights[name], atol=1e-4), name


def test_a_model_that_computes_otherwise_in_groups_is_refused(lab: Any) -> None:
    import torch

    from oikyo_trainer.errors import Refused
    from oikyo_trainer.training.distributed import World
    from oikyo_trainer.training.model import load_weights, open_base
    from oikyo_trainer.training.probe import check_parted, choose, tried

    base = open_base(lab.workspace, a_base(lab, "Llama", tied=True), "TextGeneration")
    model: Any = load_weights(base, None, torch.float32)
    model.reshard = lambda: None
    choice = choose(model, 0, sharded=False)
    whole = tried(model, choice, World(), torch.device("cpu"))
    check_parted(model, whole, choice, World(), device=torch.device("cpu"), bf16=False)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(0.5)
    with pytest.raises(Refused, match="does not compute the same in tensor groups") as refused:
        check_parted(model, whole, choice, World(), device=torch.device("cpu"), bf16=False)
    assert "leave tensorParallelSize out" in refused.value.next_step
