"""The train stage: from prepared rows and a base model to a tuned model. `train` is the recipe.

Called by `oikyo_trainer.stage` in every process of the gang, with the same spec.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import Resolved
from oikyo.api.meta import Metric
from oikyo.api.stages import TrainResult, TrainSpec

from ..attempt import check_attempt
from ..context import Context
from ..errors import Refused, Retry
from ..planning.road import against, expected
from ..progress import text
from . import folds
from .batches import GroupedSampler
from .callbacks import Committing, Rhythm, Telling, peak_memory_bytes
from .checkpoint import Checkpoints, Manifest
from .curve import read
from .deepspeed import join_deepspeed, prepare_deepspeed
from .distributed import World, barrier, from_first, prepare_process, read_world
from .divergence import FACTOR, Diverged, Rollback, Rollbacks, SmallerRate, refuse, slowed
from .fsdp import shard
from .fullvolume import await_last
from .history import History
from .hyperparameters import Facts, Plan, resolve
from .methods.adapters import add_adapter
from .methods.merge import Rows
from .methods.quantized import prepare, quantization
from .model import METHODS, Base, load_weights, open_base
from .network import choose_network
from .precision import Processor, choose_precision, read_processor
from .preferences import compare, make_preferring
from .pulse import Pulse
from .release import Released, release
from .rows import Source, Tokens, open_source, open_tokens, some_rows
from .supervised import make_supervised
from .throughput import Stopwatch, Throughput, open_speed, peak_of
from .trainers import make_arguments, make_trainer, quiet
from .writebehind import WriteBehind, fits_in_memory, free_memory

log = logging.getLogger("oikyo.train")

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed")


@dataclass(frozen=True)
class Setting:
    """What is the same for every step of the recipe."""

    spec: TrainSpec
    context: Context
    world: World
    source: Source
    base: Base
    plan: Plan
    folder: Path

    def check_attempt(self) -> None:
        """Raise Stale when a newer attempt has begun; called right before each commit."""
        check_attempt(self.spec, self.context)


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


def train(spec: TrainSpec, context: Context) -> TrainResult:
    """Train as the spec says, the folds of a cross-validation before the model that is released."""
    world = read_world(os.environ)
    threads = prepare_process(world)
    quiet()
    processor = read_processor()
    source = open_source(context.workspace, spec.dataset_digest, spec.task)
    base = open_base(context.workspace, spec.model_digest, spec.task)
    opened, every = _tokens(spec, context.workspace, source)
    tokens = folds.learned(every, opened)
    plan = _plan(spec, tokens, base, world, processor)
    plan = replace(plan, resolved=(*plan.resolved, *choose_network(world, cuda=processor.cuda)))
    stage, steps = context.folder(spec), plan.total_steps
    results = []
    for fold in range(spec.folds):
        part = folds.learned(every, opened, fold)
        setting = Setting(
            folds.of_fold(spec),
            folds.part_of(context, fold, spec.folds + 1, steps),
            world,
            source,
            base,
            _plan(spec, part, base, world, processor),
            folds.folder_of(stage, fold),
        )
        results.append(_train_fold(setting, processor, part, stage, fold))
    context = folds.part_of(context, spec.folds, spec.folds + 1, steps)
    setting = Setting(spec, context, world, source, base, plan, stage)
    _log_start(setting, tokens, threads)
    result = _train(setting, processor, tokens, context.workspace / layout.checkpoints(spec.run))
    return result.model_copy(update={"metrics": (*result.metrics, *folds.told(results))})


def _train_fold(
    setting: Setting, processor: Processor, tokens: Any, stage: Path, fold: int
) -> TrainResult:
    """The training of one fold, unless an earlier attempt finished it."""
    if (done := folds.result_of(stage, fold)) is not None:
        return done
    setting.folder.mkdir(parents=True, exist_ok=True)
    log.info("fold %d of %d: %d rows", fold + 1, setting.spec.folds, len(tokens.train))
    result = _train(setting, processor, tokens, setting.folder / folds.CHECKPOINTS)
    if setting.world.is_first:
        folds.keep(stage, fold, result, setting.check_attempt)
    barrier(setting.world)
    return result


def _train(setting: Setting, processor: Processor, tokens: Any, save_to: Path) -> TrainResult:
    """One training, from the newest good checkpoint in `save_to` if there is one."""
    spec, world, plan = setting.spec, setting.world, setting.plan
    rollbacks = Rollbacks(setting.folder, setting.check_attempt)
    setting = replace(setting, plan=slowed(plan, len(rollbacks.done)))
    if (predicted := _predicted(setting)) is not None:
        setting.context.reporter.update(predicted_memory_bytes=float(predicted))

    if plan.zero_stage:
        prepare_deepspeed(cuda=processor.cuda)
    arguments = make_arguments(spec, setting.plan, world, save_to, cuda=processor.cuda)
    _join(arguments, plan, processor)
    checkpoints = _open_checkpoints(setting, save_to)
    newest = _newest(checkpoints, setting)

    run = _make_run(setting, arguments, tokens, checkpoints, rollbacks)
    while newest is None or not newest.final:
        diverged = _run(run, setting, checkpoints, newest)
        if diverged is None:
            break
        run.trainer = None  # its weights and moments would double the memory of the next
        gc.collect()
        newest = _newest(checkpoints, setting)
        _roll_back(setting, rollbacks, diverged, newest)
        setting = replace(setting, plan=slowed(plan, len(rollbacks.done)))
        arguments = make_arguments(spec, setting.plan, world, save_to, cuda=processor.cuda)
        run = _make_run(setting, arguments, tokens, checkpoints, rollbacks)
    return _finish(run, setting, checkpoints, newest, some_rows(tokens))


def _predicted(setting: Setting) -> int | None:
    """Bytes that this process will need at most, by the formulas of `planning`."""
    processes = setting.world.size
    return expected(setting.spec, setting.plan, setting.base.folder, processes=processes)


def _tokens(spec: TrainSpec, workspace: Path, source: Source) -> tuple[Tokens, Any]:
    """The rows of both splits as tokens; and the same as the objective takes them, alone or in pairs."""
    tokens = open_tokens(workspace, spec)
    if spec.training.objective == "Supervised" or spec.tokens_digest is None:
        return tokens, tokens
    folder = workspace / layout.tokens(spec.tokens_digest)
    return tokens, compare(tokens, folder, source, spec.training)


def _plan(spec: TrainSpec, tokens: Any, base: Base, world: World, processor: Processor) -> Plan:
    sharded = spec.training.strategy.startswith("ZeRO") and world.size > 1
    facts = Facts(
        train_rows=len(tokens.train),
        validation_rows=0 if tokens.validation is None else len(tokens.validation),
        parameters=base.parameters,
        context_length=base.context_length - spec.training.virtual_tokens,
        processes=world.size,
        precision=choose_precision(spec.training, processor, sharded=sharded),
        memory=spec.memory,
    )
    return resolve(spec.training, spec.task, facts)


def _log_start(setting: Setting, tokens: Any, threads: int) -> None:
    if not setting.world.is_first:
        return
    spec, world = setting.spec, setting.world
    log.info(
        "train run=%s attempt=%d task=%s method=%s processes=%d threads=%d rows=%d parameters=%d",
        *(spec.run, spec.attempt, spec.task, spec.training.method, world.size, threads),
        *(len(tokens.train), setting.base.parameters),
    )
    _log_choices(world, setting.plan.resolved)


def _log_choices(world: World, choices: tuple[Resolved, ...]) -> None:
    for choice in choices if world.is_first else ():
        log.info("%s=%s (%s)", choice.name, choice.value, choice.reason)


def _join(arguments: Any, plan: Plan, processor: Processor) -> None:
    """Asking the arguments for their device makes accelerate join the gang."""
    log.info("device=%s", arguments.device)
    if plan.zero_stage:
        join_deepspeed(cuda=processor.cuda)


def _open_checkpoints(setting: Setting, folder: Path) -> Checkpoints:
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(
        folder=folder,
        keep=setting.spec.training.checkpoints.keep,
        run=setting.spec.run,
        attempt=setting.spec.attempt,
        world_size=setting.world.size,
        libraries=_libraries(),
        before_commit=setting.check_attempt,
    )
    if setting.world.is_first:
        checkpoints.sweep()
    return checkpoints


def _libraries() -> dict[str, str]:
    versions: dict[str, str] = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _newest(checkpoints: Checkpoints, setting: Setting) -> Manifest | None:
    """The checkpoint to go on from; rank 0 verifies and tells the others."""
    found = checkpoints.newest_good() if setting.world.is_first else None
    newest = from_first(setting.world, found)
    if newest is None:
        return None
    if setting.plan.zero_stage and newest.world_size != setting.world.size:
        raise Refused(
            "WorldSizeChanged",
            f"checkpoint-{newest.step} was written by {newest.world_size} processes under "
            f"{setting.spec.training.strategy}, and {setting.world.size} are here",
            next_step="Run with the same nodes and processesPerNode, or under a new job name.",
        )
    log.info("resume from checkpoint-%d of attempt %d", newest.step, newest.attempt)
    setting.context.remember(newest.step)
    return newest


def _make_run(
    setting: Setting,
    arguments: Any,
    tokens: Tokens,
    checkpoints: Checkpoints,
    rollbacks: Rollbacks,
) -> Run:
    from transformers import set_seed

    spec, plan, world = setting.spec, setting.plan, setting.world
    reporter, counter, stopwatch = setting.context.reporter, Throughput(), Stopwatch()
    stopping = spec.training.early_stopping
    rhythm = Rhythm(
        plan,
        world,
        validates=tokens.validation is not None,
        patience=stopping.patience if stopping else None,
        select_by=spec.training.select_by,
        seconds_between_saves=60.0 * spec.training.checkpoints.every_minutes,
    )
    history = History(setting.folder / layout.HISTORY, setting.check_attempt)
    speed = open_speed(
        counter,
        stopwatch,
        setting.base.folder,
        frozen=METHODS[spec.training.method].adapter,
        peak=peak_of(arguments.device, bf16=plan.bf16),
        processes=world.size,
    )
    telling = Telling(plan, world, reporter, history, speed)
    rows = len(tokens.train)
    committing = Committing(
        plan,
        world,
        checkpoints,
        rhythm,
        reporter,
        rows,
        setting.context.remember,
        spec.training.select_by,
    )
    callbacks = [rhythm, telling, committing]
    if rollbacks.done:
        callbacks.append(SmallerRate(plan.learning_rate))
    set_seed(spec.training.seed)  # the new head and the adapters are drawn from it
    parts = {
        "model": _model(setting),
        "arguments": arguments,
        "tokenizer": setting.base.tokenizer,
        "train_rows": tokens.train,
        "validation_rows": tokens.validation,
        "callbacks": callbacks,
    }
    resolved: tuple[Resolved, ...] = ()
    if spec.training.objective != "Supervised":
        trainer = make_preferring(spec.training, world, **parts)
        trainer.order = GroupedSampler(tokens.lengths, batch=plan.batch, seed=spec.training.seed)
    elif spec.task == "TextGeneration":
        trainer, resolved = make_supervised(spec.training, plan, world, **parts)
    else:
        if plan.fsdp:
            offload = spec.training.offload != "None"
            shard(parts["model"], bf16=plan.bf16, offload=offload, device=arguments.device)
        trainer = make_trainer(**parts, source=setting.source)
        trainer.order = GroupedSampler(tokens.lengths, batch=plan.batch, seed=spec.training.seed)
    trainer.counter, trainer.checkpoints = counter, checkpoints
    trainer.world, trainer.committing = world, committing
    trainer.in_parts = spec.training.strategy == "FSDP"
    trainer.pulse = Pulse(setting.context.end)
    trainer.pulse.listen(trainer.model)
    stopwatch.listen(trainer)
    trainer.behind = committing.behind = _behind(setting, trainer.model)
    _log_choices(world, resolved)
    return Run(trainer, rhythm, telling, history, resolved, rollbacks)


def _behind(setting: Setting, model: Any) -> WriteBehind | None:
    """Whether this process writes checkpoints behind the training; state in parts, in the step."""
    in_parts = setting.plan.zero_stage or setting.spec.training.strategy == "FSDP"
    if not setting.world.is_first or in_parts:
        return None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    free = free_memory()
    if not fits_in_memory(trained, free):
        log.info("checkpoints are written in the step: %d bytes free are too few to copy", free)
        return None
    return WriteBehind()


def _model(setting: Setting) -> Any:
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
    labels = setting.source.names
    model: Any = load_weights(
        base,
        spec.task,
        labels,
        dtype,
        quantization=bits,
        dropout=spec.training.dropout,
        several=setting.source.several,
    )
    if facts.quantized:
        model = prepare(model)
    if facts.adapter:
        # ZeRO-3 gathers all parameters of one type (DeepSpeed issue 8072).
        model = add_adapter(model, spec.task, spec.training, autocast=plan.zero_stage != 3)
    return model


def _run(
    run: Run, setting: Setting, checkpoints: Checkpoints, newest: Manifest | None
) -> Diverged | None:
    """Train to the end, or until a number is none; raises Retry when the gang was asked to stop."""
    if setting.world.is_first:
        run.history.rewind(newest.step if newest else 0)
    trainer = run.trainer
    # A validation that was due when the earlier attempt had to stop is made up for first.
    due = newest is not None and newest.step % setting.plan.every_steps == 0
    last = newest is not None and newest.step >= setting.plan.total_steps
    if newest is not None and newest.eval_loss is None and (due or last):
        trainer.args.eval_on_start = trainer.eval_dataset is not None
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


def _roll_back(
    setting: Setting, rollbacks: Rollbacks, diverged: Diverged, newest: Manifest | None
) -> None:
    """Keep that the rate is halved; raises Refused when that was done often enough."""
    plan = setting.plan
    refuse(diverged, plan, len(rollbacks.done))
    rollback = Rollback(
        step=diverged.step,
        what=f"{diverged.name} is {diverged.value}",
        back_to=newest.step if newest else 0,
        rate=plan.learning_rate,
        attempt=setting.spec.attempt,
    )
    sentence = rollbacks.add(rollback, write=setting.world.is_first)
    log.warning("%s", sentence)
    reporter = setting.context.reporter
    reporter.update(rollbacks=float(len(rollbacks.done)), learning_rate=plan.learning_rate * FACTOR)
    reporter.notice("RolledBack", sentence)


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


def _finish(
    run: Run, setting: Setting, checkpoints: Checkpoints, newest: Manifest | None, rows: Rows
) -> TrainResult:
    """Release the best checkpoint (rank 0) and say what came out."""
    steps = max(run.trainer.state.global_step, newest.step if newest else 0)
    metrics, predicted = _metrics(run, newest), _predicted(setting)
    peak = int(metrics["peak_memory_bytes"])
    if predicted is not None:
        metrics["predicted_memory_bytes"] = float(predicted)
    early = run.rhythm.stopped_early
    run.trainer = None  # its weights and moments would double the memory of the release
    gc.collect()
    best = path = None
    if setting.world.is_first:
        best = checkpoints.best_good()
        if best is None:
            raise Retry("NoCheckpoint", "no checkpoint verifies: training starts over")
        released = _release(setting, checkpoints.path(best.step), rows)
        path = released.folder
        if released.parity is not None:
            metrics["merge_logit_difference"] = released.parity.difference
        if best.eval_loss is not None:
            metrics["best_eval_loss"] = best.eval_loss
    barrier(setting.world)
    return TrainResult(
        steps=steps,
        total_steps=setting.plan.total_steps,
        best_step=best.step if best else 0,
        metrics=tuple(Metric(name=name, value=text(value)) for name, value in metrics.items()),
        resolved=(*setting.plan.resolved, *run.resolved),
        model_path=path.relative_to(setting.context.workspace).as_posix() if path else "",
        curve=reading.sentence if (reading := read(run.history.lines())) else "",
        notes=(
            *_notes(checkpoints, newest, early),
            *run.rollbacks.sentences(),
            against(predicted, peak),
        ),
    )


def _release(setting: Setting, checkpoint: Path, rows: Rows) -> Released:
    return release(
        checkpoint,
        base=setting.base,
        task=setting.spec.task,
        labels=setting.source.names,
        several=setting.source.several,
        training=setting.spec.training,
        rows=rows,
        folder=setting.folder,
        before_commit=setting.check_attempt,
    )


def _metrics(run: Run, newest: Manifest | None) -> dict[str, float]:
    told = {**_last_values(run.history), **run.telling.newest}
    metrics = {"train_loss": told["loss"]} if "loss" in told else {}
    if "eval_loss" in told:
        metrics["eval_loss"] = told["eval_loss"]
    metrics |= run.telling.speed.overall()
    metrics["peak_memory_bytes"] = float(peak_memory_bytes())
    if run.rollbacks.done:
        metrics["rollbacks"] = float(len(run.rollbacks.done))
    metrics["resumed_from_step"] = float(newest.step if newest else 0)
    return metrics


def _last_values(history: History) -> dict[str, float]:
    """The newest value of each name, for an attempt that had nothing left to train."""
    values: dict[str, float] = {}
    for line in history.lines():
        values |= line
    return values


def _notes(checkpoints: Checkpoints, newest: Manifest | None, early: str) -> Iterator[str]:
    for step, reason in sorted(checkpoints.damaged.items()):
        yield f"skipped checkpoint-{step}: {reason}"
    if newest is not None:
        yield f"resumed from step {newest.step} of attempt {newest.attempt}"
    if early:
        yield early
