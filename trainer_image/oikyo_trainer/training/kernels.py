"""Fused GPU kernels for norms, rotary embeddings and feed-forward layers, where GPU and package are there.

The loss keeps its own path (loss.py), which computes labelled tokens alone. The kernels are put in before
rows are tried (probe.py), so that a model that computes otherwise with them is found out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from oikyo.api.jobstatus import Resolved

from .model import innermost

PACKAGE = "liger_kernel"
SETTINGS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""What is left out of Liger's kernels."""
NORMS = {"rms_norm": False, "layer_norm": False}
"""What is left out too where norms are trained: it would compute with those of the base, under peft's."""


def fuse(
    model: Any, *, cuda: bool, norms: bool = True, on_host: bool = False
) -> tuple[Resolved, ...]:
    """Patch `model` in place, its `norms` too; says what was chosen on a GPU, and nothing on a CPU.

    A CPU has no choice. A model that is still `on_host` is tried there, where the kernels do not compute.
    """
    if not cuda:
        return ()
    if on_host:
        return (_choice("PyTorch", "FSDP has rows tried on the host, before weights are parted"),)
    if find_spec(PACKAGE) is None:
        return (
            _choice(
                "PyTorch",
                "liger-kernel is not installed; the image of the target trainer-gpu has it",
            ),
        )
    from transformers.integrations.liger import apply_liger_kernel

    with _kept_to(model):
        apply_liger_kernel(model, SETTINGS if norms else SETTINGS | NORMS)
    return (_choice("Liger", "liger-kernel is installed, and a GPU is here"),)


@dataclass(frozen=True)
class ByDevice:
    """A function of the modeling module that models on either device call: fused where its tensor is on a GPU."""

    fused: Callable[..., Any]
    plain: Callable[..., Any]

    def __call__(self, first: Any, *rest: Any, **named: Any) -> Any:
        return (self.fused if first.is_cuda else self.plain)(first, *rest, **named)


@contextmanager
def _kept_to(model: Any) -> Iterator[None]:
    """Undo what is put into the module that `model` comes from, for models made of it later.

    Liger changes the layers of a model, and the names of its module too: the merged model, which is tried
    on a CPU, would be made of kernels for a GPU.
    """
    module = sys.modules[type(innermost(model)).__module__]
    before = dict(vars(module))
    yield
    for name, plain in before.items():
        fused = getattr(module, name)
        if fused is plain:
            continue
        if not isinstance(plain, type):
            plain = plain.plain if isinstance(plain, ByDevice) else plain
            plain = ByDevice(fused, plain)
        setattr(module, name, plain)


def _choice(value: str, reason: str) -> Resolved:
    return Resolved(name="training.kernels", value=value, reason=reason)
