"""Every `Auto` and every default that depends on the run, resolved with its reason. Pure.

Called once by `train`, before anything is loaded. Refuses settings that cannot be met.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import MemoryPlan
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from ..errors import Refused
from .precision import Precision

MOST_MICRO_ROWS = 32
MOST_STEPS_BETWEEN_CHECKPOINTS = 500
CHECKPOINTS_OF_A_RUN = 10

LEARNING_RATES: dict[tuple[str, str], tuple[tuple[float, float], ...]] = {
    ("Full", "TextClassification"): ((50e6, 3e-4), (200e6, 5e-5), (1e9, 2e-5), (math.inf, 1e-5)),
    ("LoRA", "TextClassification"): ((50e6, 2e-3), (200e6, 5e-4), (math.inf, 2e-4)),
    ("Full", "TextGeneration"): ((50e6, 5e-4), (500e6, 5e-5), (3e9, 2e-5), (math.inf, 1e-5)),
    ("LoRA", "TextGeneration"): ((50e6, 3e-3), (500e6, 5e-4), (math.inf, 2e-4)),
    ("OFT", "TextClassification"): ((50e6, 2e-3), (200e6, 5e-4), (math.inf, 2e-4)),
    ("OFT", "TextGeneration"): ((50e6, 3e-3), (500e6, 5e-4), (math.inf, 2e-4)),
    ("LayerNorm", "TextClassification"): ((50e6, 3e-3), (200e6, 2e-3), (math.inf, 1e-3)),
    ("LayerNorm", "TextGeneration"): ((50e6, 1e-2), (500e6, 5e-3), (math.inf, 1e-3)),
    ("PromptTuning", "TextClassification"): ((50e6, 4e-3), (200e6, 3e-3), (math.inf, 2e-3)),
    ("PromptTuning", "TextGeneration"): ((50e6, 3e-2), (500e6, 1e-2), (math.inf, 5e-3)),
    ("IA3", "TextClassification"): ((50e6, 5e-3), (200e6, 4e-3), (math.inf, 3e-3)),
    ("IA3", "TextGeneration"): ((50e6, 2e-2), (500e6, 8e-3), (math.inf, 3e-3)),
}
"""Peak rate by (method, task): pairs of (parameters below, rate). Measured for the small ones
(docs/explanation/training.md); the others are what the model families' own recipes use."""

FITTED_RATES = {
    "Full": ((50e6, 1e-4), (200e6, 5e-5), (1e9, 2e-5), (math.inf, 1e-5)),
    "OFT": ((50e6, 1e-3), (200e6, 5e-4), (math.inf, 2e-4)),
    "IA3": ((50e6, 2e-2), (200e6, 4e-3), (math.inf, 3e-3)),
}
"""The same where a head that begins fitted learns at its own share, and the others need not wait for it."""


@dataclass(frozen=True)
class Facts:
    """What the resolution rests on besides the spec."""

    train_rows: int
    validation_rows: int
    parameters: int
    """Weights of the base model."""
    context_length: int
    """Most tokens that the base model can take."""
    processes: int
    """Of the gang; training.tensorParallelSize of them learn the same rows."""
    precision: Precision
    memory: MemoryPlan | None = None
    """What was chosen to fit when the data was prepared."""
    fitted_head: bool = False
    """Whether a new head begins as a probe and learns at a share of the rate (fitted.py)."""


@dataclass(frozen=True)
class Plan:
    """What the recipe runs with."""

    learning_rate: float
    micro_batch: int
    longest: int
    """Most tokens that a row has."""
    checkpointing: bool
    """Whether activations are computed again in the backward pass."""
    accumulation: int
    batch: int
    max_length: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    every_steps: int
    """Optimizer steps between checkpoints; validation happens at the same steps."""
    zero_stage: int
    """DeepSpeed ZeRO stage; 0: DDP, FSDP or a single process."""
    fsdp: bool
    """Whether weights, gradients and moments are parted among the processes by FSDP2."""
    bf16: bool
    fitted_head: bool
    """Whether a new head begins as a probe (fitted.py)."""
    resolved: tuple[Resolved, ...]


