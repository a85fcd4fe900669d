"""transformers' Trainer and TRL's SFTTrainer with the four things that oikyo does differently.

The order of rows is a function of the epoch; a validation draws no random numbers from the training;
a checkpoint folder is emptied before it is written; real tokens are counted.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from oikyo.api.finetunejob import Task
from oikyo.api.stages import TrainSpec

from .batches import Collator, GroupedSampler
from .callbacks import Committing, TokenCounter
from .checkpoint import Checkpoints
from .deepspeed import zero_settings
from .distributed import World, barrier
from .hyperparameters import Plan

SCHEDULERS = {"Linear": "linear", "Cosine": "cosine", "Constant": "constant_with_warmup"}
MAX_GRAD_NORM = 1.0


class Steady:
    """Mixed into a Trainer class; see the module's docstring."""

    order: GroupedSampler
    counter: TokenCounter
    checkpoints: Checkpoints
    world: World
    committing: Committing
    state: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:
        return self.order

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        self.counter.add(inputs["attention_mask"])
        loss: torch.Tensor = super().training_step(model, inputs, *args)  # type: ignore[misc]
        return loss

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:
        # A loader draws a seed when it starts: without this fence a resumed run, which may validate
        # at other moments, would go on with other dropout masks.
        with torch.random.fork_rng(devices=[]):
            metrics: dict[str, float] = super().evaluate(*args, **options)  # type: ignore[misc]
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.committing.save_started = time.monotonic()
        if self.world.is_first:
            self.checkpoints.clear(self.state.global_step)
        barrier(self.world)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The model card belongs to the release, not to a checkpoint."""


def quiet() -> None:
    """Take the libraries' bars and hints off the log: it tells the story of the run in few lines."""
    from transformers.utils import logging as transformers_log

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()


def make_arguments(
    spec: TrainSpec, plan: Plan, world: World, folder: Path, *, cuda: bool
) -> Any:
    """The arguments of the Trainer; every interval is off, because Rhythm decides."""
    training = spec.training
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": plan.micro_batch,
        "per_device_eval_batch_size": 2 * plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "max_steps": plan.total_steps,
        "learning_rate": plan.learning_rate,
        "lr_scheduler_type": SCHEDULERS[training.scheduler],
        "warmup_steps": plan.warmup_steps,
        "weight_decay": float(training.weight_decay),
        "max_grad_norm": MAX_GRAD_NORM,
        "seed": training.seed,
        "bf16": plan.bf16,
        "use_cpu": not cuda,
        "ddp_backend": None if world.size == 1 else "nccl" if cuda else "gloo",
        # The fused one is a CUDA kernel; on a CPU the plain one is as fast and everywhere the same.
        "optim": "adamw_torch_fused" if cuda else "adamw_torch",
        "deepspeed": zero_settings(plan.zero_stage, cuda=cuda) if plan.zero_stage else None,
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_nan_inf_filter": False,
        "prediction_loss_only": True,
        "activation_checkpointing": False,
        "dataloader_pin_memory": cuda,
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
    }
    if spec.task == "TextClassification":
        from transformers import TrainingArguments

        return TrainingArguments(**options)
    from trl import SFTConfig

    # The rows are tokens and labels already; TRL must neither prepare nor cut them again.
    return SFTConfig(**options, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})


def make_trainer(
    task: Task,
    *,
    model: Any,
    arguments: Any,
    tokenizer: Any,
    train_rows: Any,
    validation_rows: Any,
    callbacks: list[Any],
) -> Any:
    """A Trainer for the task, its own printing taken off."""
    from transformers import PrinterCallback, ProgressCallback, Trainer

    base: Any = Trainer
    if task == "TextGeneration":
        from trl import SFTTrainer

        base = SFTTrainer
    trainer = type(f"Steady{base.__name__}", (Steady, base), {})(
        model=model,
        args=arguments,
        data_collator=Collator(tokenizer.pad_token_id),
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    for needless in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(needless)
    return trainer
