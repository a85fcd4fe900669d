"""A model with learned vectors in front of every row (prompt tuning), for inference.

peft puts the vectors there in one forward pass at a time. Here the base model's own forward does it, so
that caches, left padding and every caller that knows the base keep working: the vectors are the first
tokens of the cache, and the answers have the places of the row's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

Forward = Callable[..., Any]


def put_before(model: Any, vectors: torch.Tensor) -> Any:
    """Let `model` read `vectors` (V, D) in front of every row; returns it."""
    plain: Forward = model.forward
    number = len(vectors)
    embed = model.get_input_embeddings()

    @wraps(plain)
    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        **options: Any,
    ) -> Any:
        begins = past_key_values is None or past_key_values.get_seq_length() == 0
        if attention_mask is None and begins:
            attention_mask = torch.ones_like(input_ids)
        options.pop("cache_position", None)  # counted without the vectors
        options.pop("token_type_ids", None)  # all of one kind
        inputs: dict[str, Any] = {"input_ids": input_ids}
        if begins:
            rows = embed(input_ids)
            before = vectors.to(rows)[None].expand(len(rows), -1, -1)
            inputs = {"inputs_embeds": torch.cat((before, rows), 1)}
        if attention_mask is not None:
            ones = attention_mask.new_ones(len(attention_mask), number)
            inputs["attention_mask"] = torch.cat((ones, attention_mask), 1)
        if position_ids is not None:
            inputs["position_ids"] = _shifted(position_ids, number, begins=begins)
        if past_key_values is not None:
            inputs["past_key_values"] = past_key_values
        output = plain(**inputs, **options)
        return without(output, number) if begins else output

    model.forward = forward
    return model


def _shifted(positions: torch.Tensor, number: int, *, begins: bool) -> torch.Tensor:
    moved = positions + number
    if not begins:
        return moved
    first = torch.arange(number, device=positions.device).expand(len(positions), -1)
    return torch.cat((first, moved), 1)


def without(output: Any, number: int) -> Any:
    """The output without the logits of the vectors; a classifier has one answer for the row."""
    if output.logits.dim() == 3 and output.logits.shape[1] > number:
        output.logits = output.logits[:, number:]
    return output