def resolve(training: TrainingSpec, task: Task, facts: Facts) -> Plan:
    """Choose what the spec left open; raises Refused for what cannot be met."""
    _check_rows(training, facts)
    groups = groups_of(training, facts.processes)
    rate, rate_reason = _learning_rate(training, task, facts)
    memory = memory_plan(training, groups, facts.memory)
    micro = memory.micro_batch_size
    length, length_reason = _max_length(training, facts)
    per_epoch = math.ceil(facts.train_rows / training.batch_size)
    total, total_reason = _total_steps(training, per_epoch)
    warmup, warmup_reason = _warmup(training, total)
    every, every_reason = _every_steps(training, total)
    stage, strategy_reason = _zero_stage(training, facts.processes)
    accumulation = training.batch_size // (micro * groups)
    return Plan(
        learning_rate=rate,
        micro_batch=micro,
        longest=min(length, memory.longest or length),
        checkpointing=memory.gradient_checkpointing,
        accumulation=accumulation,
        batch=training.batch_size,
        max_length=length,
        steps_per_epoch=per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        every_steps=every,
        zero_stage=stage,
        fsdp=training.strategy_of(facts.processes) == "FSDP",
        bf16=facts.precision.bf16,
        fitted_head=facts.fitted_head,
        resolved=(
            _resolved("learningRate", f"{rate:g}", rate_reason),
            *memory_choices(memory),
            _resolved(
                "gradientAccumulation",
                str(accumulation),
                f"batchSize {training.batch_size} = {micro} rows x {_told(training, groups)} x "
                f"{accumulation}",
            ),
            _resolved("maxLength", str(length), length_reason),
            _resolved("precision", facts.precision.name, facts.precision.reason),
            _resolved("totalSteps", str(total), total_reason),
            _resolved("warmupSteps", str(warmup), warmup_reason),
            _resolved("checkpoints.everySteps", str(every), every_reason),
            _resolved("strategy", training.strategy_of(facts.processes), strategy_reason),
            *_tensor_choice(training, groups),
        ),
    )


def _resolved(name: str, value: str, reason: str) -> Resolved:
    return Resolved(name=f"training.{name}", value=value, reason=reason)


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}es"


def groups_of(training: TrainingSpec, processes: int) -> int:
    """Groups of processes that learn different rows; each of one process without tensor parallelism."""
    size = training.tensor_parallel_size
    if processes % size:
        raise Refused(
            "ImpossibleGroups",
            f"training.tensorParallelSize is {size} and {processes} "
            f"{_plural('process', processes)} train: they must be a multiple of it",
            next_step="Write training.processesPerNode (or resources.gpus) as a multiple of "
            f"{size}, or leave tensorParallelSize out.",
        )
    return processes // size


def _told(training: TrainingSpec, groups: int) -> str:
    """What shares the batch, in words."""
    size = training.tensor_parallel_size
    if size == 1:
        return f"{groups} {_plural('process', groups)}"
    return f"{groups} group{'s' if groups > 1 else ''} of {size} processes"


def _tensor_choice(training: TrainingSpec, groups: int) -> tuple[Resolved, ...]:
    """How processes compute a layer together, as a person reads it; nothing where each does alone."""
    size = training.tensor_parallel_size
    if size == 1:
        return ()
    reason = f"{size} processes compute each layer together, and rows are dealt to {groups} of such groups"
    return (_resolved("tensorParallelSize", str(size), reason),)


def _check_rows(training: TrainingSpec, facts: Facts) -> None:
    if facts.train_rows == 0:
        raise Refused(
            "NoTrainingRows",
            "the training split has 0 rows; training needs at least 1",
            next_step="Give more rows in data.sources or smaller shares in data.split.",
        )
    if facts.validation_rows == 0 and (asked := _asks_validation(training)):
        raise Refused(
            "NoValidationRows",
            f"training.{asked} goes by the validation rows, and the validation split has 0 rows",
            next_step=f'Write data.split.validation, for example "0.1", or drop {asked}.',
        )


def _asks_validation(training: TrainingSpec) -> str:
    """The field that nothing would come of without validation rows; empty: none does."""
    if training.early_stopping is not None:
        return "earlyStopping"
    return "selectBy" if training.select_by != "loss" else ""


def _learning_rate(training: TrainingSpec, task: Task, facts: Facts) -> tuple[float, str]:
    if training.learning_rate != "Auto":
        return float(training.learning_rate), "as training.learningRate says"
    # The frozen bits of QLoRA change nothing about the adapters that learn.
    method = "LoRA" if training.method == "QLoRA" else training.method
    # A number is learned by the same head as a class, from targets as large as log-odds are.
    table = LEARNING_RATES[method, "TextClassification" if task == "TextRegression" else task]
    beside = ""
    if facts.fitted_head and method in FITTED_RATES:
        table, beside = FITTED_RATES[method], " beside a fitted head"
    rate = next(rate for below, rate in table if facts.parameters < below)
    divided = ""
    if method == "LoRA" and training.lora.variant == "RsLoRA":
        # It scales the adapter by sqrt(rank) more (Kalajdzievski 2023), and a step of the same rate would go
        # as much further. A head is not scaled: without a rate of its own the two meet at the geometric
        # mean of theirs, measured on validation rows of three seeds (docs/reference/methods.md).
        headed = task != "TextGeneration" and not facts.fitted_head
        rate /= training.lora.rank ** (1 / 4 if headed else 1 / 2)
        root = "the fourth root of" if headed else "the square root of"
        divided = f", divided by {root} lora.rank {training.lora.rank} for RsLoRA"
    millions = facts.parameters / 1e6
    if training.objective != "Supervised":
        # Preferences move a model that can already answer: the recipes take a tenth and less.
        words = f"{training.objective} takes a tenth of {training.method}'s rate for"
        return rate / 10, f"Auto: {words} a base model of {millions:.3g} M parameters"
    size = f"a base model of {millions:.3g} M parameters"
    return rate, f"Auto: {training.method}{beside}, {task}, {size}{divided}"


