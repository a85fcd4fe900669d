"""How a model is trained, as far as its memory cares. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .activations import Loss

Strategy = Literal["Single", "DDP", "FSDP", "ZeRO1", "ZeRO2", "ZeRO3"]
Offload = Literal["None", "Optimizer", "Parameters"]


@dataclass(frozen=True)
class Setup:
    """How a model is trained, as far as memory cares."""

    method: str
    rows: int
    """Rows of one forward pass."""
    length: int
    bf16: bool = False
    cuda: bool = False
    strategy: Strategy = "Single"
    processes: int = 1
    tensor: int = 1
    """Processes of a tensor group, which compute a layer together."""
    accumulates: bool = False
    checkpointing: bool = False
    loss: Loss = "LabelledTokens"
    sequences: int = 1
    """Sequences of one row: two where answers are compared."""
    packed: bool = False
    rank: int = 16
    targets: tuple[str, ...] = ()
    dora: bool = False
    bits: int = 4
    offload: Offload = "None"
    block: int = 32
    """Inputs that OFT turns together."""
    virtual_tokens: int = 0
    """Learned vectors before each row."""
    optimizer: str = "AdamW"
    copies_checkpoint: bool = False
    """Whether a checkpoint is copied into a buffer and written behind the training."""

    @property
    def groups(self) -> int:
        """Groups of processes that learn different rows."""
        return self.processes // self.tensor

    @property
    def tokens(self) -> int:
        return self.rows * self.sequences * (self.length + self.virtual_tokens)


def is_adapter(setup: Setup) -> bool:
    return setup.method != "Full"


def in_one_step(setup: Setup) -> bool:
    """Whether a layer and its LoRA are one step of autograd (training/methods/lowrank.py)."""
    plain = setup.method == "LoRA" and not setup.dora
    return plain and not setup.cuda and setup.strategy != "ZeRO3" and setup.tensor == 1


def halves_of_lora(setup: Setup) -> bool:
    """Whether what LoRA makes and keeps is in halves, beside a base whose norms and sums are in float32."""
    return setup.bf16 and in_one_step(setup)
