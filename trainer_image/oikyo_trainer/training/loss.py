"""Cross entropy of labelled tokens without the matrix of all logits.

The hidden states of positions that have a label are chosen before the head; the head and the loss run
over chunks of them, and the gradient is computed in the same pass, so that no chunk is computed twice
(as in Liger Kernel, Hsu et al. 2024). Legend: N labelled tokens, D width, V vocabulary, C chunk.
Memory: C x V and the gradient of the head, against several times T x V.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy, linear

CHUNK_BYTES = 64 << 20
"""Bytes of one chunk of float32 logits."""
LEAST_ROWS = 32
"""Fewer rows at once would leave the matrix product inefficient."""


def rows_at_once(vocabulary: int) -> int:
    """Labelled tokens whose logits are held at once."""
    return max(LEAST_ROWS, CHUNK_BYTES // (4 * vocabulary))


class LabelledLoss(torch.autograd.Function):
    """Summed cross entropy of a linear head: hidden (N, D), weight (V, D), bias (V,) -> () float32."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        smoothing: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """`targets` (N,) int64; products are taken in `dtype`, sums over chunks in float32."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grads = [
            torch.zeros_like(given, dtype=torch.float32) if wanted and given is not None else None
            for given, wanted in zip((hidden, weight, bias), ctx.needs_input_grad, strict=False)
        ]
        states, matrix = hidden.to(dtype), weight.to(dtype)
        shift = None if bias is None else bias.to(dtype)
        for start in range(0, len(states), rows_at_once(len(matrix))):
            part = slice(start, start + rows_at_once(len(matrix)))
            logits = linear(states[part], matrix, shift).float()
            total += _loss_and_gradient(logits, targets[part], smoothing)
            _accumulate(grads, logits.to(dtype), states[part], matrix, part)
        ctx.dtypes = [hidden.dtype, weight.dtype, weight.dtype]
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> Any:
        # In place: the gradients are this call's own, and the head's is the largest of all tensors.
        scaled = [
            None if grad is None else grad.mul_(slope).to(dtype)
            for grad, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None)


def _loss_and_gradient(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """The summed loss; `logits` (C, V) float32 become its gradient, in place."""
    log_sum = torch.logsumexp(logits, dim=1)
    wanted = logits.gather(1, targets[:, None])[:, 0]
    loss = (log_sum - wanted).sum()
    if smoothing:
        loss = (1 - smoothing) * loss + smoothing * (log_sum - logits.mean(dim=1)).sum()
    logits.sub_(log_sum[:, None]).exp_()
    if smoothing:
        logits.sub_(smoothing / logits.shape[1])
    share = torch.full_like(wanted, smoothing - 1)
    logits.scatter_add_(1, targets[:, None], share[:, None])
    return loss


def _accumulate(
    grads: Any, slope: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor, part: slice
) -> None:
    """Add what a chunk's gradient (C, V) means for the hidden states, the weight and the bias."""
    if grads[0] is not None:
        grads[0][part] = slope @ matrix
    if grads[1] is not None and slope.dtype == torch.float32:
        grads[1].addmm_(slope.T, states)
    elif grads[1] is not None:
        grads[1] += slope.T @ states
    if grads[2] is not None:
        grads[2] += slope.sum(0)


def labelled_loss(
    head: Any, hidden: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Summed loss, () float32, of `hidden` (N, D) under the linear `head`; autocast is obeyed.

    `smoothing` spreads that share of each label over the whole vocabulary.
    """
    kind = hidden.device.type
    lower = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if lower else head.weight.dtype
    with torch.autocast(kind, enabled=False):
        loss: torch.Tensor = LabelledLoss.apply(
            hidden, head.weight, head.bias, targets, smoothing, dtype
        )
    return loss


def full_loss(
    logits: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Summed loss of the labelled `positions` of all logits (B, T, V), for heads of another make."""
    chosen = logits.flatten(0, 1)[positions].float()
    return cross_entropy(chosen, targets, reduction="sum", label_smoothing=smoothing)


def fuse_loss(causal: Any) -> None:
    """Let a causal model of transformers answer a call that brings `targets` with its summed loss."""
    plain = causal.forward

    def forward(
        self: Any,
        *args: Any,
        targets: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        smoothing: float = 0.0,
        **inputs: Any,
    ) -> Any:
        if targets is None or positions is None:
            return plain(*args, **inputs)
        hidden = self.base_model(*args, **inputs)[0].flatten(0, 1).index_select(0, positions)
        return labelled_loss(self.get_output_embeddings(), hidden, targets, smoothing)

    causal.forward = MethodType(forward, causal)
