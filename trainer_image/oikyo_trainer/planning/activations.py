"""What autograd keeps of a forward pass until the backward pass, tensor by tensor.

The idea is that of Korthikanti et al. 2022 ("Reducing activation recomputation in large transformer
models", section 4); the counts are those of transformers' own code, read off torch's saved tensors,
because fused attention, casts of autocast and adapters change them. Units: elements of one token,
each times its bytes. `half` is 2 where the matrix products run in bfloat16, else 4.
"""

from __future__ import annotations

from typing import Literal

from .shape import Linear, ModelShape

Loss = Literal["LabelledTokens", "AllLogits", "Classes"]

FULL = 4
"""Bytes of a float32."""
CLOSING = ("down_proj", "dense", "fc2", "c_proj", "dense_4h_to_h")
"""Names of layers that narrow a feed-forward layer again, which peft's IA3 scales at their inputs."""
SCALED = ("key", "value", "k_proj", "v_proj", "c_attn", "query_key_value")
"""Names of layers of the attention that it scales at their outputs."""
CHUNK_BYTES = 64 << 20
HEAP_LARGEST = 32 << 20
"""Blocks of this size come from the kernel and go back to it (glibc, mallopt's M_MMAP_THRESHOLD)."""
LEAST_ROWS = 32
"""A chunk of logits in training/loss.py."""
AFTER_NORM = ("q_proj", "k_proj", "v_proj", "query", "key", "value", "gate_proj", "up_proj")
"""Names of layers that read what a norm gives; so does each that is wider after than before."""
READ_BEFORE = {
    "k_proj": ("q_proj",),
    "v_proj": ("q_proj", "k_proj"),
    "key": ("query",),
    "value": ("query", "key"),
    "up_proj": ("gate_proj",),
}
"""Name of a layer -> names of layers that read the same input."""


def layer_bytes(
    shape: ModelShape,
    *,
    length: int,
    half: int,
    frozen: bool,
    packed: bool = False,
    fused_attention: bool = False,
    shared_keys: bool = False,
    norms: bool = False,
) -> float:
    """Bytes that one layer keeps for one token; `frozen`: only adapters, or `norms`, are trained.

    `shared_keys`: several heads share keys in float32 on a GPU, for which torch has no fused attention.
    """
    kept = _norms(shape, half=half, frozen=frozen and not norms)
    kept += _attention(
        shape, length=length, half=half, packed=packed, fused=fused_attention or not _masked(shape)
    )
    if shared_keys:  # its one matrix, and the keys or values once for each head
        kept += (length + shape.head_dim) * shape.heads * FULL
    kept += _feed_forward(shape, half=half, frozen=frozen)
    if not frozen:
        kept += _inputs(shape, half)
    return kept


def _masked(shape: ModelShape) -> bool:
    """Dropout of attention weights needs the whole matrix: torch's fused CPU kernel has none."""
    return shape.attention_dropout


def _norms(shape: ModelShape, *, half: int, frozen: bool) -> float:
    """Inputs of the two norms; an RMSNorm with a trained weight also keeps what it scaled."""
    layer_norm = shape.encoder or not shape.gated
    inputs = 2 * shape.width * FULL
    scaled = 0 if layer_norm or frozen else 2 * shape.width * FULL
    noise = 2 * shape.width if shape.dropout else 0  # a byte each: training/dropout.py
    return inputs + scaled + noise


def _inputs(shape: ModelShape, half: int) -> float:
    """Inputs of the trained matrices that nothing else keeps; autocast casts one for each use."""
    casts = 1 if half == FULL or not (shape.encoder or shape.gated) else 3
    both = 2 if half != FULL and shape.gated else 1
    attention_out = 1 if shape.encoder or not shape.gated else 0
    return (casts + both + attention_out) * shape.width * half


def _attention(shape: ModelShape, *, length: int, half: int, packed: bool, fused: bool) -> float:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if not fused:
        # torch's unfused kernel computes in float32: weights, their dropout and the product of both.
        return (queries + 2 * keys) * FULL + matrix_bytes(shape, length=length)
    normed = (queries + keys) * (FULL + half) if shape.query_norm else 0
    out = 2 * queries if packed else queries
    return normed + (queries + 2 * keys + out) * half + shape.heads * FULL


def matrix_bytes(shape: ModelShape, *, length: int) -> float:
    """What unfused attention keeps of its matrices, for one token of one layer; nothing where it is fused."""
    return 3 * shape.heads * length * FULL if _masked(shape) else 0


def _feed_forward(shape: ModelShape, *, half: int, frozen: bool) -> float:
    if shape.gated:
        return (3 if frozen else 4) * shape.feed_forward * half
    return (1 if frozen else 2) * shape.feed_forward * half


