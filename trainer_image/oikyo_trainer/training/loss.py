"""Cross entropy of labelled tokens without the matrix of all logits.

The hidden states of positions that have a label are chosen before the head; the head and the loss run
over chunks of them, and the gradient is computed in the same pass, so that no chunk is computed twice
(as in Liger Kernel, Hsu et al. 2024) but where `LabelledLoss` says so. Legend: N labelled tokens, D width, V vocabulary, C chunk.
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
Grads = list[torch.Tensor | None]  # of hidden states, weight and bias; None where none is needed


def rows_at_once(vocabulary: int) -> int:
    """Labelled tokens whose logits are held at once."""
    return max(LEAST_ROWS, CHUNK_BYTES // (4 * vocabulary))


class LabelledLoss(torch.autograd.Function):
    """Cross entropy of a linear head, float32: hidden (N, D), weight (V, D), bias (V,) -> () or, of `each`, (N,).

    Gradients are computed with the loss, but for a head that learns from the loss of each token: how much
    each weighs is known when all are, and the chunks are computed again then.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        smoothing: float,
        dtype: torch.dtype,
        each: bool,
    ) -> torch.Tensor:
        """`targets` (N,) int64; products are taken in `dtype`, sums over chunks in float32."""
        given = (hidden, weight, bias)
        ctx.again = each and any(ctx.needs_input_grad[1:3])
        ctx.settings = (smoothing, dtype, each)
        grads: Grads = [None] * 3 if ctx.again else _zeros(ctx, given)
        losses = _by_chunks(given, targets, smoothing, dtype, grads)
        ctx.dtypes = [hidden.dtype, weight.dtype, weight.dtype]
        ctx.save_for_backward(*(given if ctx.again else grads), targets)
        return losses if each else losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> Any:
        *grads, targets = ctx.saved_tensors
        smoothing, dtype, each = ctx.settings
        if ctx.again:
            given, grads = grads, _zeros(ctx, grads)
            _by_chunks(given, targets, smoothing, dtype, grads, slope)
        # In place: the gradients are this call's own, and the head's is the largest of all tensors.
        factor = 1 if ctx.again else slope[:, None] if each else slope
        scaled = [
            None if grad is None else grad.mul_(factor).to(kind)
            for grad, kind in zip(grads, ctx.dtypes, strict=True)
        ]
        return (*scaled, None, None, None, None)


def _zeros(ctx: Any, given: Any) -> Grads:
    """Float32 gradients to add to, of what needs one."""
    return [
        torch.zeros_like(one, dtype=torch.float32) if wanted and one is not None else None
        for one, wanted in zip(given, ctx.needs_input_grad, strict=False)
    ]


def _by_chunks(
    given: Any,
    targets: torch.Tensor,
    smoothing: float,
    dtype: torch.dtype,
    grads: Grads,
    slope: torch.Tensor | None = None,
) -> torch.Tensor:
    """Losses (N,) float32; `grads` get their gradients, of which each token's counts by its `slope` (N,)."""
    hidden, weight, bias = given
    losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
    states, matrix = hidden.to(dtype), weight.to(dtype)
    shift = None if bias is None else bias.to(dtype)
    learns = any(grad is not None for grad in grads)
    for start in range(0, len(states), rows_at_once(len(matrix))):
        part = slice(start, start + rows_at_once(len(matrix)))
        logits = linear(states[part], matrix, shift).float()
        losses[part] = _losses(logits, targets[part], smoothing, differentiate=learns)
        if slope is not None:
            logits *= slope[part, None]
        if learns:
            _accumulate(grads, logits.to(dtype), states[part], matrix, part)
    return losses


def _losses(
    logits: torch.Tensor, targets: torch.Tensor, smoothing: float, *, differentiate: bool
) -> torch.Tensor:
    """(C,) losses; to `differentiate`, `logits` (C, V) float32 become their gradient, in place."""
    log_sum = torch.logsumexp(logits, dim=1)
    wanted = logits.gather(1, targets[:, None])[:, 0]
    losses = log_sum - wanted
    if smoothing:
        losses = (1 - smoothing) * losses + smoothing * (log_sum - logits.mean(dim=1))
    if not differentiate:
        return losses
    logits.sub_(log_sum[:, None]).exp_()
    if smoothing:
        logits.sub_(smoothing / logits.shape[1])
    share = torch.full_like(wanted, smoothing - 1)
    logits.scatter_add_(1, targets[:, None], share[:, None])
    return losses


def _accumulate(
    grads: Grads, slope: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor, part: slice
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
    head: Any,
    hidden: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float = 0.0,
    *,
    each: bool = False,
) -> torch.Tensor:
    """Summed loss, () float32, of `hidden` (N, D) under the linear `head`, or that of `each` token, (N,).

    Autocast is obeyed; `smoothing` spreads that share of each label over the whole vocabulary.
    """
    kind = hidden.device.type
    lower = torch.is_autocast_enabled(kind)
    weight, bias = head.weight, head.bias
    dtype = torch.get_autocast_dtype(kind) if lower else weight.dtype
    if not torch.is_grad_enabled():  # which an autograd function does not see by itself
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    with torch.autocast(kind, enabled=False):
        loss: torch.Tensor = LabelledLoss.apply(
            hidden, weight, bias, targets, smoothing, dtype, each
        )
    return loss


def fuse_loss(causal: Any) -> None:
    """Let a causal model of transformers answer a call that brings `targets` with its loss, summed or of `each`."""
    plain = causal.forward

    def forward(
        self: Any,
        *args: Any,
        targets: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
        smoothing: float = 0.0,
        each: bool = False,
        **inputs: Any,
    ) -> Any:
        if targets is None or positions is None:
            return plain(*args, **inputs)
        hidden = self.base_model(*args, **inputs)[0].flatten(0, 1).index_select(0, positions)
        head = self.get_output_embeddings()
        return labelled_loss(head, hidden, targets, smoothing, each=each)

    causal.forward = MethodType(forward, causal)


def loss_of(
    model: Any,
    inputs: dict[str, Any],
    positions: torch.Tensor,
    targets: torch.Tensor,
    *,
    fused: bool,
    smoothing: float = 0.0,
    each: bool = False,
) -> torch.Tensor:
    """Loss of a model, fused or not, at `positions` (N,) of the flattened (B, T): summed, or of `each`, (N,)."""
    if fused:
        asked = {"positions": positions, "targets": targets, "smoothing": smoothing, "each": each}
        loss: torch.Tensor = model(**inputs, use_cache=False, **asked)
        return loss
    logits = model(**inputs, use_cache=False).logits
    chosen = logits.flatten(0, 1).index_select(0, positions).float()
    reduction = "none" if each else "sum"
    return cross_entropy(chosen, targets, reduction=reduction, label_smoothing=smoothing)
