"""Who this process is among the others, and how many threads it may use. Nothing else asks the machine.

A single process is the same code with a world of one. torchrun sets RANK, LOCAL_RANK and WORLD_SIZE;
the process group itself is made by accelerate when the training arguments ask for their device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """The place of this process in the gang."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    """Processes on this node, which share its CPUs."""
    tensor: int = 1
    """Processes of a tensor group, which learn the same rows; neighbours by rank."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def data_size(self) -> int:
        """Groups that learn different rows."""
        return self.size // self.tensor

    @property
    def data_rank(self) -> int:
        """Which of these this process belongs to."""
        return self.rank // self.tensor

    @property
    def tensor_rank(self) -> int:
        """The place of this process in its tensor group."""
        return self.rank % self.tensor


def read_world(environment: Mapping[str, str], tensor: int = 1) -> World:
    """What torchrun said in the environment; a world of one without it."""
    return World(
        rank=int(environment.get("RANK", "0")),
        size=int(environment.get("WORLD_SIZE", "1")),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", "1")),
        tensor=tensor,
    )


def available_cpus(quota_file: Path = CGROUP_QUOTA) -> int:
    """CPUs that this container may use: its affinity, cut by its cgroup quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpus = allowed or 1
    try:
        quota, period = quota_file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cpus
    if quota == "max":
        return cpus
    return max(1, min(cpus, int(quota) // int(period)))


def threads_of_process(environment: Mapping[str, str], world: World, cpus: int) -> int:
    """Compute threads of one process.

    OMP_NUM_THREADS is obeyed where a person set it. torchrun sets it to 1 for several processes of a
    node when nobody did, which would leave CPUs idle, so that value counts only in a world of one.
    """
    told = environment.get("OMP_NUM_THREADS", "")
    if told.isdigit() and int(told) > 0 and not (world.local_size > 1 and told == "1"):
        return int(told)
    return max(1, cpus // world.local_size)


def prepare_process(world: World) -> int:
    """Give this process its share of the CPUs; returns the number of compute threads."""
    import torch

    threads = threads_of_process(os.environ, world, available_cpus())
    # accelerate sets the number again when it joins a gang, from this variable.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)
    return threads


def join_alone(backend: str) -> None:
    """A gang of this process alone, for what leaves its state to the host; it takes no address.

    DeepSpeed and accelerate read the variables that torchrun would have set.
    """
    import torch.distributed

    if torch.distributed.is_initialized():
        return
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    store = torch.distributed.HashStore()  # type: ignore[attr-defined]  # it is there
    torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)


def barrier(world: World) -> None:
    """Wait until every process is here."""
    if world.size > 1:
        import torch.distributed

        torch.distributed.barrier()


def from_first(world: World, value: T) -> T:
    """The value that rank 0 has; what the others pass is ignored."""
    if world.size == 1:
        return value
    import torch.distributed

    box: list[T] = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
