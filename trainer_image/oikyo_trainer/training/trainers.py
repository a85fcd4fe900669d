"""transformers' Trainer with the things that oikyo does differently, for every task.

The order of rows is a function of the epoch; the losses are means over all rows (or tokens) of a step
and of the validation split, however they are dealt to batches and ranks; a validation draws no random
numbers from the training; a checkpoint folder is emptied before it is written; tokens are counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oikyo.api.stages import TrainSpec
from oikyo.api.training import TrainingSpec

from ..errors import Refused, as_os_error
from . import fsdp
from .batches import GroupedSampler
from .callbacks import Committing
from .checkpoint import Checkpoints
from .deepspeed import zero_settings
from .distributed import World, barrier
from .fullvolume import is_full
from .headrate import slow
from .hyperparameters import Plan
from .pulse import Pulse
from .throughput import Throughput
from .tokenfiles import IGNORED
from .writebehind import WriteBehind

SCHEDULERS = {
    "Linear": "linear",
    "Cosine": "cosine",
    "Constant": "constant_with_warmup",
    "InverseSqrt": "inverse_sqrt",
    "WarmupStableDecay": "warmup_stable_decay",
}
DECAYING_SHARE = 0.1
"""Of the steps, for WarmupStableDecay."""
SCHEDULER = "scheduler.pt"


class Steady:
    """Mixed into a Trainer class; see the module's docstring."""

    order: Any  # the sampler: GroupedSampler, or packing's StepSampler
    counter: Throughput
    checkpoints: Checkpoints
    world: World
    committing: Committing
    pulse: Pulse
    behind: WriteBehind | None = None
    """Writes the checkpoints of this process, where it is the one that does; None: in the step."""
    in_parts: bool = False
    """Whether checkpoints are written and read by `fsdp`, for any number of processes."""
    fitted_head: Sequence[torch.nn.Parameter] = ()
    """Weights of a head that began fitted, and learns at a share of the rate."""
    validation_batches: list[list[int]]
    """Rows of each validation batch, of like length."""
    # What the Trainer class brings:
    args: Any
    state: Any
    control: Any
    model: Any
    model_wrapped: Any
    is_deepspeed_enabled: bool
    eval_dataset: Any
    data_collator: Any
    callback_handler: Any
    log: Any
    compute_loss: Any
    optimizer: Any
    lr_scheduler: Any
    _prepare_inputs: Any

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:
        return self.order

    def _run_epoch(self, *args: Any, epoch: int, **options: Any) -> Any:
        # Where a gang resumes within an epoch, accelerate wraps the sampler once more than its own
        # set_epoch looks through, and the rows would come in the order of the first epoch.
        self.order.set_epoch(epoch)
        return super()._run_epoch(*args, epoch=epoch, **options)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any) -> torch.Tensor:
        self._count(inputs)
        loss: torch.Tensor = super().training_step(model, inputs, *args)  # type: ignore[misc]
        return loss

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Nothing is deferred: between the micro-batches of a step whole gradients would lie in every process."""
        yield

    def _count(self, inputs: dict[str, Any]) -> None:
        self.counter.add(inputs["attention_mask"])

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        metrics = self._validation()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _validation(self) -> dict[str, float]:
        """eval_loss, and eval_ of each other metric that training.selectBy may name."""
        return {"eval_loss": self._validation_loss()}

    def _validation_loss(self) -> float:
        """Mean loss of all labels of the split, the same for any number of ranks and batch size."""
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        self.model.eval()
        total = torch.zeros(2, device=self.args.device)  # loss, labels
        one = torch.ones((), device=self.args.device)
        with torch.no_grad():
            for batch in self._validation_batches():
                inputs = self._prepare_inputs(batch)
                per_token = inputs["labels"].dim() > 1
                labels = inputs["labels"][:, 1:] if per_token else inputs["labels"]
                # With one item in the batch the loss is a sum; the Trainer scales it for DDP's mean.
                summed = self._summed_loss(model, inputs, one) / self.world.size
                total += torch.stack((summed.float(), labels.ne(IGNORED).sum()))
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        loss, count = total.tolist()
        return float(loss / max(count, 1))

    def _summed_loss(self, model: Any, inputs: dict[str, Any], items: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = self.compute_loss(model, inputs, num_items_in_batch=items)
        return loss

    def _validation_batches(self) -> Iterator[dict[str, torch.Tensor]]:
        """This rank's batches, longest first. All ranks yield as many: sharded models step together."""
        rows, batches = self.eval_dataset, self.validation_batches
        for first in range(0, len(batches), self.world.size):
            mine = first + self.world.rank
            batch = self.data_collator([rows[i] for i in batches[min(mine, len(batches) - 1)]])
            if mine >= len(batches):
                batch["labels"] = torch.full_like(batch["labels"], IGNORED)
            yield batch

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.committing.save_started = time.monotonic()
        with self.pulse.rest():
            if self.behind is not None:
                self.behind.wait()
            if self.world.is_first:
                self.checkpoints.clear(self.state.global_step)
            barrier(self.world)
            self._write_part(model, trial)

    def _write_part(self, model: Any, trial: Any) -> None:
        """This process's part; where the ranks meet while they write, a fault ends the attempt."""
        self.committing.unwritten = None  # on every rank: only the first hears of the one given up
        try:
            super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except (OSError, RuntimeError) as fault:
            found = as_os_error(fault, self.checkpoints.folder)
            if self.is_deepspeed_enabled or self.in_parts or not is_full(found):
                raise
            assert isinstance(found, OSError)
            self.committing.unwritten = found

    def save_again(self) -> None:
        """Write the checkpoint of the step at hand once more, and count it as the first time."""
        self._save_checkpoint(self.model, None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _get_output_dir(self, trial: Any = None) -> str:
        """Where transformers puts its checkpoint-<step> folders."""
        return str(self.checkpoints.staging)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if self.in_parts and output_dir is not None:
            Path(output_dir).mkdir(exist_ok=True)
            fsdp.save_weights(self.model, Path(output_dir), self.world)
        elif self.behind is None or output_dir is None:
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        else:
            Path(output_dir).mkdir(exist_ok=True)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        folder = Path(output_dir)
        if self.in_parts:
            fsdp.save_moments(self.model, self.optimizer.optimizer, folder)
        elif self.behind is not None:
            self.behind.hold(self.model, self.optimizer, folder)
        else:
            super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[misc]
            return
        if self.world.is_first:
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.in_parts:
            fsdp.load_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def create_optimizer(self, *args: Any) -> Any:
        before = self.optimizer
        made = super().create_optimizer(*args)  # type: ignore[misc]
        if made is before:  # with DeepSpeed the Trainer asks twice
            return made
        if self.in_parts:
            # Adapters have no bias to be spared of decay, and torch reads no moments for a group of nothing.
            made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        if self.fitted_head:
            slow(made, self.fitted_head)
        return made

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if not self.in_parts or checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            return
        fsdp.load_moments(self.model, self.optimizer.optimizer, Path(checkpoint))
        schedule = torch.load(Path(checkpoint) / SCHEDULER, weights_only=True)
        self.lr_scheduler.load_state_dict(_for_groups(schedule, len(self.optimizer.param_groups)))

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        norm: torch.Tensor = super()._clip_grad_norm(model)  # type: ignore[misc]
        # Of gradients in parts the norm is in parts too, and a log would show one process's.
        return fsdp.whole(norm) if self.in_parts else norm

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """The model card belongs to the release, not to a checkpoint."""


def _for_groups(schedule: dict[str, Any], groups: int) -> dict[str, Any]:
    """The state of a schedule for so many groups of weights.

    The Trainer makes a group for each mesh, and a tensor group more or less changes their number: those are
    all of one rate. A head with a rate of its own is of a training without such groups.
    """
    return {
        name: value[:1] * groups if isinstance(value, list) and len(value) != groups else value
        for name, value in schedule.items()
    }


def quiet() -> None:
    """Take the libraries' bars and hints off the log: it tells the story of the run in few lines."""
    from transformers.utils import logging as transformers_log

    transformers_log.set_verbosity_error()
    transformers_log.disable_progress_bar()


def make_arguments(spec: TrainSpec, plan: Plan, world: World, folder: Path, *, cuda: bool) -> Any:
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
        "lr_scheduler_kwargs": _schedule(training, plan),
        "warmup_steps": plan.warmup_steps,
        "weight_decay": float(training.weight_decay),
        "max_grad_norm": float(training.max_grad_norm),
        "label_smoothing_factor": float(training.label_smoothing),
        "seed": training.seed,
        "bf16": plan.bf16,
        "use_cpu": not cuda,
        "ddp_backend": None if world.size == 1 else backend_of(training, cuda=cuda),
        "ddp_find_unused_parameters": False,
        "optim": optimizer_name(training, cuda=cuda),
        "deepspeed": _deepspeed(training, plan, cuda=cuda),
        "logging_strategy": "no",
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_nan_inf_filter": False,
        "activation_checkpointing": plan.checkpointing,
        # Under a frozen base the inputs of a layer need no gradient; the older way would learn nothing.
        "activation_checkpointing_kwargs": {"use_reentrant": False},
        "dataloader_pin_memory": cuda,
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
    }
    if spec.task == "TextGeneration":
        # A batch is a whole step of this process, cut into micro-batches already (supervised.py).
        whole = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1}
        options |= {**whole, "remove_unused_columns": False}
    from transformers import TrainingArguments

    return TrainingArguments(**options)


