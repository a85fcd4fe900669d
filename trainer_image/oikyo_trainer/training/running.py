"""One training as the Trainer runs it: its parts put together, driven to the end or to what stops it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import Resolved

from ..errors import Retry
from .batches import GroupedSampler
from .callbacks import Committing, Rhythm, Telling
from .checkpoint import Checkpoints, Manifest
from .deepspeed import whole
from .divergence import Diverged, Rollbacks, SmallerRate
from .dropout import keep_bytes
from .fitted import began_fitted, begin, told, trained_layers
from .fsdp import shard
from .fullvolume import await_last
from .gelu import fuse_gelu
from .headed import make_headed
from .history import History
from .methods.adapters import add_adapter
from .methods.lowrank import fuse
from .methods.quantized import prepare, quantization
from .model import METHODS, load_weights
from .noise import add_noise
from .preferences import make_preferring
from .pulse import Pulse
from .rows import Tokens
from .setting import Setting, foreseen, log_choices
from .supervised import Supervised, make_whole_steps
from .throughput import Speed, Stopwatch, Throughput, open_speed, peak_of
from .writebehind import WriteBehind, fits_in_memory, free_memory, yet_to_come

log = logging.getLogger("oikyo.train")


@dataclass
class Run:
    """The Trainer, and what it tells while it runs."""

    trainer: Any  # transformers.Trainer
    rhythm: Rhythm
    telling: Telling
    history: History
    resolved: tuple[Resolved, ...]
    """What was chosen once the model was there."""
    rollbacks: Rollbacks

    @property
    def copies(self) -> bool:
        """Whether checkpoints are copied, and written behind the training."""
        return self.trainer.behind is not None


def make_run(
    setting: Setting,
    arguments: Any,
    tokens: Tokens,
    checkpoints: Checkpoints,
    rollbacks: Rollbacks,
    newest: Manifest | None,
) -> Run:
    """The Trainer of one training, and all that listens to it; it goes on from `newest`."""
    from transformers import set_seed

    spec, plan, world = setting.spec, setting.plan, setting.world
    reporter, counter, stopwatch = setting.context.reporter, Throughput(), Stopwatch()
    rhythm = _rhythm(setting, validates=tokens.validation is not None)
    history = History(setting.folder / layout.HISTORY, setting.check_attempt)
    speed = _speed(setting, arguments.device, counter, stopwatch)
    telling = Telling(plan, world, reporter, history, speed)
    committing = Committing(
        plan,
        world,
        checkpoints,
        rhythm,
        reporter,
        len(tokens.train),
        setting.context.remember,
        spec.training.select_by,
        _bound(setting),
    )
    callbacks = [rhythm, telling, committing]
    if rollbacks.done:
        callbacks.append(SmallerRate(plan.learning_rate))
    set_seed(spec.training.seed)  # the new head and the adapters are drawn from it
    resume = checkpoints.path(newest.step) if newest else None
    trainer, resolved = _trainer(setting, arguments, tokens, callbacks, resume)
    if spec.training.neftune_alpha is not None:
        add_noise(trainer.model, float(spec.training.neftune_alpha))
    trainer.counter, trainer.checkpoints = counter, checkpoints
    trainer.world, trainer.committing = world, committing
    trainer.in_parts = spec.training.strategy == "FSDP"
    trainer.pulse = Pulse(setting.context.end)
    trainer.pulse.listen(trainer.model)
    stopwatch.listen(trainer)
    trainer.behind = committing.behind = _behind(setting, trainer.model)
    log_choices(world, resolved)
    return Run(trainer, rhythm, telling, history, resolved, rollbacks)


def _rhythm(setting: Setting, *, validates: bool) -> Rhythm:
    training = setting.spec.training
    return Rhythm(
        setting.plan,
        setting.world,
        validates=validates,
        patience=training.early_stopping.patience if training.early_stopping else None,
        select_by=training.select_by,
        seconds_between_saves=60.0 * training.checkpoints.every_minutes,
        bound=_bound(setting),
    )


def _bound(setting: Setting) -> float | None:
    """How far the general loss of the best checkpoint may rise; None: as far as it does."""
    asked = setting.general.asked if setting.general is not None else None
    if asked is None or asked.interpolation != "Never":
        return None  # what rose too far is taken back after the training
    return float(asked.max_increase)


def _speed(setting: Setting, device: Any, counter: Throughput, stopwatch: Stopwatch) -> Speed:
    return open_speed(
        counter,
        stopwatch,
        setting.base.folder,
        frozen=METHODS[setting.spec.training.method].adapter,
        peak=peak_of(device, bf16=setting.plan.bf16),
        processes=setting.world.size,
    )


def _trainer(
    setting: Setting, arguments: Any, tokens: Tokens, callbacks: list[Any], resume: Path | None
) -> tuple[Any, tuple[Resolved, ...]]:
    """The Trainer of the task and objective, and what was chosen once its model was there."""
    spec, plan, world = setting.spec, setting.plan, setting.world
    parts = {
        "model": _model(setting, resume),
        "arguments": arguments,
        "tokenizer": setting.base.tokenizer,
        "train_rows": tokens.train,
        "validation_rows": tokens.validation,
        "callbacks": callbacks,
    }
    if spec.training.objective != "Supervised":
        return make_preferring(spec.training, plan, world, **parts)
    if spec.task == "TextGeneration":
        trainer, chosen = make_whole_steps(Supervised, spec.training, plan, world, **parts)
        trainer.general_rows = setting.general.measured if setting.general else None
        return trainer, chosen
    resolved: tuple[Resolved, ...] = ()
    fitted = plan.fitted_head and (resume is None or began_fitted(resume))
    if fitted:
        fresh = resume is None
        resolved = _begin(setting, parts["model"], tokens.train, arguments.device, fresh=fresh)
    if plan.fsdp:
        offload = spec.training.offload != "None"
        shard(parts["model"], bf16=plan.bf16, offload=offload, device=arguments.device)
    trainer = make_headed(**parts, source=setting.source)
    trainer.fitted_head = trained_layers(parts["model"]) if fitted else []
    trainer.order = GroupedSampler(
        tokens.lengths,
        batch=plan.batch,
        seed=spec.training.seed,
        together=plan.micro_batch * world.size if world.size > 1 else 1,
    )
    return trainer, resolved


def _begin(
    setting: Setting, model: Any, rows: Any, device: torch.device, *, fresh: bool
) -> tuple[Resolved, ...]:
    """Fit the head, unless a checkpoint brings one that began so; what is told is the same."""
    if not fresh:
        return (told(len(rows)),)
    with whole(model, setting.plan.zero_stage):
        return (begin(setting, model, rows, device),)


def _behind(setting: Setting, model: Any) -> WriteBehind | None:
    """Whether this process writes checkpoints behind the training; state in parts, in the step."""
    in_parts = setting.plan.zero_stage or setting.spec.training.strategy == "FSDP"
    if not setting.world.is_first or in_parts:
        return None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    free, coming = free_memory(), _coming(setting)
    if not fits_in_memory(trained, free, coming):
        log.info(
            "checkpoints are written in the step: %d bytes free are too few for a copy beside the "
            "%d that the training has yet to take",
            *(free, coming),
        )
        return None
    return WriteBehind()


def _coming(setting: Setting) -> int:
    """Bytes of this machine's memory that the training has yet to take; a GPU's steps take none."""
    predicted = None if torch.cuda.is_available() else foreseen(setting)
    return 0 if predicted is None else yet_to_come(predicted, setting.world.local_size)


def _model(setting: Setting, resume: Path | None) -> Any:
    """The base with its head, and the method's adapters on it.

    Weights that are trained are held in float32. Frozen ones stay in a 16-bit format that they were
    saved in, if the arithmetic is bfloat16 anyway, or in the few bits of QLoRA.
    """
    spec, plan, base = setting.spec, setting.plan, setting.base
    facts = METHODS[spec.training.method]
    frozen_half = facts.adapter and plan.bf16 and base.saved_dtype != torch.float32
    dtype = torch.bfloat16 if frozen_half else torch.float32
    compute = torch.bfloat16 if plan.bf16 else torch.float32
    bits = quantization(spec.training, cuda=torch.cuda.is_available(), compute=compute)
    model: Any = load_weights(
        base, setting.source.head, dtype, quantization=bits, dropout=spec.training.dropout
    )
    if facts.quantized:
        model = prepare(model)
    if facts.adapter:
        # ZeRO-3 gathers all parameters of one type (DeepSpeed issue 8072).
        autocast = plan.zero_stage != 3
        model = add_adapter(model, spec.task, spec.training, autocast=autocast, resume=resume)
        if plan.zero_stage != 3 and setting.world.tensor == 1:
            fuse(model)
    keep_bytes(model)
    fuse_gelu(model)
    return model


def run_to_end(
    run: Run, setting: Setting, checkpoints: Checkpoints, newest: Manifest | None
) -> Diverged | None:
    """Train to the end, or until a number is none; raises Retry when the gang was asked to stop."""
    if setting.world.is_first:
        run.history.rewind(newest.step if newest else -1)
    trainer = run.trainer
    # A validation that was due when the earlier attempt had to stop is made up for first.
    due = newest is not None and newest.step % setting.plan.every_steps == 0
    last = newest is not None and newest.step >= setting.plan.total_steps
    missed = newest is not None and newest.eval_loss is None and (due or last)
    # And what the base knew is measured before anything is learned.
    first = newest is None and setting.general is not None
    # A fold may hold every validation row, and its training has none.
    trainer.args.eval_on_start = (missed or first) and trainer.eval_dataset is not None
    resume = str(checkpoints.path(newest.step)) if newest else None
    trainer.committing.committed = newest.step if newest else 0
    pulse = trainer.pulse.watching()
    try:
        with _stop_after_step(run.rhythm), pulse:
            with _written(trainer.behind):
                trainer.train(resume_from_checkpoint=resume)
            saved = _await_last(run, setting)
    except Diverged as diverged:
        return diverged.with_traceback(None)  # its frames would hold the whole trainer
    if run.rhythm.stopped:
        step = trainer.state.global_step
        if saved:
            # A process that does not write hears of a checkpoint at the next one, and none comes.
            setting.context.remember(saved)
        found = "with a checkpoint" if saved >= step else f"the checkpoint is of step {saved}"
        raise Retry(
            "Stopped",
            f"stopped at step {step} of {setting.plan.total_steps}, {found}",
            next_step="Nothing: the next attempt goes on from the checkpoint.",
        )
    return None


def _await_last(run: Run, setting: Setting) -> int:
    """Newest step whose checkpoint counts, once the last one is written or given up."""
    trainer = run.trainer
    return await_last(
        setting.world,
        trainer.state.global_step,
        ending=trainer.committing.ending,
        save_again=trainer.save_again,
        beat=trainer.pulse.beat,
    )


@contextmanager
def _written(behind: WriteBehind | None) -> Iterator[None]:
    """Leave only when the last checkpoint is written; a fault of the training itself comes first."""
    try:
        yield
    except BaseException:
        if behind is not None:
            with suppress(Exception):
                behind.wait()
        raise
    if behind is not None:
        behind.wait()


@contextmanager
def _stop_after_step(rhythm: Rhythm) -> Iterator[None]:
    """SIGTERM and SIGINT ask for a checkpoint and an end after the running step."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return

    def stop(number: int, _frame: Any) -> None:
        log.info("%s: stopping after this step", signal.Signals(number).name)
        rhythm.stop_requested = True

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
