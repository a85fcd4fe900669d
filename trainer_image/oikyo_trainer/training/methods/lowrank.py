"""A layer with LoRA on a CPU as one step of autograd: it keeps its input and one byte for each dropped number.

peft writes base(x) + B(A(dropout(x))) * scaling step by step. Each layer then keeps what its own dropout
left over, and two tensors as large as the result are freed at once, whose holes in the heap do not fit
the next ones (docs/explanation/memory.md). Here layers that read the same input keep it once, the
product is added in place, and what was dropped is dropped again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear

from ..dropout import draw, rounded


class LowRank(Linear):
    """peft's layer; `fuse` puts it in place of the original, whose weights it goes on with."""

    def forward(self, x: torch.Tensor, *args: Any, **others: Any) -> torch.Tensor:
        if args or others or not self._fits(x):
            out: torch.Tensor = super().forward(x, *args, **others)
            return out
        name, base = self.active_adapters[0], self.get_base_layer()
        weight = base.weight if self.fan_in_fan_out else base.weight.t()
        share = getattr(self.lora_dropout[name], "p", 0.0)
        out = _Product.apply(
            x,
            weight,
            base.bias,
            self.lora_A[name].weight,
            self.lora_B[name].weight,
            self.scaling[name],
            share,
        )
        return out

    def _fits(self, x: torch.Tensor) -> bool:
        """Whether this is a step of training on a CPU with one plain adapter beside a frozen layer."""
        names, base = self.active_adapters, self.get_base_layer()
        if not (self.training and torch.is_grad_enabled() and x.device.type == "cpu"):
            return False
        if self.merged or self.disable_adapters or len(names) != 1 or names[0] not in self.lora_A:
            return False
        if names[0] in self.lora_variant or self.lora_bias[names[0]] or base.weight.requires_grad:
            return False
        return torch.is_autocast_enabled("cpu") or x.dtype == base.weight.dtype


class _Product(torch.autograd.Function):
    """x W + bias + scale dropout(x) A^T B^T. Shapes: x (..., I), W (I, O), A (R, I), B (O, R)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
        share: float,
    ) -> torch.Tensor:
        half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        share = rounded(share)
        kept = draw(x, share) if share else None
        rows = x.reshape(-1, x.shape[-1]).to(half)
        out = rows @ weight.to(half) if bias is None else _affine(rows, weight, bias, half)
        if kept is not None:
            rows = rows * kept.view(rows.shape)
        middle = rows @ down.t().to(half)
        ctx.scale, ctx.half = scale / (1 - share), half
        out.addmm_(middle, up.t().to(half), alpha=ctx.scale)
        ctx.save_for_backward(x, weight, down, up, kept, middle)
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, down, up, kept, middle = ctx.saved_tensors
        half, scale = ctx.half, ctx.scale
        outer = gradients[0].reshape(-1, up.shape[0]).to(half)
        inner = outer @ up.to(half)
        to_up = (outer.t() @ middle).mul_(scale).to(up.dtype)
        rows = x.reshape(-1, x.shape[-1]).to(half)
        if kept is not None:
            kept = kept.view(rows.shape)
            rows = rows * kept
        to_down = (inner.t() @ rows).mul_(scale).to(down.dtype)
        del rows
        to_x = None
        if ctx.needs_input_grad[0]:
            around = inner @ down.to(half)
            if kept is not None:
                around.mul_(kept)
            total = around.mul_(scale).addmm_(outer, weight.t().to(half))
            to_x = total.view(x.shape).to(x.dtype)
        return to_x, None, None, to_down, to_up, None, None


def _affine(
    rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, half: torch.dtype
) -> torch.Tensor:
    return torch.addmm(bias.to(half), rows, weight.to(half))


def fuse(model: Any) -> None:
    """Make every LoRA layer a LowRank; not for ZeRO-3 and tensor groups, where a layer has to be called."""
    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = LowRank