def _deepspeed(training: TrainingSpec, plan: Plan, *, cuda: bool) -> dict[str, Any] | None:
    if not plan.zero_stage:
        return None
    return zero_settings(plan.zero_stage, cuda=cuda, offload=training.offload)


def backend_of(training: TrainingSpec, *, cuda: bool) -> str:
    """The collectives of the gang; gradients that are offloaded are summed where they lie."""
    if not cuda:
        return "gloo"
    offloads = training.strategy == "FSDP" and training.offload != "None"
    return "cpu:gloo,cuda:nccl" if offloads else "nccl"


def optimizer_name(training: TrainingSpec, *, cuda: bool) -> str:
    """transformers' word for training.optimizer; refuses 8 bits where nothing computes them."""
    if training.optimizer == "Adafactor":
        return "adafactor"
    if training.optimizer == "AdamW":
        # The fused one is a CUDA kernel; on a CPU the plain one is as fast and everywhere the same.
        return "adamw_torch_fused" if cuda else "adamw_torch"
    if cuda and find_spec("bitsandbytes") is not None:
        return "adamw_bnb_8bit"
    lacks = "this image holds no bitsandbytes" if cuda else "this worker sees no GPU"
    raise Refused(
        "OptimizerMissing",
        f"training.optimizer is AdamW8bit, and {lacks}",
        next_step="Write training.optimizer: AdamW, or Adafactor for the least memory.",
    )


def _schedule(training: TrainingSpec, plan: Plan) -> dict[str, int] | None:
    if training.scheduler != "WarmupStableDecay":
        return None
    return {"num_decay_steps": math.ceil(DECAYING_SHARE * plan.total_steps)}


def batches_of_like_length(rows: Any, size: int) -> list[list[int]]:
    """Indices of `rows` in batches of `size`, longest rows first: the order of a mean is nobody's."""
    if rows is None:
        return []
    order = np.argsort(-rows.lengths, kind="stable").tolist()
    return [order[start : start + size] for start in range(0, len(order), size)]


def silence(trainer: Any) -> None:
    """Take the Trainer's own printing off."""
    from transformers import PrinterCallback, ProgressCallback

    for needless in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(needless)
