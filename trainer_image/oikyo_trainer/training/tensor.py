"""Tensor parallelism: the matrices of a layer lie in parts on the processes of a tensor group.

The processes of a group learn the same rows. The plan is the one that transformers' config of the
architecture carries; torch's styles compute it (Shoeybi et al. 2019, section 3). What stands outside the
layers (embeddings, last norm, head) is whole on each process while it computes: the group deals the
labelled positions among its processes, so that the head's work is parted too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from types import MethodType
from typing import Any

import torch
import torch.distributed

from ..planning.tensor import COLWISE, ROWWISE, SUMMED
from .distributed import World
from .microbatch import MicroBatch
from .model import innermost


def part_layers(model: Any, mesh: Any) -> None:
    """Part the layers of `model` by its plan over the one-dimensional `mesh`, in place."""
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    styles = {COLWISE: ColwiseParallel, ROWWISE: RowwiseParallel}
    body = innermost(model).base_model
    for module, style in list(planned(body)):
        if style == SUMMED:
            _sum_gradients(module, mesh.get_group())
            continue
        for matrix in _matrices(module, style):
            parallelize_module(matrix, mesh, styles[style]())
    _mean_of_states(body, mesh.get_group())


def _matrices(layer: Any, style: str) -> Iterator[Any]:
    """What of a layer is parted: its matrix, and of its LoRA the one with the side that is parted.

    The other one stands where all numbers are whole: it is alike on all processes, with its gradient.
    """
    yield getattr(layer, "base_layer", layer)
    yield from getattr(layer, "lora_B" if style == COLWISE else "lora_A", {}).values()


def planned(body: Any) -> Iterator[tuple[Any, str]]:
    """Each module that the plan of the model names, and how it is parted."""
    plan = body.config.base_model_tp_plan
    for name, module in body.named_modules():
        if (style := plan.get(re.sub(r"\d+", "*", name))) is not None:
            yield module, style


class _Sum(torch.autograd.Function):
    """The same forward; backward the sum over the group, times `scale`."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, group: Any, scale: float) -> torch.Tensor:
        ctx.group, ctx.scale = group, scale
        return given.view_as(given)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total, group=ctx.group)
        return total.mul_(ctx.scale), None, None


def _sum_gradients(module: Any, group: Any) -> None:
    """A norm of single heads sees this process's heads alone: its gradient is a part of the sum."""
    plain = module.forward

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        own = self._parameters
        self._parameters = {
            name: None if item is None else _Sum.apply(item, group, 1.0)
            for name, item in own.items()
        }
        try:
            return plain(*args, **options)
        finally:
            self._parameters = own

    module.forward = MethodType(forward, module)


def _mean_of_states(body: Any, group: Any) -> None:
    """Each process of the group has the loss of some positions: the body learns from all of them.

    The gradient is the mean and not the sum, because FSDP takes means over fewer processes for what is
    parted here than for the head.
    """
    size = torch.distributed.get_world_size(group)

    def dealt(_module: Any, _args: Any, output: Any) -> Any:
        output.last_hidden_state = _Sum.apply(output.last_hidden_state, group, 1 / size)
        return output

    body.register_forward_hook(dealt)


def own_labels(part: MicroBatch, world: World) -> MicroBatch:
    """The micro-batch with the labels that this process of its tensor group answers for.

    What all processes of the group compute alike is counted by the first of them alone.
    """
    if world.tensor == 1:
        return part
    mine = slice(world.tensor_rank, None, world.tensor)
    names = ("positions", "targets", "owners")
    chosen = {name: getattr(part, name)[mine] for name in names}
    own = replace(part, labels=len(chosen["targets"]), **chosen)
    return own if world.tensor_rank == 0 else replace(own, tokens=0, slots=0, squares=0)
