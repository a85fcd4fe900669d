"""One step of an answer, as the server computes it: some tokens of the prompt, or one more token."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel


def last_logits_only(model: PreTrainedModel) -> dict[str, Any]:
    """The option by which the head reads the last token alone, where the model has one."""
    keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if keeps else {}


def read_on(
    model: PreTrainedModel, tokens: Sequence[int], cache: Any, options: dict[str, Any]
) -> tuple[torch.Tensor, Any]:
    """The logits after the last of `tokens`, (V,), and the cache that holds them too."""
    output = model(
        input_ids=torch.tensor([list(tokens)], device=model.device),
        past_key_values=cache,
        use_cache=True,
        **options,
    )
    return output.logits[0, -1], output.past_key_values
