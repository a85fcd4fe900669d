"""The tanh form of GELU in one kernel.

GPT-2 and its kin write it out in Python: autograd keeps four tensors as wide as the feed-forward layer and
frees as many. torch's kernel computes the same and keeps its input.
"""

from __future__ import annotations

from typing import Any


def fuse_gelu(model: Any) -> None:
    """Put torch's kernel in the place of every GELU that is written out."""
    from torch.nn import GELU
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is NewGELUActivation:
                setattr(module, name, GELU(approximate="tanh"))
