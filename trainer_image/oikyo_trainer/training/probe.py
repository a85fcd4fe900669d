"""Whether rows may be packed for this model, found out by trying: a few rows together and each alone.

Every model that transformers knows is tried in the same way, so that an architecture whose layers mix
neighbours (convolutions, state spaces), or whose head does more than a matrix product, trains in
padded batches or with full logits instead of training wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from oikyo.api.jobstatus import Resolved

from ..errors import Refused
from .attention import SEGMENTED, Unpackable, register
from .distributed import World
from .loss import fuse_loss, loss_of
from .microbatch import Layout, MicroBatch, build
from .model import innermost
from .tensor import own_labels

LENGTHS = (7, 3, 12, 5)
TOLERANCE = 1e-3
"""Greatest difference of a mean loss in float32, relative above 1."""
HALF_TOLERANCE = 3e-2


@dataclass(frozen=True)
class Choice:
    """How rows meet, and how their loss is computed."""

    layout: Layout
    fused: bool
    """Whether the loss is computed without the matrix of all logits."""
    packing_reason: str
    loss_reason: str

    def resolved(self) -> Iterator[Resolved]:
        rows = "Packed" if self.layout.packed else "Padded"
        yield Resolved(name="training.rows", value=rows, reason=self.packing_reason)
        loss = "LabelledTokens" if self.fused else "AllLogits"
        yield Resolved(name="training.loss", value=loss, reason=self.loss_reason)


def choose(
    model: Any, pad_token_id: int, *, sharded: bool, bf16: bool = False, why_padded: str = ""
) -> Choice:
    """Set the model to the packed attention and the fused loss where they compute the same as without.

    `sharded` says that the weights are in parts on several processes (ZeRO-3); `bf16` that
    it will train in halves, for which a GPU has another attention; `why_padded`, if not empty, that packing
    is no question.
    """
    padded = Layout(packed=False, pad_token_id=pad_token_id)
    if _prompted(model):
        return Choice(
            padded,
            False,
            "learned vectors stand before each row, and rows laid end to end have one beginning",
            "the logits of the learned vectors are dropped first",
        )
    if sharded:
        return Choice(
            padded,
            False,
            "ZeRO3 holds the weights in parts before packing could be tried",
            "ZeRO3 gathers the head only for its own forward pass",
        )
    causal = innermost(model)
    rows = _rows(causal.config.get_text_config().vocab_size)
    was_training = model.training
    model.eval()
    try:
        with _arithmetic(model, bf16):
            alone = [_reference(model, row) for row in rows]
            if why_padded:
                layout, packing_reason = padded, why_padded
            else:
                layout, packing_reason = _choose_packing(model, rows, alone, padded)
            fused, loss_reason = _choose_loss(model, rows, alone, layout)
    finally:
        model.train(was_training)
    return Choice(layout, fused, packing_reason, loss_reason)


def _arithmetic(model: Any, bf16: bool) -> Any:
    """As the model will be trained where that decides which kernels compute; else as exactly as it can be."""
    return torch.autocast("cuda", torch.bfloat16, enabled=bf16 and model.device.type == "cuda")


def _prompted(model: Any) -> bool:
    """Whether peft puts learned vectors before the rows."""
    return hasattr(model, "active_peft_config") and model.active_peft_config.is_prompt_learning


def _rows(vocabulary: int) -> list[dict[str, Any]]:
    """Random rows; every other token of them has a label."""
    random = np.random.default_rng(0)
    rows = []
    for length in LENGTHS:
        tokens = random.integers(0, vocabulary, length)
        labels = np.where(np.arange(length) % 2, tokens, -100)
        rows.append({"input_ids": tokens, "labels": labels})
    return rows


@torch.no_grad()
def _reference(model: Any, row: dict[str, Any]) -> float:
    """Summed loss of a row by itself, by the model's own logits."""
    tokens = torch.from_numpy(row["input_ids"])[None].to(model.device)
    labels = torch.from_numpy(row["labels"])[1:].to(model.device)
    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, :-1]
    return float(cross_entropy(logits.float(), labels, reduction="sum"))


