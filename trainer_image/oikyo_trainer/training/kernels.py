"""Fused GPU kernels for norms, rotary embeddings and feed-forward layers, where GPU and package are there.

The loss keeps its own path (loss.py), which computes labelled tokens alone. The kernels are put in before
rows are tried (probe.py), so that a model that computes otherwise with them is found out.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from oikyo.api.jobstatus import Resolved

PACKAGE = "liger_kernel"
SETTINGS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""What is left out of Liger's kernels."""


def fuse(model: Any, *, cuda: bool) -> tuple[Resolved, ...]:
    """Patch `model` in place; says what was chosen on a GPU, and nothing on a CPU, which has no choice."""
    if not cuda:
        return ()
    if find_spec(PACKAGE) is None:
        return (_choice("PyTorch", "liger-kernel is not installed in the trainer image"),)
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, SETTINGS)
    return (_choice("Liger", "liger-kernel is installed, and a GPU is here"),)


def _choice(value: str, reason: str) -> Resolved:
    return Resolved(name="training.kernels", value=value, reason=reason)
