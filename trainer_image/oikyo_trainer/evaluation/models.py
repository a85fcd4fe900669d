"""Loading a model for measuring or serving: safetensors only, no code of the model's, no network.

A folder holds a whole model, or an adapter whose adapter_config.json names the base by its digest: the
base is then read from the workspace that the folder stands in.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from oikyo.api import workspace as layout

from ..errors import Refused
from . import opening
from .opening import SAFE, sizes_of
from .prompted import put_before

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def device() -> torch.device:
    """The first GPU that the process sees, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_model(kind: Any, folder: Path) -> PreTrainedModel:
    """A model of an Auto class (`kind`), ready to compute: float32 on a CPU, as saved on a GPU."""
    if not any(folder.glob("*.safetensors")):
        raise Refused(
            "WeightsMissing",
            f"{folder.name} holds no .safetensors file",
            evidence=str(folder),
            next_step="Use a model whose weights are safetensors; pickled weights are never loaded.",
        )
    if (folder / ADAPTER_CONFIG).is_file():
        return adapted(load_base(kind, folder), folder)
    model: PreTrainedModel = kind.from_pretrained(folder, **_options())
    return model.eval().to(device())


def _options() -> dict[str, Any]:
    """How weights are read: keyword arguments of from_pretrained."""
    logging.disable_progress_bar()  # a bar of control characters buries the log of a pod
    dtype = torch.float32 if device().type == "cpu" else "auto"
    return {"use_safetensors": True, "dtype": dtype, **SAFE}


def load_base(kind: Any, folder: Path) -> PreTrainedModel:
    """The base of the adapter in `folder`, with the head and labels that the adapter's config names."""
    model: PreTrainedModel = kind.from_pretrained(
        base_folder(folder), config=load_config(folder), ignore_mismatched_sizes=True, **_options()
    )
    return model


def adapted(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapter of `folder` in its layers, ready to compute."""
    from peft import PeftModel

    peft_model = PeftModel.from_pretrained(base, str(folder))
    model: PreTrainedModel = peft_model.get_base_model()
    if peft_model.active_peft_config.is_prompt_learning:
        learned = peft_model.prompt_encoder[peft_model.active_adapter].embedding.weight.detach()
        model = put_before(model, learned.to(device()))
    return model.eval().to(device())


def base_folder(folder: Path) -> Path:
    """Where the base of the adapter in `folder` stands; refuses when the workspace lost it."""
    named = json.loads((folder / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    below = layout.model(named)
    for root in folder.resolve().parents:
        if (root / below / "config.json").is_file():
            return root / below
    raise Refused(
        "BaseMissing",
        f"{folder.name} is an adapter, and the workspace does not hold its base {named}",
        evidence=str(below),
        next_step="Restore that folder, or train again with training.merge: true.",
    )


def load_config(folder: Path) -> Any:  # configurations differ by architecture
    return AutoConfig.from_pretrained(folder, **SAFE)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer, able to pad."""
    tokenizer = opening.load(folder)
    if tokenizer.pad_token_id is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_length(config: Any, tokenizer: PreTrainedTokenizerBase | None = None) -> int:
    """Most tokens of a row that the model can attend to; a million when nothing says."""
    return sizes_of(config).context(tokenizer)


def greedy_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int
) -> GenerationConfig:
    """Greedy and nothing else: a model's own sampling settings would blur the comparison."""
    own = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
    return GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        eos_token_id=sorted(ends) or None,
        pad_token_id=tokenizer.pad_token_id,
    )
