"""FSDP2: each process holds a part of every weight, gradient and moment (PyTorch's `fully_shard`).

The model is sharded here and not by accelerate, which does so on GPUs alone: the same code runs on a
CPU over gloo, and the rows are tried on the whole model before it is parted. A checkpoint holds whole
weights as plain safetensors, written by rank 0, which gathers them one by one, and the moments in parts
(torch.distributed.checkpoint), written by every process: any number of processes can read both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .distributed import World
from .model import innermost
from .tensor import part_layers
from .writebehind import weights_of, write_weights

MOMENTS = "optimizer"
"""Folder of a checkpoint with the optimizer's state in parts."""
FALLBACK = torch.nn.ModuleList
"""Where a model does not name the layers that belong together, each item of its lists is one."""


def shard(model: Any, *, bf16: bool, offload: bool, device: torch.device, tensor: int = 1) -> None:
    """Part the weights of `model` among all processes, layer by layer, in place.

    Groups of `tensor` processes compute a layer together, and it is parted among the groups; what is
    in no layer is parted among all. `offload` keeps the parts of a GPU in the host's memory between the steps.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

    size = torch.distributed.get_world_size()
    every = groups = init_device_mesh(device.type, (size,))
    if tensor > 1:
        axes = ("data", "tensor")
        grid = init_device_mesh(device.type, (size // tensor, tensor), mesh_dim_names=axes)
        grid._flatten()  # the norm of gradients is summed over both axes in one step
        part_layers(model, grid["tensor"])
        groups = grid["data"]
    options: dict[str, Any] = {}
    if bf16:
        # The parts stay float32; what travels to the others is half as much.
        options["mp_policy"] = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    if offload:
        options["offload_policy"] = CPUOffloadPolicy()
    for layer in layers(model):
        fully_shard(layer, mesh=groups, **options)
    fully_shard(model, mesh=every, **options)
    _tell_transformers(model)


def layers(model: Any) -> Iterator[Any]:
    """The modules whose weights are gathered and freed together."""
    named = set(getattr(model, "_no_split_modules", None) or ())
    lists = (item for item in model.modules() if isinstance(item, FALLBACK))
    every = (layer for item in lists for layer in item)
    if named:
        every = (item for item in model.modules() if type(item).__name__ in named)
    uses = Counter(id(item) for _, item in model.named_parameters(remove_duplicate=False))
    return (
        layer for layer in every if any(True for _ in layer.parameters()) and _alone(layer, uses)
    )


def _alone(layer: Any, uses: Counter[int]) -> bool:
    """Whether nobody else reads the layer's weights, as prompt tuning does the embeddings: in parts while
    the layer rests, they would be of no use to it."""
    own = Counter(id(item) for _, item in layer.named_parameters(remove_duplicate=False))
    return all(count == uses[item] for item, count in own.items())


def _tell_transformers(model: Any) -> None:
    """The Trainer leaves a model alone that shares its weights itself: no DDP around it, no moves."""
    innermost(model)._is_distributed_loading_by_transformers = True


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a parted tensor, on its mesh's device. Every process has to come here."""
    from torch.distributed.tensor import DTensor, Replicate

    part: Any = tensor.detach()
    if isinstance(part, DTensor):
        # What is offloaded is gathered where the collectives are.
        moved: Any = part.to(part.device_mesh.device_type)
        for axis in range(moved.device_mesh.ndim - 1):  # one axis after the other, the finest first
            placements = [*[Replicate()] * (axis + 1), *moved.placements[axis + 1 :]]
            moved = moved.redistribute(placements=placements)
        part = moved.full_tensor()
    gathered: torch.Tensor = part
    return gathered


def save_weights(model: Any, folder: Path, world: World) -> None:
    """Write the trained weights whole, as `write_weights` does. Rank 0 keeps them, the others pass."""
    kept: dict[str, torch.Tensor] = {}
    known: dict[int, str] = {}
    for name, identity, tensor in _named(model):
        if identity in known:
            kept |= {name: kept[known[identity]]} if world.is_first else {}
            continue
        known[identity] = name
        full = whole(tensor)
        if world.is_first:
            kept[name] = full.cpu()
    if world.is_first:
        write_weights(model, kept, folder)


def save_moments(model: Any, optimizer: Any, folder: Path) -> None:
    """Every process writes its part of the optimizer's state."""
    from torch.distributed.checkpoint.state_dict_saver import save

    save(_moments(model, optimizer), checkpoint_id=folder / MOMENTS)


def load_moments(model: Any, optimizer: Any, folder: Path) -> None:
    """Every process reads what is its part now, whoever wrote it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    state = _moments(model, optimizer)
    load(state, checkpoint_id=folder / MOMENTS)
    options = StateDictOptions(flatten_optimizer_state_dict=True)
    set_optimizer_state_dict(model, optimizer, optim_state_dict=state, options=options)


def _moments(model: Any, optimizer: Any) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(flatten_optimizer_state_dict=True)
    return dict(get_optimizer_state_dict(model, optimizer, options=options))


def _named(model: Any) -> Iterator[tuple[str, int, torch.Tensor]]:
    """Name, identity and tensor of all that a checkpoint holds. Tied weights have one identity.

    The identity is the parameter's: on some process the part of a small tensor is empty, and a
    decision that rests on its address would part the processes.
    """
    parameters = {name: id(item) for name, item in model.named_parameters(remove_duplicate=False)}
    for name, tensor in weights_of(model).items():
        yield name, parameters.get(name, id(tensor)), tensor


def load_weights(model: Any, folder: Path) -> None:
    """Put the weights of a checkpoint into the model: of each tensor this process's part."""
    from safetensors import safe_open

    own = {name: (identity, tensor) for name, identity, tensor in _named(model)}
    filled: set[int] = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                identity, tensor = own[name]
                _fill(tensor, file.get_tensor(name), name)
                filled.add(identity)
    if lost := [name for name, (identity, _) in own.items() if identity not in filled]:
        raise KeyError(f"{folder.name} holds no {lost[0]}")


@torch.no_grad()
def _fill(target: Any, saved: torch.Tensor, name: str) -> None:
    from torch.distributed.tensor import DTensor, distribute_tensor

    if tuple(target.shape) != tuple(saved.shape):
        raise ValueError(f"{name} is {tuple(saved.shape)}, the model has {tuple(target.shape)}")
    if not isinstance(target, DTensor):
        target.copy_(saved)
        return
    mesh, placements = target.device_mesh, target.placements
    part = distribute_tensor(saved.to(mesh.device_type), mesh, placements, src_data_rank=None)
    target.to_local().copy_(part.to_local())
