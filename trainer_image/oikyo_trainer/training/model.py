"""The base model and its tokenizer made ready to train: task head, method, and what has to be refused.

Safetensors only, no code of the model's, no network. Nothing here writes; `release` does.
METHODS is the table of what each method trains and keeps; methods/ builds it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from json import loads
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oikyo.api import workspace as layout
from oikyo.api.adapters import Method
from oikyo.api.tasks import Task

from ..errors import Refused
from ..evaluation.models import context_length, load_config
from ..evaluation.opening import SAFE, sizes_of
from .heads import Head, load_headed
from .tokenizer import open_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_LIMIT = 1_000_000
"""Above this many tokens a context length says nothing."""
DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "dropout",
    "activation_dropout",
    "mlp_dropout",
    "embedding_dropout",
    "pooler_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "seq_classif_dropout",
)
"""Names that transformers gives to dropout in a config, of the body and before a classifier's head."""


@dataclass(frozen=True)
class Facts:
    """What one method means for memory and for the files of a result."""

    adapter: bool
    """Whether the base is frozen, and small parts beside it are trained; else every weight is."""
    quantized: bool = False
    """Whether the frozen base is held in training.quantization.bits (and needs a GPU)."""
    mergeable: bool = False
    """Whether what was trained can be worked into the base's own weights."""


METHODS: dict[Method, Facts] = {
    "Full": Facts(adapter=False),
    "LoRA": Facts(adapter=True, mergeable=True),
    "QLoRA": Facts(adapter=True, quantized=True, mergeable=True),
    "IA3": Facts(adapter=True, mergeable=True),
    "OFT": Facts(adapter=True, mergeable=True),
    "LayerNorm": Facts(adapter=True, mergeable=True),
    "PromptTuning": Facts(adapter=True),
}
"""Weights that an adapter trains beside a linear layer (in -> out): LoRA and QLoRA rank * (in + out),
DoRA out more; IA3 out, or in for a feed-forward layer; OFT in * (block - 1) / 2. LayerNorm trains the
norms, PromptTuning tokens * width. A classifier's head is trained besides, always."""


@dataclass(frozen=True)
class Base:
    """The base model on disk, its tokenizer, and what its files say."""

    folder: Path
    digest: str
    config: Any  # configurations differ by architecture
    tokenizer: PreTrainedTokenizerBase
    parameters: int
    saved_dtype: torch.dtype
    context_length: int


def open_base(workspace: Path, digest: str, task: Task) -> Base:
    """Read everything but the weights; refuses what could not be trained."""
    folder = workspace / layout.model(digest)
    parameters, dtype = read_weights_header(folder, digest)
    config = load_config(folder)
    tokenizer = open_tokenizer(folder, sizes_of(config).vocabulary, digest, task)
    length = context_length(config, tokenizer)
    return Base(folder, digest, config, tokenizer, parameters, dtype, min(length, NO_LIMIT))


def read_weights_header(folder: Path, digest: str) -> tuple[int, torch.dtype]:
    """Number of weights and the type they are saved in, from the safetensors headers alone."""
    import torch

    types = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    parameters, dtype = 0, None
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = loads(file.read(size))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        parameters += sum(prod(entry["shape"]) for entry in tensors)
        found = (types[entry["dtype"]] for entry in tensors if entry["dtype"] in types)
        dtype = dtype or next(found, None)
    if dtype is None:
        raise Refused(
            "WeightsMissing",
            f"the base model {digest} holds no .safetensors file with float32, float16 or "
            "bfloat16 weights",
            evidence=str(folder),
            next_step="Use a model whose weights are safetensors; pickled weights are never loaded.",
        )
    return parameters, dtype


def load_weights(
    base: Base,
    head: Head | None,
    dtype: torch.dtype,
    folder: Path | None = None,
    *,
    quantization: Any = None,
    dropout: str | None = None,
) -> PreTrainedModel:
    """The model with its head, from the base or from a checkpoint `folder`; None: a language model.

    `quantization` is transformers' own settings object, None for weights of `dtype`; `dropout` is the
    share to drop, None for what the config says.
    """
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, **SAFE}
    if quantization is not None:
        options["quantization_config"] = quantization
    if dropout is not None:
        options |= dropouts(base.config, float(dropout))
    if head is None:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder or base.folder, **options)
    else:
        model = load_headed(base.folder, base.config, head, folder, **options)
    model.config.get_text_config().pad_token_id = base.tokenizer.pad_token_id
    return model


def dropouts(config: Any, share: float) -> dict[str, float]:
    """Every dropout that the model's config has, set to `share`; refuses a model that has none."""
    text = config.get_text_config()
    found = [name for name in DROPOUTS if getattr(text, name, None) is not None]
    if not found:
        raise Refused(
            "NoDropout",
            f"training.dropout is {share:g}, and the config of this {text.model_type} model has no "
            "dropout to set",
            evidence=f"looked for {', '.join(DROPOUTS)}",
            next_step="Leave training.dropout out; training.lora.dropout is the adapter's own.",
        )
    return dict.fromkeys(found, share)


def innermost(model: Any) -> Any:
    """The model of transformers itself, without the adapters around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
