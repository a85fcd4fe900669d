"""Memory that a trained model needs to be served. Pure."""

from __future__ import annotations

from oikyo.api.stages import ServeSpec
from oikyo.api.tasks import Task

from .activations import FULL
from .shape import ModelShape

SERVER_BASE = 700 << 20
"""Resident memory of the server with its libraries, before a model."""

CONCURRENCY = int(ServeSpec.model_fields["max_concurrency"].default)
"""Requests that a server takes at once."""


def serving_need(task: Task, shape: ModelShape, *, length: int, cuda: bool) -> int:
    """Bytes of a server that is as busy as it may be."""
    return serving_bytes(
        shape,
        length=length,
        concurrency=CONCURRENCY,
        cuda=cuda,
        generates=task == "TextGeneration",
    )


def serving_bytes(
    shape: ModelShape, *, length: int, concurrency: int, cuda: bool, generates: bool
) -> int:
    """Weights and the cache of keys and values of `concurrency` requests of `length` tokens.

    Float32 on a CPU, as saved on a GPU. Cache: two vectors for each layer and token (Pope et al. 2022).
    """
    each = shape.saved_bytes if cuda else FULL
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * each * length * concurrency
    return SERVER_BASE + each * shape.parameters + (cache if generates else 0)
