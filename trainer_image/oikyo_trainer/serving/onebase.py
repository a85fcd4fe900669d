"""Several adapters on one copy of their base's weights.

Each adapter gets a model of its own, so that nothing of one request is ever switched for another: layers,
head and configuration are its own, and the tensors of the base are those of the first model. So every
method can stand beside every other, and an answer is, bit for bit, that of a server of the adapter alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..evaluation.models import adapted, device, load_base, load_config


def load_adapters(kind: Any, folders: Sequence[Path]) -> Iterator[PreTrainedModel]:
    """The models of `folders`, whose adapters all have one base; `kind` is an Auto class."""
    first = load_base(kind, folders[0]).to(device())
    weights = dict(first.state_dict())  # before an adapter renames and replaces them
    yield adapted(first, folders[0])
    for folder in folders[1:]:
        twin = _twin(type(first), folder, weights)
        if first.can_generate():
            twin.generation_config = first.generation_config
        yield adapted(twin, folder)


def _twin(made: type[Any], folder: Path, weights: dict[str, torch.Tensor]) -> PreTrainedModel:
    """A model with the configuration of `folder` and the given tensors themselves, not copies of them."""
    some = next(iter(weights.values()))
    model: PreTrainedModel = made.from_pretrained(
        None,
        config=load_config(folder),
        state_dict=dict(weights),
        dtype=some.dtype,
        device_map={"": some.device},
        ignore_mismatched_sizes=True,  # the head, which is the adapter's own
    )
    return model


def own_bytes(model: torch.nn.Module, others: Sequence[torch.nn.Module]) -> int:
    """Bytes of a model's tensors that none of `others` holds too."""
    shared = {tensor.untyped_storage().data_ptr() for other in others for tensor in _tensors(other)}
    own = {tensor.untyped_storage().data_ptr(): tensor for tensor in _tensors(model)}
    return sum(own[at].untyped_storage().nbytes() for at in own.keys() - shared)


def _tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
