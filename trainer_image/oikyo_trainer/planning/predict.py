"""Peak memory of one training process, term by term. Pure.

Sources: weights, gradients, moments and how ZeRO shares them: Rajbhandari et al. 2020 (section 3);
activations: `activations`; the loss: training/loss.py or, for all logits, what torch's cross entropy
keeps; the framework's base: measured (bench/bench_memory_prediction.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from .activations import (
    FULL,
    SCALED,
    closes,
    kept_by_adapters,
    layer_bytes,
    loss_bytes,
    made_by_adapters,
    made_bytes,
    scaled_by_ia3,
    turning_bytes,
)
from .setup import Setup, halves_of_lora, in_one_step, is_adapter
from .shape import Linear, ModelShape

BASE_CPU = 960 << 20
"""Resident memory of a trainer that has imported its libraries and trained a model of nothing."""
BASE_CUDA = 0
"""The peak of a GPU is what torch allocated; its context (about 0.5 GiB) is counted by no allocator."""
CONTEXT_CUDA = 600 << 20
HOLES = 0.6
"""Share of what a forward pass frees that stays a hole in glibc's heap, too small for its like (measured)."""
HOLES_OFT = 0.76
"""The same for OFT in float32: its small matrices lie in the holes and part them (measured)."""
LAYERS_AGAIN = 2.25
"""Layers in whose room one is computed again, with checkpointing (measured)."""
DDP_BUCKETS = 1.0
"""DDP's buckets hold the gradients a second time until they are made views of them."""


@dataclass(frozen=True)
class Term:
    name: str
    size: int
    source: str
    """Where the figure comes from, in words."""


@dataclass(frozen=True)
class Prediction:
    terms: tuple[Term, ...]

    @property
    def peak(self) -> int:
        return sum(term.size for term in self.terms)

    @property
    def above_base(self) -> int:
        return sum(term.size for term in self.terms if term.name != "framework")


def predict(shape: ModelShape, setup: Setup) -> Prediction:
    """The terms at the moment of the peak: whichever of the moments of a step needs most."""
    fixed = [_framework(setup), _weights(shape, setup), _optimizer(shape, setup)]
    if setup.copies_checkpoint and not setup.cuda:  # a GPU's lies in the memory of its host
        copied = FULL * trained(shape, setup) + fixed[-1].size
        fixed.append(Term("checkpoint copy", copied, "weights and moments, copied to be written"))
    moments = [_turning(shape, setup), _updating(shape, setup)]
    if setup.strategy == "FSDP":
        moments.append(_parting(shape, setup, sum(term.size for term in fixed[1:])))
    worst = max(moments, key=lambda terms: sum(term.size for term in terms))
    return Prediction((*fixed, *worst))


def adapted(shape: ModelShape, setup: Setup) -> tuple[Linear, ...]:
    """Linear layers that carry an adapter; without names, all of the body's."""
    if setup.method in ("Full", "LayerNorm", "PromptTuning"):
        return ()
    if setup.method == "IA3" and setup.loss != "Classes":  # beside a head it scales all
        known = tuple(item for item in shape.linears if item.name in SCALED or closes(item))
        return known or shape.linears
    return tuple(item for item in shape.linears if not setup.targets or item.name in setup.targets)


