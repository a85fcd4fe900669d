"""The rates of what will serve a model: measured here in a fraction of a second, or a GPU's data sheet."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .latency import PREFILL_TOKENS, Machine
from .shape import ModelShape

if TYPE_CHECKING:
    import torch

GPUS: dict[str, tuple[float, float]] = {
    "B200": (8.0e12, 2250e12),
    "H200": (4.8e12, 989e12),
    "H100-PCIE": (2.0e12, 756e12),
    "H100-NVL": (3.9e12, 835e12),
    "H100": (3.35e12, 989e12),
    "A100-SXM4-80GB": (2.039e12, 312e12),
    "A100-PCIE-80GB": (1.935e12, 312e12),
    "A100": (1.555e12, 312e12),
    "L40S": (864e9, 362e12),
    "L4": (300e9, 121e12),
    "A10G": (600e9, 70e12),
    "A10": (600e9, 125e12),
    "V100": (900e9, 125e12),
    "T4": (320e9, 65e12),
}
"""Part of the label nvidia.com/gpu.product -> bytes and dense 16-bit operations in a second, from the
makers' data sheets; the first match counts."""
LAUNCH_SECONDS = 5e-7
"""The least that a call costs the host of a GPU."""
READ_BYTES, MULTIPLIED_WEIGHTS = 128 << 20, 8 << 20
"""What of a model's own matrices is read, and multiplied, to measure a processor."""
TRIES, CALLS = 5, 2000


def known_gpu(product: str, bytes_of_weight: int) -> Machine | None:
    """A GPU by its product label; None for one that the table does not hold."""
    plain = product.upper().replace(" ", "-")
    for part, (bandwidth, flops) in GPUS.items():
        if part in plain:
            source = f"the maker's figures of {part}"
            return Machine(bandwidth, flops, LAUNCH_SECONDS, 0.0, source, True, bytes_of_weight)
    return None


def this_processor(shape: ModelShape, prompt: int) -> Machine:
    """The processor that this runs on, with the threads that a server here would take.

    Measured on matrices as wide as the model's: what fits into a cache is read as fast as a cache.
    """
    import torch

    from ..serving.cpu import threads

    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        with torch.inference_mode():
            return Machine(
                _bandwidth(shape),
                _flops(shape, prompt),
                _call_seconds(),
                _element_seconds(shape, prompt),
                "measured here just now",
            )
    finally:
        torch.set_num_threads(before)


def _matrices(shape: ModelShape, most: int) -> list[torch.Tensor]:
    """The model's linear layers and its head as random matrices, of `most` weights in all."""
    import torch

    sizes = [(item.outputs, item.inputs) for item in shape.linears]
    if not shape.encoder:
        sizes.append((shape.vocabulary, shape.width))
    made: list[torch.Tensor] = []
    left = most
    for rows, columns in sizes:
        rows = min(rows, left // columns)
        if rows:
            made.append(torch.randn(rows, columns))
        left -= rows * columns
    return made


def _bandwidth(shape: ModelShape) -> float:
    """Bytes a second of one token through the matrices."""
    import torch

    matrices = _matrices(shape, READ_BYTES // 4)
    inputs = [torch.randn(1, matrix.shape[1]) for matrix in matrices]
    size = sum(4 * matrix.numel() for matrix in matrices)

    def read() -> None:
        for row, matrix in zip(inputs, matrices, strict=True):
            torch.nn.functional.linear(row, matrix)

    return size / _usual(read)


def _flops(shape: ModelShape, prompt: int) -> float:
    """Operations a second of a prompt through the matrices."""
    import torch

    matrices = _matrices(shape, MULTIPLIED_WEIGHTS)
    tokens = min(prompt, PREFILL_TOKENS)
    inputs = [torch.randn(tokens, matrix.shape[1]) for matrix in matrices]
    work = 2 * tokens * sum(matrix.numel() for matrix in matrices)

    def multiply() -> None:
        for rows, matrix in zip(inputs, matrices, strict=True):
            torch.nn.functional.linear(rows, matrix)

    return work / _usual(multiply)


def _call_seconds() -> float:
    import torch

    number = torch.zeros(1)

    def call() -> None:
        for _ in range(CALLS):
            torch.add(number, number)

    return _usual(call) / CALLS


def _element_seconds(shape: ModelShape, prompt: int) -> float:
    import torch

    rows = torch.randn(min(prompt, PREFILL_TOKENS), shape.width)
    return _usual(lambda: torch.add(rows, rows)) / rows.numel()


def _usual(work: Callable[[], object]) -> float:
    """Seconds of the median of some tries, as latency itself is measured; the first is not counted."""
    taken: list[float] = []
    for _ in range(1 + TRIES):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])
