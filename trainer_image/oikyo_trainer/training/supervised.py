"""The Trainer of TextGeneration: whole steps from the data path, losses over labelled tokens alone.

One batch of the DataLoader is everything that this process learns in one step, already cut into
micro-batches; the Trainer sees no accumulation. Nothing here waits for the device: what a step weighs
was counted on the host (`microbatch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from oikyo.api.jobstatus import Resolved
from oikyo.api.training import TrainingSpec

from .distributed import World
from .forgetting import EVAL_GENERAL_LOSS
from .fsdp import shard
from .hyperparameters import Plan
from .kernels import fuse
from .microbatch import Steps, build, only
from .packing import Shape, StepSampler, deal
from .probe import Choice, check_parted, choose, summed_loss, tried
from .tensor import own_labels
from .tokenfiles import TokenRows
from .trainers import Steady, silence

MOST_TOKENS_CPU = 4096
MOST_TOKENS_CUDA = 16384
"""Tokens of one forward pass above which the processor gains nothing more."""
NOISY = "neftuneAlpha scales its noise by the length of a row"


class Supervised(Steady):
    """Mixed into transformers' Trainer; see the module's docstring."""

    order: StepSampler
    shape: Shape
    choice: Choice
    accelerator: Any
    general_rows: TokenRows | None = None
    """Rows of what the base knew, measured beside the validation rows."""

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The next step; its labels are known, so no process has to ask the others."""
        batches = [step for _, step in zip(range(num_batches), epoch_iterator, strict=False)]
        return batches, sum(step.labels for step in batches)

    def floating_point_ops(self, inputs: Any) -> int:
        """Counted by throughput.py, not by walking over all parameters at every step."""
        return 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Learn the micro-batches of one step; returns this process's part of the mean, detached."""
        model.train()
        total = torch.zeros((), device=self.args.device)
        scale = self.world.size / max(
            1, inputs.labels
        )  # DDP and DeepSpeed take means over processes
        for number, whole in enumerate(inputs.parts, 1):
            part = own_labels(whole, self.world)
            last = number == len(inputs.parts)
            self.accelerator.gradient_state._set_sync_gradients(last)
            with nullcontext() if last else self.accelerator.no_sync(model):
                loss = self._summed(model, part.to(self.args.device)) * scale
                self._backward(loss)
            total += loss.detach()
            self.counter.count(
                tokens=part.tokens, slots=part.slots, labels=part.labels, squares=part.squares
            )
        return total

    def _summed(self, model: Any, part: Any) -> torch.Tensor:
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        return summed_loss(model, part, fused=self.choice.fused, smoothing=smoothing)

    def _backward(self, loss: torch.Tensor) -> None:
        options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **options)

    def _validation(self) -> dict[str, float]:
        found = super()._validation()
        if self.general_rows is not None:
            found[EVAL_GENERAL_LOSS] = self._loss_over(self.general_rows)
        return found

    def _validation_loss(self) -> float:
        return self._loss_over(self.eval_dataset)

    @torch.no_grad()
    def _loss_over(self, rows: TokenRows) -> float:
        """Mean loss of all labels of `rows`, the same for any number of processes."""
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss, labels
        for bin_ in deal(rows.lengths, np.arange(len(rows)), self.shape)[self.world.data_rank]:
            part = own_labels(build(rows, bin_, self.choice.layout), self.world)
            total[0] += self._summed(model, part.to(self.args.device))
            total[1] += part.labels
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        loss, count = total.tolist()
        return float(loss / max(count, 1))


def make_supervised(
    training: TrainingSpec,
    plan: Plan,
    world: World,
    *,
    model: Any,
    arguments: Any,
    tokenizer: Any,
    train_rows: TokenRows,
    validation_rows: TokenRows | None,
    callbacks: list[Any],
) -> tuple[Any, tuple[Resolved, ...]]:
    """The Trainer for answers to be learned, and how its rows and its loss were chosen."""
    from transformers import Trainer

    cuda = arguments.device.type == "cuda"
    # Rows are tried where the Trainer would move the model just after; on the host with FSDP, since a
    # model that needs it may not fit a GPU whole.
    if not plan.fsdp:
        model.to(arguments.device)
    norms = training.method != "LayerNorm"
    kernels = fuse(model, cuda=cuda, norms=norms, on_host=plan.fsdp)
    choice = choose(
        model,
        tokenizer.pad_token_id,
        sharded=plan.zero_stage == 3,
        bf16=plan.bf16,
        why_padded=NOISY if training.neftune_alpha is not None else "",
    )
    if plan.fsdp:
        _part(model, training, plan, world, choice=choice, device=arguments.device)
    tokens, reason = micro_tokens(training, plan, cuda=cuda)
    shape = Shape(plan.batch, world.data_size, choice.layout.packed, tokens, plan.micro_batch)
    trainer: Any = type("SupervisedTrainer", (Supervised, Trainer), {})(
        model=model,
        args=arguments,
        data_collator=only,
        train_dataset=Steps(train_rows, choice.layout),
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.choice, trainer.shape = choice, shape
    trainer.order = StepSampler(
        train_rows.lengths, train_rows.labelled, shape, seed=training.seed, copies=world.tensor
    )
    silence(trainer)
    return trainer, (*kernels, *_resolved(choice, tokens, reason))


def _part(
    model: Any,
    training: TrainingSpec,
    plan: Plan,
    world: World,
    *,
    choice: Choice,
    device: torch.device,
) -> None:
    """Part the model among the processes; where layers are parted too, it must compute as before."""
    before = tried(model, choice, World(), model.device) if world.tensor > 1 else 0.0
    offload = training.offload != "None"
    shard(model, bf16=plan.bf16, offload=offload, device=device, tensor=world.tensor)
    if world.tensor > 1:
        check_parted(model, before, choice, world, device=device, bf16=plan.bf16)


def micro_tokens(training: TrainingSpec, plan: Plan, *, cuda: bool) -> tuple[int, str]:
    """Most tokens of a packed micro-batch, and why."""
    asked = plan.micro_batch * plan.longest
    if training.micro_batch_size is not None:
        return asked, f"microBatchSize {plan.micro_batch} rows x {plan.longest} tokens"
    most = MOST_TOKENS_CUDA if cuda else MOST_TOKENS_CPU
    if asked <= most:
        return asked, f"{plan.micro_batch} rows x {plan.longest} tokens"
    return max(most, plan.longest), f"enough to keep the processor busy, {most} or one row"


def _resolved(choice: Choice, tokens: int, reason: str) -> Iterator[Resolved]:
    yield from choice.resolved()
    if choice.layout.packed:
        yield Resolved(name="training.microBatchTokens", value=str(tokens), reason=reason)
