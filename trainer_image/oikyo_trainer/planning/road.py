"""The plan of a training as the prepare stage makes it: from the spec, the model's files and the rows."""

from __future__ import annotations

import re
from dataclasses import replace
from math import ceil
from pathlib import Path

from oikyo.api.jobstatus import Resolved
from oikyo.api.latency import field_of
from oikyo.api.stages import MemoryPlan, ServingLatency, TrainSpec
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from ..errors import Refused
from ..training.hyperparameters import Plan, groups_of, memory_plan
from ..training.precision import CPUINFO, Processor, choose_precision, cpu_flags
from .choose import Choice, choose, most_rows, setup_of
from .latency import Machine, predict_latency, prompt_of, smallest_change, too_slow
from .machines import known_gpu, this_processor
from .predict import predict
from .serving import CONCURRENCY, serving_need
from .shape import ModelShape, read_shape
from .tensor import check_tensor

UNITS = {"": 1.0, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
UNITS |= {f"{unit}i": 1024.0**power for power, unit in enumerate("KMGTP", 1)}
QUANTITY = re.compile(f"([0-9]+(?:[.][0-9]+)?)({'|'.join(UNITS)})")


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as 16Gi; raises ValueError for what is none."""
    found = QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return int(float(found[1]) * UNITS[found[2]])


def processes_of(training: TrainingSpec) -> tuple[int, int]:
    """Processes of one worker, and of all."""
    local = training.processes_per_node or max(1, training.resources.gpus)
    return local, local * training.nodes


def plan_training(
    training: TrainingSpec,
    task: Task,
    shape: ModelShape,
    memory: int,
    longest: int | None = None,
) -> Choice:
    """How the training fits `memory` bytes for each process; on a processor such as this one."""
    _, processes = processes_of(training)
    cuda = training.resources.gpus > 0
    processor = Processor(cuda=cuda, cuda_bf16=cuda, flags=cpu_flags(CPUINFO))
    sharded = training.strategy_of(processes).startswith("ZeRO")
    bf16 = choose_precision(training, processor, sharded=sharded).bf16
    setup = setup_of(training, task, shape, processes=processes, bf16=bf16, longest=longest)
    return choose(shape, setup, training, memory)


def fit(training: TrainingSpec, task: Task, model: Path, longest: int) -> MemoryPlan:
    """The plan for the rows and the model in folder `model`; Refused where nothing fits.

    `longest`: tokens of the longest row. A plan is always made; one that could not be checked
    against a memory says why in its reason.
    """
    local, processes = processes_of(training)
    check_tensor(training, model, processes=local)
    plain = memory_plan(training, groups_of(training, processes)).model_copy(
        update={"longest": longest}
    )
    limit = training.resources.memory
    if training.resources.gpus:
        return _unchecked(plain, "the memory of the GPU is not known here")
    if limit is None:
        return _unchecked(plain, "training.resources.memory is not given")
    try:
        shape = read_shape(model)
    except Refused as error:
        return _unchecked(plain, error.message)
    memory = quantity(limit) // local
    choice = plan_training(training, task, shape, memory, longest)
    if not choice.fits:
        raise _too_large(choice, limit, local)
    return _checked(plain, choice)


def check_serving(limit: str, training: TrainingSpec, task: Task, model: Path) -> None:
    """Refused where the trained model could not be served within the quantity `limit`, on a CPU."""
    try:
        shape = read_shape(model)
    except Refused:
        return  # a model that says too little was told of by `fit`
    length = min(training.max_length, shape.context)
    needed = serving_need(task, training, shape, length=length, cuda=False)
    if needed > quantity(limit):
        raise Refused(
            "ServingMemoryTooSmall",
            f"deployment.resources.memory is {limit}, and serving the trained model needs "
            f"{gibibytes(needed)} at {CONCURRENCY} requests of {length} tokens",
            next_step="In a job with a new name write deployment.resources.memory: "
            f"{ceil(needed / 2**20)}Mi or more, or name a smaller base model.",
        )


def check_latency(
    wanted: ServingLatency, training: TrainingSpec, task: Task, model: Path
) -> tuple[Resolved, ...]:
    """What the result's latency will be, where that is known; Refused where it breaks its budget."""
    try:
        shape = read_shape(model)
    except Refused as error:
        return _latency_unknown(wanted, error.message)
    prompt = prompt_of(wanted.budget, training.max_length, shape)
    machine = server_of(wanted, shape, prompt)
    if machine is None:
        return _latency_unknown(wanted, why_unknown(wanted))
    predicted = predict_latency(task, shape, machine, prompt)
    least = "at least " if machine.bound else ""
    for name, value in too_slow(wanted.budget, predicted).items():
        limit = wanted.budget.limits[name]
        change = smallest_change(task, shape, machine, prompt, name, limit)
        raise Refused(
            "ServingTooSlow",
            f"{field_of(name)} is {limit}, and the trained model will take {least}{value:.3g} ms for it "
            f"at {prompt} tokens of prompt ({machine.source})",
            next_step=f"In a job with a new name {change}.",
        )
    return tuple(
        Resolved(
            name=field_of(name),
            value=f"{least}{predicted[name]:.3g}",
            reason=f"predicted at {prompt} tokens of prompt, {machine.source}; the limit is {limit}",
        )
        for name, limit in wanted.budget.limits.items()
    )


def server_of(wanted: ServingLatency, shape: ModelShape, prompt: int) -> Machine | None:
    """The rates of the machine that will serve; None where nothing here knows them."""
    if wanted.gpus:
        product = wanted.budget.gpu_product
        return known_gpu(product, shape.saved_bytes) if product else None
    return this_processor(shape, prompt) if wanted.here else None


def why_unknown(wanted: ServingLatency) -> str:
    """In words, why `server_of` knows no machine."""
    if not wanted.gpus:
        return "the server runs on another node"
    product = wanted.budget.gpu_product
    return f"no figures of {product} are known" if product else "gpuProduct is not given"


def _latency_unknown(wanted: ServingLatency, why: str) -> tuple[Resolved, ...]:
    reason = f"not predicted, will be measured after training: {why}"
    return tuple(
        Resolved(name=field_of(name), value=str(limit), reason=reason)
        for name, limit in wanted.budget.limits.items()
    )


def expected(
    spec: TrainSpec, plan: Plan, model: Path, *, processes: int, copies: bool = False
) -> int | None:
    """Bytes that one process of a training will need at most; None where the model does not say.

    `copies`: whether it copies its checkpoints before it writes them.
    """
    try:
        shape = read_shape(model)
    except Refused:
        return None
    setup = setup_of(
        spec.training,
        spec.task,
        shape,
        processes=processes,
        bf16=plan.bf16,
        longest=plan.longest,
    )
    rows = min(plan.micro_batch, max(most_rows(setup), 1))
    chosen = replace(
        setup,
        rows=rows,
        checkpointing=plan.checkpointing,
        accumulates=plan.accumulation > 1,
        copies_checkpoint=copies,
    )
    return predict(shape, chosen).peak


def against(predicted: int | None, measured: int) -> str:
    """The measured peak beside the predicted one, in words."""
    told = f"one process held at most {gibibytes(measured)}"
    if predicted is None:
        return told
    error = predicted / measured - 1
    side = "more" if error >= 0 else "less"
    return f"{told}; {gibibytes(predicted)} were predicted, {abs(error):.0%} {side}"


def _unchecked(plain: MemoryPlan, why: str) -> MemoryPlan:
    return plain.model_copy(update={"reason": f"{plain.reason}; not held against a memory: {why}"})


def _checked(plain: MemoryPlan, choice: Choice) -> MemoryPlan:
    told = f"{gibibytes(choice.prediction.peak)} predicted of {gibibytes(choice.memory)}"
    again = choice.setup.checkpointing
    needed = again and not plain.gradient_checkpointing
    return MemoryPlan(
        micro_batch_size=choice.setup.rows,
        reason=f"{choice.reason}: {told}",
        gradient_checkpointing=again,
        checkpointing_reason="no micro-batch fits without"
        if needed
        else plain.checkpointing_reason,
        longest=plain.longest,
    )


def _too_large(choice: Choice, limit: str, local: int) -> Refused:
    setup = choice.setup
    rows = "1 row" if setup.rows == 1 else f"{setup.rows} rows"
    shared = f" for {local} processes" if local > 1 else ""
    return Refused(
        "MemoryTooSmall",
        f"training.resources.memory is {limit}{shared}, and {setup.method} with {rows} of "
        f"{setup.length} tokens at once needs {gibibytes(choice.prediction.peak)} in each process",
        evidence=", ".join(f"{t.name} {gibibytes(t.size)}" for t in choice.prediction.terms),
        next_step=f"In a job with a new name {choice.change}.",
    )


def gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 1 << 30 else f"{size / 2**20:.0f} MiB"
