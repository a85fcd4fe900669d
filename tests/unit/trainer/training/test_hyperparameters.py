"""Every choice has a value and a reason; what cannot be met is refused with what to write instead."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.training.hyperparameters import Facts, Plan, resolve
from oikyo_trainer.training.precision import Precision, Processor, choose_precision

TENSOR = {"method": "Full", "strategy": "FSDP", "tensor_parallel_size": 4}
FLOAT32 = Precision(False, "because")


def facts(**changes: Any) -> Facts:
    values: dict[str, Any] = {
        "train_rows": 1000,
        "validation_rows": 100,
        "parameters": 22_000_000,
        "context_length": 512,
        "processes": 1,
        "precision": FLOAT32,
    }
    return Facts(**{**values, **changes})


def chosen(plan: Plan, name: str) -> tuple[str, str]:
    found = next(choice for choice in plan.resolved if choice.name == f"training.{name}")
    return found.value, found.reason


@pytest.mark.parametrize(
    ("settings", "changes", "name", "value", "reason"),
    [
        ({"learning_rate": "3e-5"}, {}, "learningRate", "3e-05", "as training.learningRate says"),
        (
            {"method": "Full"},
            {},
            "learningRate",
            "0.0003",
            "Auto: Full, TextClassification, a base model of 22 M parameters",
        ),
        (
            {"method": "Full"},
            {"parameters": 7_000_000_000},
            "learningRate",
            "1e-05",
            "Auto: Full, TextClassification, a base model of 7e+03 M parameters",
        ),
        (
            {"lora": {"rank": 16, "variant": "RsLoRA"}},
            {},
            "learningRate",
            "0.001",
            "Auto: LoRA, TextClassification, a base model of 22 M parameters, "
            "divided by the fourth root of lora.rank 16 for RsLoRA",
        ),
        (
            {"lora": {"variant": "RsLoRA"}},
            {"fitted_head": True},
            "learningRate",
            "0.0005",
            "Auto: LoRA, TextClassification, a base model of 22 M parameters, "
            "divided by the square root of lora.rank 16 for RsLoRA",
        ),
        (
            {"method": "Full"},
            {"fitted_head": True},
            "learningRate",
            "0.0001",
            "Auto: Full beside a fitted head, TextClassification, a base model of 22 M parameters",
        ),
        (
            {"method": "IA3"},
            {"fitted_head": True},
            "learningRate",
            "0.02",
            "Auto: IA3 beside a fitted head, TextClassification, a base model of 22 M parameters",
        ),
        (
            {"method": "PromptTuning", "merge": False},
            {"fitted_head": True},
            "learningRate",
            "0.004",
            "Auto: PromptTuning, TextClassification, a base model of 22 M parameters",
        ),
        ({}, {}, "microBatchSize", "32", "the share of one process is 32, at most 32 at once"),
        (
            {"batch_size": 96},
            {"processes": 2},
            "microBatchSize",
            "24",
            "the share of one process is 48, at most 32 at once",
        ),
        (
            {"batch_size": 96, "micro_batch_size": 16},
            {"processes": 2},
            "gradientAccumulation",
            "3",
            "batchSize 96 = 16 rows x 2 processes x 3",
        ),
        (
            {"max_length": 1024},
            {},
            "maxLength",
            "512",
            "the model takes at most 512 tokens, fewer than training.maxLength 1024",
        ),
        ({}, {}, "totalSteps", "96", "3 epochs of 32 steps"),
        ({"max_steps": 500}, {}, "totalSteps", "500", "as training.maxSteps says"),
        ({}, {}, "warmupSteps", "6", "warmupRatio 0.06"),
        (
            {"warmup_steps": 500},
            {},
            "warmupSteps",
            "96",
            "as training.warmupSteps says, at most the whole run",
        ),
        ({}, {}, "checkpoints.everySteps", "10", "a tenth of the run, at most 500"),
        (
            {"max_steps": 90_000},
            {},
            "checkpoints.everySteps",
            "500",
            "a tenth of the run, at most 500",
        ),
        (
            {"strategy": "ZeRO2"},
            {},
            "strategy",
            "DDP",
            "ZeRO2 shares state among processes, and there is one process",
        ),
        ({"strategy": "ZeRO2"}, {"processes": 2}, "strategy", "ZeRO2", "as training.strategy says"),
        (
            {"strategy": "FSDP", "offload": "Parameters", "resources": {"gpus": 1}},
            {},
            "strategy",
            "FSDP",
            "as training.strategy says",
        ),
        (
            TENSOR,
            {"processes": 8},
            "tensorParallelSize",
            "4",
            "4 processes compute each layer together, and rows are dealt to 2 of such groups",
        ),
        (
            {**TENSOR, "batch_size": 8, "micro_batch_size": 2},
            {"processes": 8},
            "gradientAccumulation",
            "2",
            "batchSize 8 = 2 rows x 2 groups of 4 processes x 2",
        ),
    ],
)
def test_each_choice_is_told_with_its_reason(
    settings: dict[str, Any], changes: dict[str, Any], name: str, value: str, reason: str
) -> None:
    plan = resolve(TrainingSpec(**settings), "TextClassification", facts(**changes))
    assert chosen(plan, name) == (value, reason)


def test_rslora_divides_the_rate_by_the_whole_root_where_no_head_shares_it() -> None:
    settings = TrainingSpec(lora={"rank": 16, "variant": "RsLoRA"})
    plain = resolve(TrainingSpec(), "TextGeneration", facts()).learning_rate
    value, reason = chosen(resolve(settings, "TextGeneration", facts()), "learningRate")
    assert float(value) == pytest.approx(plain / 4)
    assert reason.endswith("divided by the square root of lora.rank 16 for RsLoRA")


@pytest.mark.parametrize(
    ("settings", "changes", "reason", "sentence", "step"),
    [
        (
            {"batch_size": 32},
            {"processes": 3},
            "ImpossibleBatch",
            "training.batchSize is 32 and 3 processes train: it must be a multiple of 3",
            "Write training.batchSize: 30 or 33.",
        ),
        (
            {"batch_size": 2},
            {"processes": 4},
            "ImpossibleBatch",
            "training.batchSize is 2 and 4 processes train: it must be a multiple of 4",
            "Write training.batchSize: 4.",
        ),
        (
            {"batch_size": 32, "micro_batch_size": 12},
            {},
            "ImpossibleBatch",
            "training.microBatchSize is 12, and the share of one process, batchSize 32 / 1 process "
            "= 32, is no multiple of it",
            "Write training.microBatchSize: 8, or leave it out.",
        ),
        (
            {**TENSOR, "batch_size": 5},
            {"processes": 8},
            "ImpossibleBatch",
            "training.batchSize is 5 and 2 groups of 4 processes train: it must be a multiple of 2",
            "Write training.batchSize: 4 or 6.",
        ),
        (
            TENSOR,
            {"processes": 6},
            "ImpossibleGroups",
            "training.tensorParallelSize is 4 and 6 processes train: they must be a multiple of it",
            "Write training.processesPerNode (or resources.gpus) as a multiple of 4, or leave "
            "tensorParallelSize out.",
        ),
        (
            {},
            {"train_rows": 0},
            "NoTrainingRows",
            "the training split has 0 rows; training needs at least 1",
            "Give more rows in data.sources or smaller shares in data.split.",
        ),
        (
            {"early_stopping": {}},
            {"validation_rows": 0},
            "NoValidationRows",
            "training.earlyStopping goes by the validation rows, and the validation split has 0 rows",
            'Write data.split.validation, for example "0.1", or drop earlyStopping.',
        ),
        (
            {"select_by": "f1_macro"},
            {"validation_rows": 0},
            "NoValidationRows",
            "training.selectBy goes by the validation rows, and the validation split has 0 rows",
            'Write data.split.validation, for example "0.1", or drop selectBy.',
        ),
    ],
)
def test_what_cannot_be_met_is_refused_with_what_to_write(
    settings: dict[str, Any], changes: dict[str, Any], reason: str, sentence: str, step: str
) -> None:
    with pytest.raises(Refused) as refused:
        resolve(TrainingSpec(**settings), "TextClassification", facts(**changes))
    assert (refused.value.reason, refused.value.message) == (reason, sentence)
    assert refused.value.next_step == step


@given(st.integers(1, 4096), st.integers(1, 64), st.integers(1, 100_000))
def test_the_batch_is_met_exactly_or_refused(batch: int, processes: int, rows: int) -> None:
    settings, seen = TrainingSpec(batch_size=batch), facts(processes=processes, train_rows=rows)
    if batch % processes:
        with pytest.raises(Refused, match="must be a multiple of"):
            resolve(settings, "TextGeneration", seen)
        return
    plan = resolve(settings, "TextGeneration", seen)
    assert plan.micro_batch * processes * plan.accumulation == batch
    assert plan.micro_batch <= 32
    assert plan.total_steps == 3 * math.ceil(rows / batch)
    assert 1 <= plan.every_steps <= plan.total_steps


@pytest.mark.parametrize(
    ("precision", "processor", "sharded", "bf16", "reason"),
    [
        (
            "Float32",
            Processor(cuda=True, cuda_bf16=True),
            False,
            False,
            "as training.precision says",
        ),
        ("Auto", Processor(True, True), False, True, "the GPU computes bfloat16 natively"),
        ("Auto", Processor(True, False), False, False, "the GPU has no native bfloat16"),
        (
            "Auto",
            Processor(False, flags=frozenset({"avx512_bf16"})),
            False,
            True,
            "the CPU is fast at bfloat16 (avx512_bf16)",
        ),
        (
            "Auto",
            Processor(False, flags=frozenset({"avx2"})),
            False,
            False,
            "the CPU has neither amx_bf16 nor avx512_bf16",
        ),
        (
            "Auto",
            Processor(False, flags=frozenset({"amx_bf16"})),
            True,
            False,
            "DeepSpeed on a CPU would keep the weights themselves in bfloat16",
        ),
        ("BFloat16", Processor(False), True, True, "as training.precision says"),
    ],
)
def test_the_arithmetic_follows_the_processor(
    precision: Any, processor: Processor, sharded: bool, bf16: bool, reason: str
) -> None:
    choice = choose_precision(TrainingSpec(precision=precision), processor, sharded=sharded)
    assert (choice.bf16, choice.reason) == (bf16, reason)
