"""The train stage: from prepared rows and a base model to a tuned model. `train` is the recipe.

Called by `oikyo_trainer.stage` in every process of the gang, with the same spec.
"""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult, TrainSpec

from ..context import Context
from ..errors import Refused
from ..planning.tensor import check_tensor
from . import folds
from .checkpoint import Checkpoints, Manifest
from .deepspeed import join_deepspeed, prepare_deepspeed
from .distributed import World, barrier, from_first, join_alone, prepare_process, read_world
from .divergence import FACTOR, Diverged, Rollback, Rollbacks, refuse, slowed
from .ending import finish
from .fitted import begins_fitted
from .hyperparameters import Facts, Plan, resolve
from .model import Base, open_base
from .network import choose_network
from .precision import Processor, choose_precision, read_processor
from .preferences import compare
from .rate import began_with, keep
from .replay import mix, open_general
from .rows import Source, Tokens, open_source, open_tokens, some_rows
from .running import make_run, run_to_end
from .setting import Setting, foreseen, log_choices
from .trainers import backend_of, make_arguments, quiet

log = logging.getLogger("oikyo.train")

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "deepspeed")


def train(spec: TrainSpec, context: Context) -> TrainResult:
    """Train as the spec says, the folds of a cross-validation before the model that is released."""
    world = read_world(os.environ, tensor=spec.training.tensor_parallel_size)
    threads = prepare_process(world)
    quiet()
    processor = read_processor()
    source = open_source(context.workspace, spec.dataset_digest, spec.task)
    base = open_base(context.workspace, spec.model_digest, spec.task)
    opened, every = _tokens(spec, context.workspace, source)
    general = open_general(context.workspace, spec)
    tokens, replay = mix(folds.learned(every, opened), general)
    plan = _plan(spec, source, tokens, base, world, processor)
    shown = () if replay is None else (replay.resolved(),)
    network = choose_network(world, cuda=processor.cuda)
    plan = replace(plan, resolved=(*plan.resolved, *network, *shown))
    stage, steps = context.folder(spec), plan.total_steps
    results = []
    for fold in range(spec.folds):
        part, _ = mix(folds.learned(every, opened, fold), general)
        asked = replace(part, validation=tokens.validation)  # the fold may hold all these rows
        setting = Setting(
            folds.of_fold(spec),
            folds.part_of(context, fold, spec.folds + 1, steps),
            world,
            source,
            base,
            _plan(spec, source, asked, base, world, processor),
            folds.folder_of(stage, fold),
            general,
        )
        results.append(_train_fold(setting, processor, part, stage, fold))
    context = folds.part_of(context, spec.folds, spec.folds + 1, steps)
    setting = Setting(spec, context, world, source, base, plan, stage, general, replay)
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
    if plan.zero_stage:
        prepare_deepspeed(cuda=processor.cuda)
    if world.size == 1 and (plan.zero_stage or plan.fsdp):
        join_alone(backend_of(spec.training, cuda=processor.cuda))
    arguments = make_arguments(spec, plan, world, save_to, cuda=processor.cuda)
    _join(arguments, plan, processor)
    checkpoints = _open_checkpoints(setting, save_to)
    newest = _newest(checkpoints, setting)
    plan = _as_begun(plan, world, checkpoints, rollbacks, newest)
    setting = replace(setting, plan=slowed(plan, len(rollbacks.done)))
    arguments.learning_rate = setting.plan.learning_rate

    run = make_run(setting, arguments, tokens, checkpoints, rollbacks, newest)
    if (predicted := foreseen(setting, copies=run.copies)) is not None:
        setting.context.reporter.update(predicted_memory_bytes=float(predicted))
    while newest is None or not newest.final:
        diverged = run_to_end(run, setting, checkpoints, newest)
        if diverged is None:
            break
        run.trainer = None  # its weights and moments would double the memory of the next
        gc.collect()
        newest = _newest(checkpoints, setting)
        _roll_back(setting, rollbacks, diverged, newest)
        setting = replace(setting, plan=slowed(plan, len(rollbacks.done)))
        arguments = make_arguments(spec, setting.plan, world, save_to, cuda=processor.cuda)
        run = make_run(setting, arguments, tokens, checkpoints, rollbacks, newest)
    return finish(run, setting, checkpoints, newest, some_rows(tokens))


def _tokens(spec: TrainSpec, workspace: Path, source: Source) -> tuple[Tokens, Any]:
    """The rows of both splits as tokens; and the same as the objective takes them, alone or in pairs."""
    tokens = open_tokens(workspace, spec)
    if spec.training.objective == "Supervised" or spec.tokens_digest is None:
        return tokens, tokens
    folder = workspace / layout.tokens(spec.tokens_digest)
    return tokens, compare(tokens, folder, source, spec.training)


def _plan(
    spec: TrainSpec, source: Source, tokens: Any, base: Base, world: World, processor: Processor
) -> Plan:
    check_tensor(spec.training, base.folder, processes=world.local_size)
    sharded = spec.training.strategy_of(world.size).startswith("ZeRO")
    facts = Facts(
        train_rows=len(tokens.train),
        validation_rows=0 if tokens.validation is None else len(tokens.validation),
        parameters=base.parameters,
        context_length=base.context_length - spec.training.virtual_tokens,
        processes=world.size,
        precision=choose_precision(spec.training, processor, sharded=sharded),
        memory=spec.memory,
        fitted_head=begins_fitted(spec.training, source.head, base, world),
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
    log_choices(world, setting.plan.resolved)


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


def _as_begun(
    plan: Plan,
    world: World,
    checkpoints: Checkpoints,
    rollbacks: Rollbacks,
    newest: Manifest | None,
) -> Plan:
    """The plan at the rate that the run began with, which an earlier version may have chosen otherwise."""
    found = None
    if world.is_first:
        found = began_with(checkpoints.path(newest.step) if newest else None, rollbacks.done)
    kept = keep(plan, from_first(world, found))
    log_choices(world, tuple(choice for choice in kept.resolved if choice not in plan.resolved))
    return kept


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
