"""What autograd keeps of a forward pass until the backward pass, tensor by tensor.

The idea is that of Korthikanti et al. 2022 ("Reducing activation recomputation in large transformer
models", section 4); the counts are those of transformers' own code, read off torch's saved tensors,
because fused attention, casts of autocast and adapters change them. Units: elements of one token,
each times its bytes. `half` is 2 where the matrix products run in bfloat16, else 4.
"""

from __future__ import annotations

from .shape import Linear, ModelShape

FULL = 4
"""Bytes of a float32."""
CLOSING = ("down_proj", "dense", "fc2", "c_proj", "dense_4h_to_h")
"""Names of layers that narrow a feed-forward layer again, which peft's IA3 scales at their inputs."""
SCALED = ("key", "value", "k_proj", "v_proj", "c_attn", "query_key_value")
"""Names of layers of the attention that it scales at their outputs."""


def layer_bytes(
    shape: ModelShape,
    *,
    length: int,
    half: int,
    frozen: bool,
    packed: bool = False,
    fused_attention: bool = False,
    norms: bool = False,
) -> float:
    """Bytes that one layer keeps for one token; `frozen`: only adapters, or `norms`, are trained."""
    kept = _norms(shape, half=half, frozen=frozen and not norms)
    kept += _attention(
        shape, length=length, half=half, packed=packed, fused=fused_attention or not _masked(shape)
    )
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
    noise = 2 * shape.width * half if shape.dropout else 0
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
        return (queries + 2 * keys) * FULL + 3 * shape.heads * length * FULL
    normed = (queries + keys) * (FULL + half) if shape.query_norm else 0
    out = 2 * queries if packed else queries
    return normed + (queries + 2 * keys + out) * half + shape.heads * FULL


def _feed_forward(shape: ModelShape, *, half: int, frozen: bool) -> float:
    if shape.gated:
        return (3 if frozen else 4) * shape.feed_forward * half
    if shape.kind == "gpt2":  # its GELU is written out in python: four steps are kept
        return (4 if frozen else 5) * shape.feed_forward * half
    return (1 if frozen else 2) * shape.feed_forward * half


def kept_by_adapters(
    method: str, adapted: tuple[Linear, ...], *, layers: int, rank: int, half: int
) -> float:
    """What the adapters of a layer keep beside it, for one token.

    LoRA keeps the noise of its dropout (float32), what it left over, and its narrow middle; OFT the
    inputs that it turns, in its own float32; IA3 what it scales.
    """
    if method == "OFT":
        elements = sum(linear.inputs * FULL for linear in adapted)
    elif method == "IA3":
        elements = sum(FULL * scaled_by_ia3(linear) for linear in adapted)
    else:
        elements = sum(linear.inputs * (FULL + half) + rank * half for linear in adapted)
    return elements / max(1, layers)


def scaled_by_ia3(linear: Linear) -> int:
    """Factors of a layer: of its inputs where it closes a feed-forward layer, else of its outputs."""
    return linear.inputs if linear.name in CLOSING else linear.outputs
