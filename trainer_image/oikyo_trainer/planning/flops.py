"""Floating-point operations of a training, from the model's shape and what went through it. Pure.

Two for each weight of the body and token forward, four backward (Kaplan et al. 2020, section 2.1; PaLM,
appendix B); a frozen body has no gradients of weights, so two backward. Attention: products of
queries with keys and of weights with values over each row, half of them under a causal mask; they have
no weights, so a frozen body saves nothing there. The head
is counted at labelled tokens alone, because it is computed there alone. Activations that are computed
again for checkpointing are no useful work and are not counted.
"""

from __future__ import annotations

from typing import NamedTuple

from .shape import ModelShape


class Counted(NamedTuple):
    """What went through a model."""

    tokens: int
    """Real tokens."""
    slots: int
    """Tokens that were computed, padding included."""
    labels: int
    """Labelled tokens; rows for a classifier."""
    squares: int
    """Sum of the squared lengths of the rows."""

    @property
    def padding_share(self) -> float:
        return 1 - self.tokens / self.slots if self.slots else 0.0


def useful_flops(shape: ModelShape, counted: Counted, *, frozen: bool) -> float:
    """Operations that the training needed for `counted`; `frozen` says that adapters learn."""
    passes = 4 if frozen else 6
    body = passes * shape.linear_parameters * counted.tokens
    attention = 6 * 2 * shape.layers * shape.heads * shape.head_dim * counted.squares
    if shape.encoder:
        return float(body + attention)
    head = passes * shape.width * shape.vocabulary * counted.labels
    return float(body + attention / 2 + head)