def memory_plan(
    training: TrainingSpec, groups: int, chosen: MemoryPlan | None = None
) -> MemoryPlan:
    """What was `chosen` where it fits the groups that are here, else what the spec says itself."""
    micro, reason = _micro_batch(training, groups)
    if chosen is not None and training.batch_size // groups % chosen.micro_batch_size == 0:
        return chosen
    if chosen is not None:  # an elastic gang of another size than was planned for
        micro = _largest_divisor(training.batch_size // groups, chosen.micro_batch_size)
        reason = f"at most the {chosen.micro_batch_size} rows that were planned"
        return chosen.model_copy(update={"micro_batch_size": micro, "reason": reason})
    always = training.gradient_checkpointing == "Always"
    why = "needed only where not one row fits" if training.gradient_checkpointing == "Auto" else ""
    return MemoryPlan(
        micro_batch_size=micro,
        reason=reason,
        gradient_checkpointing=always,
        checkpointing_reason=why or "as training.gradientCheckpointing says",
    )


def memory_choices(memory: MemoryPlan) -> tuple[Resolved, ...]:
    """The plan as a person reads it."""
    again = "On" if memory.gradient_checkpointing else "Off"
    return (
        _resolved("microBatchSize", str(memory.micro_batch_size), memory.reason),
        _resolved("gradientCheckpointing", again, memory.checkpointing_reason),
    )


def _micro_batch(training: TrainingSpec, groups: int) -> tuple[int, str]:
    """Rows of one forward pass, so that micro x groups x accumulation is the batch exactly."""
    batch = training.batch_size
    if batch % groups:
        below, above = batch // groups * groups, -(-batch // groups) * groups
        choice = f"{above}" if below == 0 else f"{below} or {above}"
        raise Refused(
            "ImpossibleBatch",
            f"training.batchSize is {batch} and {_told(training, groups)} train: it must be a multiple "
            f"of {groups}",
            next_step=f"Write training.batchSize: {choice}.",
        )
    share = batch // groups
    one = "process" if training.tensor_parallel_size == 1 else "tensor group"
    if training.micro_batch_size is None:
        micro = _largest_divisor(share, MOST_MICRO_ROWS)
        return micro, f"the share of one {one} is {share}, at most {MOST_MICRO_ROWS} at once"
    micro = training.micro_batch_size
    if share % micro:
        fitting = [size for size in range(1, share + 1) if share % size == 0]
        nearest = min(fitting, key=lambda size: (abs(size - micro), size))
        raise Refused(
            "ImpossibleBatch",
            f"training.microBatchSize is {micro}, and the share of one {one}, batchSize {batch} / "
            f"{_told(training, groups)} = {share}, is no multiple of it",
            next_step=f"Write training.microBatchSize: {nearest}, or leave it out.",
        )
    return micro, "as training.microBatchSize says"


def _largest_divisor(number: int, most: int) -> int:
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)


def _max_length(training: TrainingSpec, facts: Facts) -> tuple[int, str]:
    if training.max_length > facts.context_length:
        return facts.context_length, (
            f"the model takes at most {facts.context_length} tokens, "
            f"fewer than training.maxLength {training.max_length}"
        )
    return training.max_length, "as training.maxLength says"


def _total_steps(training: TrainingSpec, per_epoch: int) -> tuple[int, str]:
    if training.max_steps is not None:
        return training.max_steps, "as training.maxSteps says"
    total = per_epoch * training.epochs
    return total, f"{training.epochs} epochs of {per_epoch} steps"


def _warmup(training: TrainingSpec, total: int) -> tuple[int, str]:
    if training.warmup_steps is not None:
        steps = min(training.warmup_steps, total)
        return steps, "as training.warmupSteps says, at most the whole run"
    return round(float(training.warmup_ratio) * total), f"warmupRatio {training.warmup_ratio}"


def _every_steps(training: TrainingSpec, total: int) -> tuple[int, str]:
    if training.checkpoints.every_steps is not None:
        every = min(training.checkpoints.every_steps, total)
        return every, "as training.checkpoints.everySteps says"
    tenth = math.ceil(total / CHECKPOINTS_OF_A_RUN)
    every = min(MOST_STEPS_BETWEEN_CHECKPOINTS, tenth)
    return every, f"a tenth of the run, at most {MOST_STEPS_BETWEEN_CHECKPOINTS}"


def _zero_stage(training: TrainingSpec, processes: int) -> tuple[int, str]:
    strategy = training.strategy_of(processes)
    if strategy != training.strategy:
        return 0, f"{training.strategy} shares state among processes, and there is one process"
    stage = int(strategy.removeprefix("ZeRO")) if strategy.startswith("ZeRO") else 0
    return stage, "as training.strategy says"
