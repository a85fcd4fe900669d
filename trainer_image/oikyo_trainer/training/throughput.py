"""What went through the model between two logged steps, and where the time went. Never waits for the device.

`Throughput` counts tokens, computed slots, labels and the squares of row lengths, which the attention
costs. `Stopwatch` gives the time of a step to its parts; on a GPU by events in its stream, read when a
step is logged, which waits for the device anyway.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback

from ..errors import Refused
from ..metrics import STEP_PARTS
from ..planning.flops import Counted, useful_flops
from ..planning.shape import read_shape

log = logging.getLogger("oikyo.train")


class Throughput:
    """Counts of this process since they were last taken."""

    def __init__(self) -> None:
        self._known = [0, 0, 0, 0]
        self._measured: torch.Tensor | None = None
        """(2,) on the device: real tokens and squares of lengths, from masks."""

    def add(self, mask: torch.Tensor) -> None:
        """A padded batch (B, T) of rows of one label, whose lengths the device knows."""
        lengths = mask.sum(-1)
        found = torch.stack((lengths.sum(), lengths.square().sum()))
        self._measured = found if self._measured is None else self._measured + found
        self._known[1] += mask.numel()
        self._known[2] += len(mask)

    def count(self, *, tokens: int, slots: int, labels: int, squares: int) -> None:
        """Add what the host counted: real tokens, computed ones with padding, labelled ones."""
        for place, value in enumerate((tokens, slots, labels, squares)):
            self._known[place] += value

    def take(self, device: torch.device) -> Counted:
        """Counts of all ranks since the last call, which every rank makes at the same step."""
        counts = torch.tensor(self._known, dtype=torch.long, device=device)
        if self._measured is not None:
            counts[[0, 3]] += self._measured.to(device)
        self._known, self._measured = [0, 0, 0, 0], None
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        return Counted(*counts.tolist())


class Mark(NamedTuple):
    """The moment at which a part ended."""

    part: str
    at: Any  # float of time.perf_counter, or torch.cuda.Event


class Stopwatch(TrainerCallback):
    """Listens to a Trainer: each mark gives the time since the one before it to a part of the step."""

    def __init__(self) -> None:
        self._cuda = torch.cuda.is_available()
        self._marks: list[Mark] = []
        self._steps = 0
        self._taken = dict.fromkeys(STEP_PARTS, 0.0)
        """Seconds by part that were told already, of `_told` steps."""
        self._told = 0

    def listen(self, trainer: Any) -> None:
        """Mark around fetching a batch, the passes and, as a callback, the optimizer."""
        fetch, step = trainer.get_batch_samples, trainer.training_step
        backward = trainer.accelerator.backward

        def fetching(*args: Any, **options: Any) -> Any:
            self.mark("other")
            found = fetch(*args, **options)
            self.mark("data")
            return found

        def stepping(*args: Any, **options: Any) -> Any:
            self.mark("other")
            loss = step(*args, **options)
            self.mark("forward")
            return loss

        def going_back(*args: Any, **options: Any) -> None:
            self.mark("forward")
            backward(*args, **options)
            self.mark("backward")

        trainer.get_batch_samples, trainer.training_step = fetching, stepping
        trainer.accelerator.backward = going_back
        trainer.add_callback(self)

    def mark(self, part: str) -> None:
        """What happened since the last mark was `part`."""
        if not self._cuda:
            self._marks.append(Mark(part, time.perf_counter()))
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._marks.append(Mark(part, event))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mark("other")

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mark("optimizer")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._steps += 1

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mark("save")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.mark("other")

    def take(self) -> dict[str, float]:
        """Mean seconds of a step by part since the last call; empty before a step has ended."""
        steps, marks = self._steps, self._marks
        if not steps or len(marks) < 2:
            return {}
        if self._cuda:
            marks[-1].at.synchronize()
        seconds = dict.fromkeys(STEP_PARTS, 0.0)
        for before, mark in pairwise(marks):
            seconds[mark.part] += self._between(before.at, mark.at)
        self._marks, self._steps = marks[-1:], 0
        self._told += steps
        for part, taken in seconds.items():
            self._taken[part] += taken
        return {part: taken / steps for part, taken in seconds.items()}

    def overall(self) -> dict[str, float]:
        """The same over all that was told; empty before a step was."""
        return {part: taken / self._told for part, taken in self._taken.items() if self._told}

    def _between(self, earlier: Any, later: Any) -> float:
        return float(earlier.elapsed_time(later) / 1000 if self._cuda else later - earlier)


@dataclass(frozen=True)
class Peak:
    """Floating-point operations that one process could do in a second, and how that is known."""

    flops: float
    reason: str


VENDOR = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}
"""Dense 16-bit tensor-core rate by a part of the GPU's name, from the makers' data sheets; the first match."""
SIDE, TRIES = 1024, 4


def peak_of(device: torch.device, *, bf16: bool) -> Peak:
    """By the maker for a known GPU computing in 16 bits; else what a matrix product reaches right now."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    known = next((rate for part, rate in VENDOR.items() if part in name), None)
    if known is not None and bf16:
        return Peak(known, f"the maker's dense 16-bit rate of {name}")
    side = 8 * SIDE if device.type == "cuda" else SIDE
    dtype = torch.bfloat16 if bf16 else torch.float32
    factor = torch.ones(side, side, device=device, dtype=dtype)
    best = min(_product_seconds(factor) for _ in range(TRIES))
    return Peak(2 * side**3 / best, f"a product of {side} x {side} matrices was measured")