def kept_by_adapters(
    method: str,
    adapted: tuple[Linear, ...],
    *,
    layers: int,
    rank: int,
    half: int,
    one_step: bool = False,
    dora: bool = False,
    attention_out: bool = True,
    tensor: int = 1,
) -> float:
    """What the adapters of a layer keep beside it, for one token.

    LoRA keeps a byte for each number of its dropout, its narrow middle, and what the dropout left over
    or, in `one_step` (training/methods/lowrank.py), the input itself; DoRA also the results of the layer
    and of its adapter, which its lengths scale; OFT the inputs that it turns, in
    its own float32 (and `turning_bytes`); IA3 what it scales. `attention_out`: the attention does not
    keep its output itself. In a group of `tensor` processes LoRA drops nothing and keeps the input itself.
    """
    if method == "OFT":
        elements = float(_turned(adapted, shared=half == FULL))
    elif method == "IA3":
        elements = sum((FULL if closes(one) else half) * scaled_by_ia3(one) for one in adapted)
    else:
        scaled = 2 * half if dora else 0
        dropped = 1 if tensor == 1 else 0
        elements = float(
            sum(dropped * item.inputs + rank * half + scaled * item.outputs for item in adapted)
        )
        if one_step or tensor > 1:
            elements += _read(adapted, half, attention_out=attention_out, tensor=tensor)
        else:
            elements += sum(linear.inputs * half for linear in adapted)
    return elements / max(1, layers)


def _turned(adapted: tuple[Linear, ...], *, shared: bool) -> int:
    """Inputs that OFT turns; `shared`: layers that read the same one keep it together, else a cast each."""
    names = {linear.name for linear in adapted}
    return sum(
        linear.inputs * FULL
        for linear in adapted
        if not (shared and names.intersection(READ_BEFORE.get(linear.name, ())))
    )


def turning_bytes(adapted: tuple[Linear, ...], block: int) -> int:
    """What OFT keeps of a layer's blocks whatever the tokens: skew matrix, two powers and the turn itself."""
    return sum(4 * linear.inputs * block * FULL for linear in adapted)


def made_bytes(shape: ModelShape, *, length: int) -> float:
    """All that the forward pass of one layer makes for one token in float32, kept or freed at once.

    Counted with torch's profiler, adapters left out: 21 vectors of the model's width (projections, their
    parts and copies, two norms, two sums), more with dropout (bits and bytes) and normalised queries and
    keys, 2 or, with a gate, 4 of the middle's, and 4 matrices of the attention, 3 of which are kept.
    """
    wide = 21 + (1.5 if shape.dropout else 0) + (4.5 if shape.query_norm else 0)
    middle = (4 if shape.gated else 2) * shape.feed_forward
    return (wide * shape.width + middle) * FULL + 4 / 3 * matrix_bytes(shape, length=length)


def made_by_adapters(
    method: str, adapted: tuple[Linear, ...], *, layers: int, one_step: bool, dora: bool
) -> float:
    """The same of the adapters of a layer, beside it.

    OFT makes the turned blocks and their copy in the order of the input, IA3 what it scales. LoRA makes
    the random bits, their bytes and what the dropout leaves over; the cast beside it is freed together
    with it, and their common room fits one of the two again. peft's own steps free two results as well;
    DoRA makes seven of a layer's results, and its cast lies apart.
    """
    if method == "OFT":
        elements = sum(2 * FULL * linear.inputs for linear in adapted)
    elif method == "IA3":
        elements = sum(FULL * scaled_by_ia3(linear) for linear in adapted)
    else:
        results = 7 if dora else 0 if one_step else 2
        into = 2 + 1 + (2 if dora else 1) * FULL
        elements = sum(into * item.inputs + results * FULL * item.outputs for item in adapted)
    return elements / max(1, layers)


def _read(adapted: tuple[Linear, ...], half: int, *, attention_out: bool, tensor: int = 1) -> float:
    """Inputs of the adapted layers; layers that read the same one keep it together.

    Heads and the feed-forward layer's middle are parted over `tensor` processes.
    """
    names = {linear.name for linear in adapted}
    kept = 0.0
    for linear in adapted:
        if names.intersection(READ_BEFORE.get(linear.name, ())):
            continue
        if linear.name in AFTER_NORM or linear.outputs > linear.inputs:
            kept += linear.inputs * FULL  # norms give float32
        elif linear.inputs > linear.outputs or attention_out:
            kept += linear.inputs * half / tensor
    return kept


def scaled_by_ia3(linear: Linear) -> int:
    """Factors of a layer: of its inputs where it closes a feed-forward layer, else of its outputs."""
    return linear.inputs if closes(linear) else linear.outputs


def closes(linear: Linear) -> bool:
    """Whether it narrows a feed-forward layer again: one named `dense` opens a feed-forward layer or closes it."""
    return linear.name in CLOSING and linear.inputs >= linear.outputs


def loss_bytes(
    shape: ModelShape, loss: Loss, *, tokens: int, half: int, frozen: bool, heap: bool
) -> int:
    """What the loss holds at its worst moment; torch's own of all logits: these and three float32 of them."""
    if loss == "Classes":
        return 0
    if loss == "AllLogits":
        logits = tokens * shape.vocabulary
        # The first of them that is freed leaves a hole that the next, of the same size, do not fit.
        hole = heap and FULL * logits < HEAP_LARGEST
        return logits * (half + (4 if hole else 3) * FULL)
    matrix = shape.vocabulary * shape.width
    rows = min(tokens, max(LEAST_ROWS, CHUNK_BYTES // (FULL * shape.vocabulary)))
    chunk = rows * shape.vocabulary * (2 * FULL + (half if half != FULL else 0))
    head = 0 if frozen else matrix * FULL
    cast = 2 * matrix if half != FULL else 0
    return chunk + head + cast + tokens * shape.width * (2 * FULL + half)
