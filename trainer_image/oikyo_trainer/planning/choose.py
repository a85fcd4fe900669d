"""Which micro-batch fits, and when none does, the smallest change of the manifest that would. Pure.

Found by trying every candidate against the prediction, never by rules of thumb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from .activations import Loss
from .predict import Prediction, predict
from .setup import Setup, Strategy
from .shape import ModelShape

HEADROOM = 0.92
"""Share of the memory that a prediction may fill: its own error, and what else the system holds."""
MOST_ROWS = 32
MOST_TOKENS = {False: 4096, True: 16384}
"""Packed rows never fill more of one forward pass, on a CPU and on a GPU (training/supervised.py)."""
STRATEGIES: tuple[Strategy, ...] = ("ZeRO1", "ZeRO2", "FSDP", "ZeRO3")
PART_WEIGHTS: frozenset[Strategy] = frozenset({"FSDP", "ZeRO3"})
LENGTHS = (4096, 2048, 1024, 512, 384, 256, 192, 128, 64, 32, 16, 8)


@dataclass(frozen=True)
class Choice:
    """How the job would run within `memory` bytes for each process."""

    setup: Setup
    accumulation: int
    prediction: Prediction
    memory: int
    fits: bool
    reason: str
    change: str = ""
    """When nothing fits: the smallest change that would, in words; empty if none was found."""


def setup_of(
    training: TrainingSpec,
    task: Task,
    shape: ModelShape,
    *,
    processes: int,
    bf16: bool,
    longest: int | None = None,
) -> Setup:
    """What a manifest asks for, with the rows of one forward pass that it would use by itself.

    `longest`: tokens of the longest row, where the data has been seen.
    """
    asked = training.strategy_of(processes)
    strategy: Strategy = "Single" if processes == 1 and asked == "DDP" else asked
    length = min(training.max_length, shape.context)
    tensor = training.tensor_parallel_size if strategy == "FSDP" else 1
    groups = processes // tensor
    compares = training.objective in ("DPO", "ORPO")  # KTO learns from one answer at a time
    prompted = training.method == "PromptTuning"
    return Setup(
        method=training.method,
        rows=training.micro_batch_size or next(_rows(training.batch_size // groups or 1)),
        length=min(length, longest or length),
        bf16=bf16,
        cuda=training.resources.gpus > 0,
        strategy=strategy,
        processes=processes,
        tensor=tensor,
        checkpointing=training.gradient_checkpointing == "Always",
        loss=_loss_of(task, prompted=prompted),
        sequences=2 if compares else 1,
        rank=training.lora.rank,
        targets=training.lora.target_modules,
        dora=training.lora.variant == "DoRA",
        bits=training.quantization.bits,
        offload=training.offload,
        block=training.oft.block_size,
        virtual_tokens=training.virtual_tokens,
        optimizer=training.optimizer,
    )


def _loss_of(task: Task, *, prompted: bool) -> Loss:
    if task != "TextGeneration":
        return "Classes"  # a number is one output of the same head
    return "AllLogits" if prompted else "LabelledTokens"


def _rows(share: int, most: int = MOST_ROWS) -> Iterator[int]:
    """Rows of a micro-batch that divide the share of a process, most first."""
    return (rows for rows in range(min(share, most), 0, -1) if share % rows == 0)


def most_rows(setup: Setup) -> int:
    """Rows above which a forward pass gains nothing: packed ones are counted in tokens."""
    if setup.loss != "LabelledTokens":
        return MOST_ROWS
    longest = setup.sequences * setup.length
    return max(1, min(MOST_ROWS, MOST_TOKENS[setup.cuda] // longest))


def choose(shape: ModelShape, asked: Setup, training: TrainingSpec, memory: int) -> Choice:
    """The largest micro-batch that fits `memory`; the one that was asked for where it is given.

    Activations are computed again only where not one row fits otherwise, and where the job allows it.
    """
    share = max(1, training.batch_size // asked.groups)
    fixed = training.micro_batch_size is not None
    candidates = [asked.rows] if fixed else list(_rows(share, most_rows(asked)))
    again = [False, True] if training.gradient_checkpointing == "Auto" else [asked.checkpointing]
    for checkpointing, rows in product(again, candidates):
        found = _with_rows(replace(asked, checkpointing=checkpointing), rows, share)
        predicted = predict(shape, found)
        if predicted.peak <= HEADROOM * memory:
            return Choice(found, share // rows, predicted, memory, True, _reason(fixed, candidates))
    least = _with_rows(replace(asked, checkpointing=again[-1]), candidates[-1], share)
    change = smallest_change(shape, least, training, share, memory)
    reason = "no micro-batch fits" if not fixed else f"microBatchSize {asked.rows} does not fit"
    rows = share // least.rows
    return Choice(least, rows, predict(shape, least), memory, False, reason, change)


def _with_rows(setup: Setup, rows: int, share: int) -> Setup:
    return replace(setup, rows=rows, accumulates=rows < share)


def _reason(fixed: bool, candidates: list[int]) -> str:
    if fixed:
        return "as training.microBatchSize says"
    return f"the largest of {', '.join(map(str, candidates))} rows that fits"


def smallest_change(
    shape: ModelShape, setup: Setup, training: TrainingSpec, share: int, memory: int
) -> str:
    """The first of single changes, from the one that alters the result least, that fits."""
    room = HEADROOM * memory
    for changed, words in _changes(setup, training, share):
        if predict(shape, changed).peak <= room:
            return words
    needed = predict(shape, setup).peak / HEADROOM
    if setup.cuda:
        return f"take GPUs of {ceil(10 * needed / 2**30) / 10:.1f} GiB or more"
    # What a manifest says is the memory of a worker, which its processes share.
    local = training.processes_per_node or 1
    return f"write training.resources.memory: {ceil(local * needed / 2**20)}Mi"


def _changes(setup: Setup, training: TrainingSpec, share: int) -> Iterator[tuple[Setup, str]]:
    for rows in _rows(share):
        if rows < setup.rows:
            yield _with_rows(setup, rows, share), f"write training.microBatchSize: {rows}"
    if not setup.checkpointing:
        words = "write training.gradientCheckpointing: Auto"
        yield replace(setup, checkpointing=True), words
    if setup.processes > 1:
        for strategy in _strategies(training):
            yield replace(setup, strategy=strategy), f"write training.strategy: {strategy}"
    for length in LENGTHS:
        if setup.length // 2 <= length < setup.length:
            yield replace(setup, length=length), f"write training.maxLength: {length}"
    if setup.method == "Full" and setup.tensor == 1:
        yield replace(setup, method="LoRA"), "write training.method: LoRA"
    whole = setup.tensor == 1 and setup.strategy not in PART_WEIGHTS
    if setup.method in ("Full", "LoRA") and setup.cuda and whole:
        yield replace(setup, method="QLoRA"), "write training.method: QLoRA"


def _strategies(training: TrainingSpec) -> tuple[Strategy, ...]:
    """Those that the rest of the manifest goes with (oikyo.api.together)."""
    allowed = set(STRATEGIES)
    if training.tensor_parallel_size > 1 or training.optimizer != "AdamW":
        allowed.clear()
    if training.method == "QLoRA" or training.objective != "Supervised":
        allowed -= PART_WEIGHTS
    if training.method == "PromptTuning":
        allowed.discard("ZeRO3")
    if training.offload == "Parameters":
        allowed &= PART_WEIGHTS
    if training.offload == "Optimizer":
        allowed.discard("FSDP")
    if training.min_nodes not in (None, training.nodes):
        allowed &= {"FSDP"}
    return tuple(strategy for strategy in STRATEGIES if strategy in allowed)
