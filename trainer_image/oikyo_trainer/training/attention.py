"""Attention over several rows laid end to end: each row sees itself alone.

Registered with transformers' AttentionInterface under SEGMENTED; a model that is set to it computes
as with sdpa until a call brings `segments`. A GPU that computes in halves takes all rows in one call of
torch's own flash attention for rows of various lengths. On a CPU, one call of torch's fused kernel for each
row is four times as fast as one call with a block-diagonal mask, which also needs T x T memory (measured:
bench/README.md). Shapes: q (1, H, T, D), k and v (1, G, T, D) with H a multiple of G; out (1, T, H, D).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

SEGMENTED = "oikyo_segments"
HALVES = (torch.bfloat16, torch.float16)
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
    boundaries: torch.Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of the `segments`, lengths that add up to T; else plain sdpa.

    `boundaries`: the same as (N + 1,) int32 on the device, from 0 to T.
    """
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
    if boundaries is not None and not dropout and _arithmetic(query) in HALVES:
        return _flash(
            query, key, value, boundaries, max(segments), scale=scaling, window=sliding_window
        ), None
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


def _arithmetic(query: torch.Tensor) -> torch.dtype | None:
    """What a GPU's attention computes in, as torch's own would under autocast; None on a CPU."""
    if not query.is_cuda:
        return None
    lower = torch.is_autocast_enabled("cuda")
    return torch.get_autocast_dtype("cuda") if lower else query.dtype


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    *,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """All rows in one call: one kernel where there would be one for each row."""
    from torch.nn.attention.varlen import varlen_attn

    # An operator of its own: autocast, which would cast for sdpa, does not know it.
    q, k, v = (x[0].transpose(0, 1).to(_arithmetic(query)) for x in (query, key, value))
    out = varlen_attn(
        q,
        k,
        v,
        boundaries,
        boundaries,
        longest,
        longest,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out[None]


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
