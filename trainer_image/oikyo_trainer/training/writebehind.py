"""Checkpoints written behind the training: the step waits for a copy of the state, not for the disk.

`hold` copies weights and optimizer state into buffers that are kept for the next time (a fresh
allocation pays a page fault for every 4 KiB, six times the price of the copy); `submit` hands the
writing, hashing and committing to one thread. A fault of that thread is raised at the next `wait`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any

import psutil
import torch

from ..errors import as_os_error
from ..planning.choose import HEADROOM

OPTIMIZER = "optimizer.pt"
ADAPTER = "adapter_model.safetensors"
SHARE_OF_MEMORY = 0.25
"""Most of the free memory that the buffers may take; above it a checkpoint is written in the step."""
Bear = Callable[[BaseException], bool]
Tree = Any  # tensors, numbers and texts in dicts, lists and tuples, as state_dict() gives them


class Buffers:
    """Host tensors that outlive a checkpoint, one for each storage that is copied."""

    def __init__(self) -> None:
        self._kept: list[torch.Tensor] = []
        self._next = 0
        self._copied: dict[tuple[Any, ...], torch.Tensor] = {}

    def copy(self, tree: Tree) -> Tree:
        """`tree` with every tensor copied to the host; tensors that share storage go on sharing."""
        self._next = 0
        self._copied.clear()
        held = self._hold(tree)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return held

    def size(self) -> int:
        return sum(buffer.numel() * buffer.element_size() for buffer in self._kept)

    def _hold(self, value: Tree) -> Tree:
        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach())
        if isinstance(value, dict):
            return type(value)((key, self._hold(item)) for key, item in value.items())
        if isinstance(value, list | tuple):
            return type(value)(self._hold(item) for item in value)
        return value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        identity = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and identity in self._copied:
            return self._copied[identity]
        buffer = self._buffer(tensor)
        buffer.copy_(tensor, non_blocking=True)
        self._copied[identity] = buffer
        return buffer

    def _buffer(self, tensor: torch.Tensor) -> torch.Tensor:
        """The buffer of the last time, since a state has the same tensors in the same order."""
        place, self._next = self._next, self._next + 1
        if place < len(self._kept):
            kept = self._kept[place]
            if kept.shape == tensor.shape and kept.dtype == tensor.dtype:
                return kept
            del self._kept[place:]
        self._kept.append(
            torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
        )
        return self._kept[place]


class WriteBehind:
    """Holds one checkpoint at a time; rank 0 alone has one."""

    def __init__(self) -> None:
        self._buffers = Buffers()
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._parts: list[Callable[[], None]] = []

    def hold(self, model: Any, optimizer: Any, folder: Path) -> None:
        """Copy weights and optimizer state now; they are written to `folder` by `submit`."""
        weights, state = self._buffers.copy((weights_of(model), optimizer.state_dict()))
        self._parts = [
            lambda: write_weights(model, weights, folder),
            lambda: write_state(state, folder / OPTIMIZER),
        ]

    def submit(self, commit: Callable[[], None], bear: Bear = lambda fault: False) -> None:
        """Write what is held, then `commit`, while the training goes on.

        `bear` is asked about a fault, on the writing thread: one that it can live with is not told.
        """
        parts, self._parts = [*self._parts, commit], []
        self._thread = threading.Thread(target=self._write, args=(parts, bear), name="checkpoint")
        self._thread.start()

    def _write(self, parts: list[Callable[[], None]], bear: Bear) -> None:
        try:
            try:
                for part in parts:
                    part()
            except Exception as fault:
                found = as_os_error(fault)
                if not bear(found):
                    raise found from fault
        except BaseException as fault:  # told by wait(), in the thread that can end the training
            self._fault = fault

    def size(self) -> int:
        """Bytes of the weights and the optimizer state that were copied last."""
        return self._buffers.size()

    def wait(self) -> None:
        """Return once nothing is being written; raises what the writing met."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """What a checkpoint of `model` holds: its adapter's tensors, or all."""
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        with _as_they_are(model.active_peft_config):
            state: dict[str, torch.Tensor] = get_peft_model_state_dict(model)
        return {name: tensor.detach() for name, tensor in state.items()}
    full: dict[str, torch.Tensor] = model.state_dict()
    return full


@contextmanager
def _as_they_are(config: Any) -> Iterator[None]:
    """Let peft give the vectors of prompt tuning themselves: else it looks them up, which no part of them can."""
    before = config.inference_mode
    config.inference_mode = before or config.is_prompt_learning
    try:
        yield
    finally:
        config.inference_mode = before


def write_weights(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write `weights` as save_pretrained would; of `model` only the configuration is read."""
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder, state_dict=weights)
        return
    from safetensors.torch import save_file

    save_file(weights, folder / ADAPTER, metadata={"format": "pt"})
    config = copy(model.peft_config[model.active_adapter])
    config.inference_mode = True
    config.save_pretrained(str(folder))


def write_state(state: Tree, path: Path) -> None:
    """torch.save through a file of Python's, whose errors say what the system said."""
    with path.open("wb") as file:
        torch.save(state, file)


def fits_in_memory(tensors: Iterable[torch.Tensor], free: int, coming: int = 0) -> bool:
    """Whether buffers for these weights and two moments of each leave most of the memory alone.

    `coming`: bytes of `free` that the training itself has yet to take, which buffers never touch.
    """
    size = sum(3 * tensor.numel() * tensor.element_size() for tensor in tensors)
    return size <= min(SHARE_OF_MEMORY * free, free - coming)


def yet_to_come(foreseen: int, processes: int) -> int:
    """Bytes that so many processes such as this one will take beyond what they hold now."""
    held = int(psutil.Process().memory_info().rss)
    return processes * max(0, int(foreseen / HEADROOM) - held)


def free_memory() -> int:
    """Bytes that this process may still take, as the kernel and the cgroup (v1 or v2) say."""
    free = int(psutil.virtual_memory().available)
    for limit, used in CGROUPS:
        try:
            room = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # absent, or "max"
            continue
        free = min(free, room)
    return max(free, 0)


CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)
