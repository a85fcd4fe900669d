"""Losses over preferences, row by row, so that the mean of a step is exact however it is cut. Pure.

Legend: B rows (pairs, or answers with a vote); chosen and rejected are (B,) float32 sums of the answer's
log-probabilities; reference_* are those of the frozen base. Equal to TRL's trainers on the same batch
(tests/unit/trainer/training/test_objectives.py).
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, reference: torch.Tensor, beta: float
) -> torch.Tensor:
    """(B,) losses of Rafailov et al. 2023, equation 7; reference (B, 2): chosen, rejected."""
    gain = (chosen - reference[:, 0]) - (rejected - reference[:, 1])
    return -logsigmoid(beta * gain)


def orpo_loss(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """(B,) losses of Hong et al. 2024, equation 6; both (B,) means over the answer's tokens.

    The likelihood term is taken on the chosen answer, as in the paper; no reference is needed.
    """
    odds = (chosen - rejected) - (_log_one_minus(chosen) - _log_one_minus(rejected))
    return -chosen - beta * logsigmoid(odds)


def kto_loss(
    gain: torch.Tensor, desirable: torch.Tensor, divergence: torch.Tensor, beta: float
) -> torch.Tensor:
    """(B,) losses of Ethayarajh et al. 2024, equation 8; gain (B,): log-probability over the base's.

    `divergence` () is the batch's estimate of KL(tuned, base), from answers that belong to other
    prompts; no gradient flows through it.
    """
    distance = torch.where(desirable, gain - divergence, divergence - gain)
    return 1 - torch.sigmoid(beta * distance)


def _log_one_minus(log_p: torch.Tensor) -> torch.Tensor:
    """log(1 - p) of log p < 0; a sure answer would be infinitely likely."""
    return torch.log1p(-torch.exp(log_p.clamp(max=-1e-6)))
