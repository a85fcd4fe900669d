"""Whether a model can be trained by tensor groups, from its config alone; Refused with the smallest change."""

from __future__ import annotations

from math import gcd
from pathlib import Path
from typing import Any

from oikyo.api.training import TrainingSpec

from ..errors import Refused
from .shape import read_shape

COLWISE, ROWWISE, SUMMED = "colwise", "rowwise", "replicated_with_grad_allreduce"
"""transformers' words for a layer parted by its outputs, by its inputs, and for a norm of single heads."""
FIELD = "training.tensorParallelSize"


def check_tensor(training: TrainingSpec, model: Path, *, processes: int) -> None:
    """Refuse the model in folder `model` where groups of `processes` of a node cannot train it."""
    if training.tensor_parallel_size == 1:
        return
    from ..evaluation.models import load_config

    config = load_config(model).get_text_config()
    _check_plan(training, config)
    _check_sizes(training, model, processes)
    _check_dropout(training, config)


def _check_plan(training: TrainingSpec, config: Any) -> None:
    plan = getattr(config, "base_model_tp_plan", None) or {}
    foreign = sorted(set(plan.values()) - {COLWISE, ROWWISE, SUMMED})
    if plan and not foreign:
        return
    lacks = f"asks for {foreign[0]}, which oikyo does not compute" if foreign else "is not there"
    raise Refused(
        "NoTensorPlan",
        f"{FIELD} is {training.tensor_parallel_size}, and transformers' plan to part the layers of a "
        f"{config.model_type} model {lacks}",
        next_step="In a job with a new name leave tensorParallelSize out: strategy FSDP alone parts the "
        "weights of any model.",
    )


def _check_sizes(training: TrainingSpec, model: Path, processes: int) -> None:
    """Heads and feed-forward layers are dealt whole and evenly."""
    shape, size = read_shape(model), training.tensor_parallel_size
    sizes = {
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "intermediate_size": shape.feed_forward,
    }
    for name, value in sizes.items():
        if value % size:
            common = gcd(*sizes.values(), processes)
            fitting = max(n for n in range(1, size) if common % n == 0)
            change = f"write {FIELD}: {fitting}" if fitting > 1 else "leave tensorParallelSize out"
            raise Refused(
                "ImpossibleGroups",
                f"{FIELD} is {size}, and it does not divide the model's {name} {value}",
                next_step=f"In a job with a new name {change}.",
            )


def _check_dropout(training: TrainingSpec, config: Any) -> None:
    from ..training.model import DROPOUTS

    if training.dropout is not None:  # 0, by a rule of the manifest
        return
    for name in DROPOUTS:
        if share := getattr(config, name, None):
            raise Refused(
                "NoisyGroup",
                f"{FIELD} is {training.tensor_parallel_size}, the model's config says {name} {share:g}, and "
                "each process of a tensor group would drop other numbers",
                next_step='In a job with a new name write training.dropout: "0".',
            )
