"""Which arithmetic to train in: what the processor is fast at, with the reason in words. Pure but for `read`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from oikyo.api.training import TrainingSpec

CPUINFO = Path("/proc/cpuinfo")
FAST_FLAGS = ("amx_bf16", "avx512_bf16")
"""CPU flags under which a bfloat16 matrix product is faster than a float32 one."""


@dataclass(frozen=True)
class Processor:
    """What this process computes on."""

    cuda: bool
    cuda_bf16: bool = False
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Precision:
    bf16: bool
    reason: str

    @property
    def name(self) -> str:
        return "BFloat16" if self.bf16 else "Float32"


def read_processor() -> Processor:
    """Ask torch for CUDA and the kernel for the CPU's flags."""
    import torch

    if torch.cuda.is_available():
        return Processor(cuda=True, cuda_bf16=torch.cuda.is_bf16_supported(False))
    return Processor(cuda=False, flags=cpu_flags(CPUINFO))


def cpu_flags(path: Path) -> frozenset[str]:
    """The flags of the first CPU; none where the file does not exist."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        if line.startswith(("flags", "Features")):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def choose_precision(training: TrainingSpec, processor: Processor, *, sharded: bool) -> Precision:
    """The arithmetic of the run; `sharded` says that DeepSpeed holds the weights."""
    if training.precision != "Auto":
        return Precision(training.precision == "BFloat16", "as training.precision says")
    if processor.cuda:
        if processor.cuda_bf16:
            return Precision(True, "the GPU computes bfloat16 natively")
        return Precision(False, "the GPU has no native bfloat16")
    if sharded:
        # DeepSpeed has no autocast here: it would round the weights themselves to bfloat16.
        return Precision(False, "DeepSpeed on a CPU would keep the weights themselves in bfloat16")
    for flag in FAST_FLAGS:
        if flag in processor.flags:
            return Precision(True, f"the CPU is fast at bfloat16 ({flag})")
    return Precision(False, "the CPU has neither amx_bf16 nor avx512_bf16")
