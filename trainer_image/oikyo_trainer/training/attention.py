"""Attention over several rows laid end to end: each row sees itself alone.

Registered with transformers' AttentionInterface under SEGMENTED; a model that is set to it computes
as with sdpa until a call brings `segments`. On a CPU, one call of torch's fused kernel for each row is
four times as fast as one call with a block-diagonal mask, which also needs T x T memory (measured:
bench/README.md). Shapes: q (1, H, T, D), k and v (1, G, T, D) with H a multiple of G; out (1, T, H, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

SEGMENTED = "oikyo_segments"
UNKNOWN = ("softcap", "s_aux", "position_bias", "cache")
"""What some models ask of their attention and the per-row kernel does not compute."""


class Unpackable(Exception):
    """The model asks for something that packed attention does not compute; says what."""


def segment_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: Sequence[int] | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the `segments`, lengths that add up to T; else plain sdpa."""
    if segments is None:
        return _plain(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            is_causal=is_causal,
            sliding_window=sliding_window,
            **others,
        )
    _refuse(module, query, is_causal, others)
    grouped = query.shape[1] != key.shape[1]
    parts = []
    lengths = list(segments)
    for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True):
        band = _band(q, sliding_window)
        out = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=band,
            dropout_p=dropout,
            is_causal=band is None,
            scale=scaling,
            enable_gqa=grouped,
        )
        parts.append(out.transpose(1, 2))
    return torch.cat(parts, dim=1), None


def _plain(*args: Any, **options: Any) -> tuple[torch.Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return sdpa_attention_forward(*args, **options)


def _refuse(module: Any, query: torch.Tensor, is_causal: bool | None, others: Any) -> None:
    asked = [name for name in UNKNOWN if others.get(name) is not None]
    if asked:
        raise Unpackable(f"its attention takes {asked[0]}")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not causal:
        raise Unpackable("its attention is not causal")
    if query.shape[0] != 1:
        raise Unpackable(f"its attention splits a row into {query.shape[0]}")


def _band(query: torch.Tensor, window: int | None) -> torch.Tensor | None:
    """Which of the last `window` tokens each token sees; None where all before it are within it."""
    length = query.shape[2]
    if window is None or length <= window:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return ones.tril() & ones.triu(1 - window)


def register() -> None:
    """Make SEGMENTED known to transformers, with the masks of sdpa for calls without segments."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(SEGMENTED, segment_attention)
    AttentionMaskInterface.register(SEGMENTED, sdpa_mask)
