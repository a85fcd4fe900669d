"""The Trainers of TextGeneration: whole steps from the data path, losses over labelled tokens alone.

One batch of the DataLoader is everything that this process learns in one step, already cut into
micro-batches; the Trainer sees no accumulation. Nothing here waits for the device: what a step weighs
was counted on the host (`microbatch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
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
from .microbatch import Layout, MicroBatch, Steps, build, only
from .packing import Shape, StepSampler, deal
from .probe import Choice, check_parted, choose, summed_loss, tried
from .tensor import own_labels
from .tokenfiles import TokenRows
from .trainers import Steady, silence

MOST_TOKENS_CPU = 4096
MOST_TOKENS_CUDA = 16384
"""Tokens of one forward pass above which the processor gains nothing more."""
NOISY = "neftuneAlpha scales its noise by the length of a row"


class WholeSteps(Steady):
    """Mixed into transformers' Trainer; see the module's docstring."""

    sequences = 1
    """Of each row."""
    sides: tuple[int, ...] = (0,)
    """Which of them it learns from."""
    others: tuple[int, ...] = ()
    """Which its loss is told by beside these."""
    order: StepSampler
    shape: Shape
    choice: Choice
    accelerator: Any

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

    def _summed(self, model: Any, part: MicroBatch) -> torch.Tensor:
        """Loss of a micro-batch, a sum over what the step takes the mean of."""
        raise NotImplementedError

    def _backward(self, loss: torch.Tensor) -> None:
        options = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **options)

    def _validation_loss(self) -> float:
        return self._loss_over(self.eval_dataset)

    @torch.no_grad()
    def _loss_over(self, rows: Any) -> float:
        """Mean loss of all labels of `rows`, the same for any number of processes."""
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        for part in self.dealt(rows, self.choice.layout):
            total += self._summed(model, own_labels(part, self.world))
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        return float(total) / max(1, int(rows.labelled.sum()))

    def dealt(self, rows: Any, layout: Layout) -> Iterator[MicroBatch]:
        """This process's share of all `rows`; each process gets as many micro-batches."""
        for bin_ in deal(rows.lengths, np.arange(len(rows)), self.shape)[self.world.data_rank]:
            yield build(rows, bin_, layout).to(self.args.device)


class Supervised(WholeSteps):
    """Learns the labelled tokens."""

    general_rows: TokenRows | None = None
    """Rows of what the base knew, measured beside the validation rows."""

    def _summed(self, model: Any, part: MicroBatch) -> torch.Tensor:
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        return summed_loss(model, part, fused=self.choice.fused, smoothing=smoothing)

    def _validation(self) -> dict[str, float]:
        found = super()._validation()
        if self.general_rows is not None:
            found[EVAL_GENERAL_LOSS] = self._loss_over(self.general_rows)
        return found


def make_whole_steps(
    kind: type[WholeSteps],
    training: TrainingSpec,
    plan: Plan,
    world: World,
    *,
    model: Any,
    arguments: Any,
    tokenizer: Any,
    train_rows: Any,
    validation_rows: Any,
    callbacks: list[Any],
) -> tuple[Any, tuple[Resolved, ...]]:
    """A Trainer that takes whole steps of rows, and how these and its loss were chosen."""
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
    layout = replace(choice.layout, sequences=kind.sequences, sides=kind.sides)
    choice, others = replace(choice, layout=layout), replace(layout, sides=kind.others)
    tokens, reason = micro_tokens(training, plan, cuda=cuda, sequences=len(kind.sides))
    shape = Shape(plan.batch, world.data_size, choice.layout.packed, tokens, plan.micro_batch)
    trainer: Any = type(f"{kind.__name__}Trainer", (kind, Trainer), {})(
        model=model,
        args=arguments,
        data_collator=only,
        train_dataset=Steps(train_rows, layout, others if kind.others else None),
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    trainer.choice, trainer.shape, trainer.world = choice, shape, world
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


def micro_tokens(
    training: TrainingSpec, plan: Plan, *, cuda: bool, sequences: int
) -> tuple[int, str]:
    """Most tokens of a packed micro-batch, and why."""
    longest = sequences * plan.longest
    asked, words = plan.micro_batch * longest, f"{plan.micro_batch} rows x {longest} tokens"
    if training.micro_batch_size is not None:
        return asked, f"microBatchSize {words}"
    most = MOST_TOKENS_CUDA if cuda else MOST_TOKENS_CPU
    if asked <= most:
        return asked, words
    return max(most, longest), f"enough to keep the processor busy, {most} or one row"


def _resolved(choice: Choice, tokens: int, reason: str) -> Iterator[Resolved]:
    yield from choice.resolved()
    if choice.layout.packed:
        yield Resolved(name="training.microBatchTokens", value=str(tokens), reason=reason)
