"""Memory that a trained model needs to be served. Pure."""

from __future__ import annotations

from oikyo.api.stages import ServeSpec
from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

from .activations import FULL
from .choose import setup_of
from .predict import trained
from .shape import ModelShape

SERVER_BASE = 700 << 20
"""Resident memory of the server with its libraries, before a model."""

CONCURRENCY = int(ServeSpec.model_fields["max_concurrency"].default)
"""Requests that a server takes at once."""


def serving_need(
    task: Task, training: TrainingSpec, shape: ModelShape, *, length: int, cuda: bool
) -> int:
    """Bytes of a server of what the training leaves, as busy as it may be."""
    whole = serving_bytes(
        shape,
        length=length,
        concurrency=CONCURRENCY,
        cuda=cuda,
        generates=task == "TextGeneration",
    )
    return whole + adapter_bytes(task, training, shape)


def adapter_bytes(task: Task, training: TrainingSpec, shape: ModelShape) -> int:
    """What one adapter adds to its base in a server; 0 for a whole model. In float32, as released."""
    if training.merge or training.method == "Full":
        return 0
    setup = setup_of(training, task, shape, processes=1, bf16=False)
    return FULL * trained(shape, setup)


def serving_bytes(
    shape: ModelShape, *, length: int, concurrency: int, cuda: bool, generates: bool
) -> int:
    """Weights and the cache of keys and values of `concurrency` requests of `length` tokens.

    Float32 on a CPU, as saved on a GPU. Cache: two vectors for each layer and token (Pope et al. 2022).
    """
    each = shape.saved_bytes if cuda else FULL
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * each * length * concurrency
    return SERVER_BASE + each * shape.parameters + (cache if generates else 0)