def _choose_packing(
    model: Any, rows: Any, alone: list[float], padded: Layout
) -> tuple[Layout, str]:
    causal = innermost(model)
    before = causal.config._attn_implementation
    if before != "sdpa":
        return padded, f"the model's attention is {before}, which cannot be replaced"
    register()
    causal.set_attn_implementation(SEGMENTED)
    layout = Layout(True, padded.pad_token_id)
    try:
        refusal = _difference(model, rows, alone, layout, fused=False)
    except (Unpackable, TypeError, ValueError, RuntimeError, IndexError) as error:
        refusal = str(error).splitlines()[0]
    if not refusal:
        return layout, "rows laid end to end compute the same as each alone, without padding"
    causal.set_attn_implementation(before)
    return padded, f"{type(causal).__name__} cannot be packed: {refusal}"


def _choose_loss(model: Any, rows: Any, alone: list[float], layout: Layout) -> tuple[bool, str]:
    causal = innermost(model)
    head = causal.get_output_embeddings()
    if type(head) is not torch.nn.Linear:
        return False, f"the head is a {type(head).__name__}"
    plain = causal.forward
    fuse_loss(causal)
    refusal = _difference(model, rows, alone, layout, fused=True)
    if not refusal:
        return True, "the head's product alone gives the same loss as the model's logits"
    causal.forward = plain
    return False, f"{type(causal).__name__} does more than its head: {refusal}"


@torch.no_grad()
def _difference(model: Any, rows: Any, alone: list[float], layout: Layout, *, fused: bool) -> str:
    """Why the rows together are not the rows alone; empty if they are."""
    # Each row's loss by itself: a difference of one could hide in the sum of all.
    for row, wanted in enumerate(alone):
        bin_ = [n if n == row else ~n for n in range(len(rows))]
        part = build(rows, bin_, layout).to(model.device)
        found = float(summed_loss(model, part, fused=fused)) / part.labels
        mean = wanted / part.labels
        half = next(model.parameters()).dtype != torch.float32 or torch.is_autocast_enabled("cuda")
        allowed = HALF_TOLERANCE if half else TOLERANCE
        if not abs(found - mean) <= allowed * max(1.0, abs(mean)):
            return f"a row has loss {mean:.5g} alone and {found:.5g} among others"
    return ""


@torch.no_grad()
def tried(model: Any, choice: Choice, world: World, device: torch.device) -> float:
    """Mean loss of the tried rows as they are going to be learned; all processes come here together."""
    rows = _rows(innermost(model).config.get_text_config().vocab_size)
    part = build(rows, range(len(rows)), choice.layout).to(device)
    was_training = model.training
    model.eval()
    total = summed_loss(model, own_labels(part, world), fused=choice.fused).double()
    model.train(was_training)
    if world.tensor > 1:  # every group has the same rows here
        torch.distributed.all_reduce(total)
        total /= world.data_size
    return float(total) / part.labels


def check_parted(
    model: Any, whole: float, choice: Choice, world: World, *, device: torch.device, bf16: bool
) -> None:
    """Refuse a model that in tensor groups does not compute the loss that it had `whole`."""
    found = tried(model, choice, world, device)
    model.reshard()  # what is in no layer stays whole after a forward pass, and is not to be learned so
    if abs(found - whole) <= (HALF_TOLERANCE if bf16 else TOLERANCE) * max(1.0, abs(whole)):
        return
    name = type(innermost(model)).__name__
    raise Refused(
        "TensorGroupsDiffer",
        f"training.tensorParallelSize is {world.tensor}, and {name} does not compute the same in tensor "
        f"groups: its loss of a few rows is {found:.5g} so, and {whole:.5g} on one process",
        next_step="In a job with a new name leave tensorParallelSize out: strategy FSDP alone parts the "
        "weights of any model.",
    )


def summed_loss(
    model: Any, part: MicroBatch, *, fused: bool, smoothing: float = 0.0
) -> torch.Tensor:
    """Summed loss of the labels of a micro-batch, () float32."""
    return loss_of(
        model, part.inputs, part.positions, part.targets, fused=fused, smoothing=smoothing
    )