def _product_seconds(factor: torch.Tensor) -> float:
    began = time.perf_counter()
    product = factor @ factor
    product[0, 0].item()  # waits for the device
    return time.perf_counter() - began


class Speed:
    """How fast it goes: what went through the model, against what the processors could do."""

    def __init__(
        self,
        throughput: Throughput,
        stopwatch: Stopwatch,
        useful: Callable[[Counted], float] | None,
        peak: float,
    ) -> None:
        self._throughput = throughput
        self._stopwatch = stopwatch
        self._useful = useful
        """Floating-point operations that what went through needed; None: the model does not say."""
        self._peak = peak
        """Operations that all processes together could do in a second."""
        self._total = Counted(0, 0, 0, 0)
        self._seconds = 0.0

    def take(self, device: torch.device, seconds: float) -> dict[str, float]:
        """Values since the last call, by name; every rank calls at the same step."""
        counted = self._throughput.take(device)
        self._total = Counted(*map(sum, zip(self._total, counted, strict=True)))
        self._seconds += seconds
        return self._rates(counted, max(seconds, 1e-9)) | _named(self._stopwatch.take())

    def overall(self) -> dict[str, float]:
        """The same over the whole attempt; empty before a step was logged."""
        return self._rates(self._total, self._seconds) if self._seconds else {}

    def split(self) -> dict[str, float]:
        """Where the time of a step went, over the whole attempt."""
        return _named(self._stopwatch.overall())

    def _rates(self, counted: Counted, seconds: float) -> dict[str, float]:
        rates = {
            "tokens_per_second": counted.tokens / seconds,
            "padding_share": counted.padding_share,
        }
        if self._useful is not None:
            rates["flops_utilization"] = self._useful(counted) / seconds / self._peak
        return rates


def _named(parts: dict[str, float]) -> dict[str, float]:
    return {f"step_{part}_seconds": taken for part, taken in parts.items()}


def open_speed(
    throughput: Throughput,
    stopwatch: Stopwatch,
    base: Path,
    *,
    peak: Peak,
    frozen: bool,
    processes: int,
) -> Speed:
    """The speed of a training of the model in `base`; `frozen` says that adapters learn."""
    try:
        shape = read_shape(base)
    except Refused:  # an architecture whose work cannot be counted trains all the same
        return Speed(throughput, stopwatch, None, math.inf)
    log.info("peak of a process: %.3g operations a second (%s)", peak.flops, peak.reason)
    useful = partial(useful_flops, shape, frozen=frozen)
    return Speed(throughput, stopwatch, useful, peak.flops * processes)