def trained(shape: ModelShape, setup: Setup) -> int:
    """Number of trained weights."""
    if not is_adapter(setup):
        return shape.parameters
    if setup.method == "PromptTuning":
        return setup.virtual_tokens * shape.width
    if setup.method == "LayerNorm":
        biased = 2 if shape.encoder or not shape.gated else 1
        return biased * shape.width * (2 * shape.layers + 1)
    layers = adapted(shape, setup)
    if setup.method == "IA3":
        return sum(map(scaled_by_ia3, layers))
    if setup.method == "OFT":
        return sum(item.inputs * (setup.block - 1) // 2 for item in layers)
    extra = sum(item.outputs for item in layers) if setup.dora else 0
    return setup.rank * sum(item.inputs + item.outputs for item in layers) + extra


def _framework(setup: Setup) -> Term:
    size = BASE_CUDA + CONTEXT_CUDA if setup.cuda else BASE_CPU
    return Term("framework", size, "measured: torch and the libraries, no model")


def _shared(size: float, setup: Setup, least_stage: int) -> int:
    """Bytes of one process of what ZeRO shares from `least_stage` on; FSDP shares what stage 3 does."""
    stage = int(setup.strategy[4:]) if setup.strategy.startswith("ZeRO") else 0
    stage = 3 if setup.strategy == "FSDP" else stage
    return int(size / setup.processes) if stage >= least_stage else int(size)


def _weights(shape: ModelShape, setup: Setup) -> Term:
    others = shape.parameters - shape.linear_parameters
    if setup.method == "QLoRA":
        # NF4 with doubly quantized constants: 0.127 bits more (Dettmers et al. 2023, section 3).
        linear = shape.linear_parameters * (setup.bits + (0.127 if setup.bits == 4 else 0)) / 8
        size = linear + FULL * others
    elif is_adapter(setup) and setup.bf16 and shape.saved_bytes == 2:
        size = 2.0 * shape.parameters
    else:
        size = float(FULL * shape.parameters)
    size += FULL * trained(shape, setup) if is_adapter(setup) else 0
    held = 0 if setup.offload == "Parameters" else _shared(size, setup, 3)
    held += _gathered(shape, setup)
    return Term("weights", held, "number of weights x bytes of one, and what FSDP gathers")


def _whole(shape: ModelShape, setup: Setup) -> int:
    """Bytes of the weights before they are parted."""
    half = is_adapter(setup) and setup.bf16 and shape.saved_bytes == 2
    return (2 if half else FULL) * shape.parameters


def _gathered(shape: ModelShape, setup: Setup) -> int:
    """Whole weights that a process of FSDP holds at once: two layers, and what is in no layer."""
    if setup.strategy != "FSDP":
        return 0
    layer = shape.linear_parameters / max(1, shape.layers) / setup.tensor
    around = shape.parameters - shape.linear_parameters
    return int((2 if setup.bf16 and setup.cuda else FULL) * (2 * layer + around))


def _parting(shape: ModelShape, setup: Setup, held: int) -> tuple[Term, ...]:
    """While the model is loaded whole, before FSDP parts it; on a GPU's host, not on the GPU."""
    more = 0 if setup.cuda else max(0, _whole(shape, setup) - held)
    return (
        Term("gradients", 0, "none yet"),
        Term("activations", 0, "none yet"),
        Term("loss", more, "whole weights, loaded before they are parted"),
    )


def _optimizer(shape: ModelShape, setup: Setup) -> Term:
    number = trained(shape, setup)
    if setup.optimizer == "Adafactor":
        # A matrix keeps a number for each row and column (Shazeer and Stern 2018, section 3).
        vectors = sum(item.inputs + item.outputs for item in shape.linears)
        size = FULL * (min(vectors + shape.vocabulary + shape.width, number))
        return Term("optimizer state", size, "Adafactor: a float32 of each row and column")
    if setup.optimizer == "AdamW8bit":
        return Term("optimizer state", 2 * number, "AdamW: two 8-bit moments of each weight")
    size = _shared(2 * FULL * number, setup, 1)
    size = size if setup.offload == "None" else 0
    return Term("optimizer state", size, "AdamW: two float32 moments of each trained weight")


def _gradients(shape: ModelShape, setup: Setup) -> int:
    size = FULL * trained(shape, setup)
    buckets = DDP_BUCKETS * size if setup.strategy == "DDP" and setup.processes > 1 else 0
    return int(_shared(size, setup, 2) + buckets) if setup.offload != "Parameters" else 0


def _turning(shape: ModelShape, setup: Setup) -> tuple[Term, ...]:
    """Between forward and backward: every activation and the loss, gradients of earlier parts."""
    # A CPU's heap does not give the room of freed gradients back in time (measured): it counts always.
    held = _gradients(shape, setup) if setup.accumulates or not setup.cuda else 0
    buckets = FULL * trained(shape, setup) if setup.strategy == "DDP" else 0
    room = "float32, of each trained weight; on a CPU their room in the heap"
    holes = "" if setup.cuda else "; on a CPU with the holes of the heap"
    return (
        Term("gradients", max(held, buckets), room),
        Term("activations", int(_held(shape, setup)), f"Korthikanti et al. 2022{holes}"),
        Term(
            "loss", _beside(shape, setup), f"{setup.loss}: chunk of logits and the head's gradient"
        ),
    )


def _beside(shape: ModelShape, setup: Setup) -> int:
    """The loss, as far as it stands beside the activations: a GPU gives its room to the layer computed again."""
    loss = _loss(shape, setup)
    return max(0, loss - int(_again(shape, setup))) if setup.cuda and setup.checkpointing else loss


def _held(shape: ModelShape, setup: Setup) -> float:
    """The activations, and on a CPU the holes that the heap keeps between them."""
    alive = _activations(shape, setup)
    if setup.cuda:
        return alive
    made = _made(shape, setup)
    if not setup.checkpointing:
        share = HOLES_OFT if setup.method == "OFT" and not setup.bf16 else HOLES
        # Counted in float32, since casts make up for halves; LoRA's own are small and lie in the holes.
        floats = replace(setup, bf16=False)
        kept = _base(shape, floats) + _adapters(shape, setup if halves_of_lora(setup) else floats)
        return alive + share * shape.layers * max(0, made - kept)
    again = alive - _layer(shape, setup) + LAYERS_AGAIN * made
    return max(alive, min(again, _held(shape, replace(setup, checkpointing=False))))


def _made(shape: ModelShape, setup: Setup) -> float:
    """Bytes of all that one layer makes in a forward pass, adapters with it, kept or freed."""
    base = made_bytes(shape.part(setup.tensor), length=setup.length) * setup.tokens
    one_step, dora, layers = in_one_step(setup), setup.dora, shape.layers
    linears = () if halves_of_lora(setup) else adapted(shape, setup)  # those lie in the holes
    own = setup.tokens * made_by_adapters(
        setup.method, linears, layers=layers, one_step=one_step, dora=dora
    )
    if dora:
        # Four matrices as large as each layer's, whose lengths it takes; in halves as bfloat16.
        own += 4 * FULL * sum(item.inputs * item.outputs for item in linears) / layers
        own /= 2 if setup.bf16 else 1
    return base + own


def _updating(shape: ModelShape, setup: Setup) -> tuple[Term, ...]:
    """The optimizer's step: all gradients, and on a CPU two temporaries of the largest tensor."""
    largest = shape.largest if not is_adapter(setup) else setup.rank * shape.feed_forward
    temporary = 0 if setup.cuda else 2 * FULL * largest
    return (
        Term("gradients", _gradients(shape, setup), "float32, of each trained weight"),
        Term("activations", 0, "freed before the optimizer's step"),
        Term("loss", temporary, "two temporaries of the optimizer, of the largest tensor"),
    )


def _activations(shape: ModelShape, setup: Setup) -> float:
    per_layer = _layer(shape, setup)
    casts = _casts(shape, setup)
    around = 3 * shape.width * FULL * setup.tokens
    if setup.method == "OFT":
        casts += turning_bytes(adapted(shape, setup), setup.block)
    if setup.checkpointing:
        kept = shape.layers * shape.width * FULL * setup.tokens
        return kept + _again(shape, setup) + casts / shape.layers + around
    return shape.layers * per_layer + casts + around


def _again(shape: ModelShape, setup: Setup) -> float:
    """Bytes of one layer while it is computed again; on a GPU with what its way back makes, measured."""
    back = 2 * shape.feed_forward * FULL * setup.tokens if setup.cuda else 0
    return _layer(shape, setup) + back


def _layer(shape: ModelShape, setup: Setup) -> float:
    """Bytes that one layer keeps, its adapters with it."""
    return _base(shape, setup) + _adapters(shape, setup)


def _base(shape: ModelShape, setup: Setup) -> float:
    """Bytes that one layer of the base keeps."""
    layer = layer_bytes(
        shape.part(setup.tensor),
        length=setup.length,
        half=2 if setup.bf16 else FULL,
        frozen=is_adapter(setup),
        packed=setup.packed,
        fused_attention=setup.cuda,
        shared_keys=setup.cuda and not setup.bf16 and shape.kv_heads < shape.heads,
        norms=setup.method == "LayerNorm",
    )
    return layer * setup.tokens


def _adapters(shape: ModelShape, setup: Setup) -> float:
    """Bytes that the adapters of one layer keep."""
    kept = kept_by_adapters(
        setup.method,
        adapted(shape, setup),
        layers=shape.layers,
        rank=setup.rank,
        half=2 if setup.bf16 else FULL,
        one_step=in_one_step(setup),
        dora=setup.dora,
        attention_out=shape.attention_dropout,
        tensor=setup.tensor,
    )
    return kept * setup.tokens


def _casts(shape: ModelShape, setup: Setup) -> int:
    """Autocast's bfloat16 copies of float32 matrices, kept for the backward pass.

    FSDP gathers a layer in bfloat16, frees that after its forward pass and gathers it again.
    """
    if setup.strategy == "FSDP":
        return 0
    exact = setup.method == "QLoRA" or (is_adapter(setup) and shape.saved_bytes == 2)
    again = in_one_step(setup) and not setup.targets  # it casts again in the backward pass
    exact = exact or again
    return 2 * shape.linear_parameters if setup.bf16 and not exact else 0


def _loss(shape: ModelShape, setup: Setup) -> int:
    return loss_bytes(
        shape,
        setup.loss,
        tokens=ceil(setup.tokens / setup.tensor),  # a tensor group deals its labels
        half=2 if setup.bf16 else FULL,
        frozen=is_adapter(setup),
        heap=not setup.cuda,
    )
