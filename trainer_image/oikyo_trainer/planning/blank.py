"""The tensors of a model of which only config.json is here: made by transformers, without memory."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import Refused
from .shape import Tensors

SAVED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def blank_tensors(folder: Path) -> Tensors:
    """Name -> type and shape, as its safetensors would say them; tied weights once.

    Raises Refused where transformers has no such model of its own.
    """
    import torch
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        name = next(iter(config.architectures or ()), "")
        kind = getattr(transformers, name, None)
        with torch.device("meta"):
            model = kind(config) if kind else transformers.AutoModel.from_config(config)
    except Exception as error:  # transformers says in any type what is wrong with a config
        raise Refused(
            "UnplannableModel",
            f"{folder} holds no .safetensors file, and transformers makes no model of its "
            f"config.json ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            next_step="Name a folder with config.json of a model that transformers knows.",
        ) from None
    saved = SAVED.get(_saved_as(folder), "F32")
    return {name: (saved, tuple(weight.shape)) for name, weight in model.named_parameters()}


def _saved_as(folder: Path) -> str:
    """The type that config.json says, under its newer or its older name."""
    config = json.loads((folder / "config.json").read_bytes())
    return str(config.get("dtype") or config.get("torch_dtype"))
