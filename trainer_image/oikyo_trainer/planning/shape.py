"""What a model's files say about its size: config.json and the headers of its safetensors, no weights.

Where only config.json is there, `blank` says what transformers would make of it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from ..errors import Refused

Config = Mapping[str, Any]  # config.json: its fields differ by architecture
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
ENCODERS = ("bert", "roberta", "xlm-roberta", "electra", "camembert", "mpnet")
HEADS = ("lm_head", "classifier", "score", "embed_out")
LARGEST_HEADER = 100 << 20
BUFFERS = (".attn.bias", ".attn.masked_bias", ".inv_freq", ".position_ids")
"""Tensors of older files that no weight is: masks (GPT-2's of 1,024 x 1,024) and positions."""


@dataclass(frozen=True)
class Linear:
    """One linear layer of the body: its last name and its width before and after."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class ModelShape:
    """The numbers that memory depends on. Legend: D width, F feed-forward width, V vocabulary."""

    kind: str
    """model_type of config.json."""
    encoder: bool
    layers: int
    width: int
    feed_forward: int
    gated: bool
    """Whether the feed-forward layer has a gate (SwiGLU), three matrices instead of two."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    dropout: bool
    attention_dropout: bool
    query_norm: bool
    """Whether queries and keys are normalised (Qwen3)."""
    parameters: int
    saved_bytes: int
    """Bytes of one weight as saved."""
    largest: int
    """Weights of the largest tensor."""
    linears: tuple[Linear, ...]

    @property
    def linear_parameters(self) -> int:
        return sum(linear.inputs * linear.outputs for linear in self.linears)

    def part(self, processes: int) -> ModelShape:
        """The layers as one process of a tensor group computes them: its heads and its part of the middle."""
        return replace(
            self,
            heads=self.heads // processes,
            kv_heads=self.kv_heads // processes,
            feed_forward=self.feed_forward // processes,
        )


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in `folder`; raises Refused where the files do not say enough."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _refused(f"{folder}/config.json cannot be read ({error})") from None
    if not isinstance(config, dict):
        raise _refused(f"{folder}/config.json is no object but {type(config).__name__}")
    tensors = read_headers(folder)
    if not tensors:
        from .blank import blank_tensors  # it imports torch and transformers

        tensors = blank_tensors(folder)
    return shape_of(config, tensors)


def _refused(message: str) -> Refused:
    step = "Name a folder with config.json and safetensors weights."
    return Refused("UnplannableModel", message, next_step=step)


Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name of a tensor -> its type and shape, as the header writes them."""


def read_headers(folder: Path) -> Tensors:
    """Every tensor that the safetensors files of `folder` hold."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        header = _header(path)
        for name, entry in header.items():
            if name != "__metadata__" and not name.endswith(BUFFERS):
                found[name] = entry["dtype"], tuple(entry["shape"])
    return found


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > LARGEST_HEADER:
                raise _refused(f"{path} has a header of {size} bytes")
            header: dict[str, Any] = json.loads(file.read(size))
    except (OSError, ValueError, struct.error) as error:
        raise _refused(f"{path} is no whole safetensors file ({error})") from None
    return header


def shape_of(config: Config, tensors: Tensors) -> ModelShape:
    """The shape from a config (its text part where it has several) and the tensors of its files."""
    text: Config = config.get("text_config", config)
    kind = str(text.get("model_type", "unknown"))
    width, layers, heads = (
        _number(text, *names)
        for names in (
            ("hidden_size", "n_embd", "d_model", "dim"),
            ("num_hidden_layers", "n_layer", "n_layers"),
            ("num_attention_heads", "n_head", "n_heads"),
        )
    )
    sizes = [prod(shape) for _, shape in tensors.values()]
    kept = [BYTES.get(kind_, 4) for kind_, _ in tensors.values()]
    return ModelShape(
        kind=kind,
        encoder=kind in ENCODERS,
        layers=layers,
        width=width,
        feed_forward=_number(text, "intermediate_size", "n_inner", "ffn_dim", default=4 * width),
        gated=any("gate_proj" in name or "gate_up" in name for name in tensors),
        heads=heads,
        kv_heads=_number(text, "num_key_value_heads", default=heads),
        head_dim=_number(text, "head_dim", default=width // heads),
        vocabulary=_number(text, "vocab_size"),
        context=_number(text, "max_position_embeddings", "n_positions", default=1_000_000),
        dropout=_share(text, "hidden_dropout_prob", "resid_pdrop", kind=kind) > 0,
        attention_dropout=_share(
            text, "attention_probs_dropout_prob", "attn_pdrop", "attention_dropout", kind=kind
        )
        > 0,
        query_norm=any("q_norm" in name for name in tensors),
        parameters=sum(sizes),
        saved_bytes=max(kept),
        largest=max(sizes),
        linears=tuple(_linears(tensors, transposed=kind == "gpt2")),
    )


def _number(config: Config, *names: str, default: int | None = None) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    if default is None:
        raise _refused(f"config.json says none of {', '.join(names)}")
    return default


def _share(config: Config, *names: str, kind: str) -> float:
    """A dropout; where config.json leaves it out, the default of the family (0.1 for BERT and GPT-2)."""
    for name in names:
        if name in config:
            return float(config[name] or 0.0)
    return 0.1 if kind in (*ENCODERS, "gpt2") else 0.0


def _linears(tensors: Tensors, *, transposed: bool) -> list[Linear]:
    found = []
    for name, (_, shape) in tensors.items():
        parts = name.split(".")
        # Layers of the body are numbered; embeddings and heads are not.
        numbered = any(part.isdigit() for part in parts) or "pooler" in parts
        if len(shape) != 2 or parts[-1] != "weight" or not numbered or parts[-2] in HEADS:
            continue
        out, into = reversed(shape) if transposed else shape
        found.append(Linear(parts[-2], into, out))
    return found
