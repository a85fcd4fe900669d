"""From the best checkpoint to a model that anyone can load. Rank 0 alone; no process group is needed.

Works from the files of a verified checkpoint, never from the live model: the same path for a single
process, DDP and ZeRO. An adapter is merged into the base and also kept as it is, or kept alone, as
training.merge says.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oikyo.api.training import TrainingSpec

from ..evaluation.models import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from ..evaluation.opening import VIRTUAL_TOKENS
from ..files import commit_folder, write_atomic
from .heads import Head
from .interpolation import Settled, Steering, settle
from .methods.merge import Parity, Rows, merge
from .model import METHODS, Base, load_weights

MODEL = "model"
ADAPTER = "adapter"
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)


@dataclass(frozen=True)
class Released:
    """What stands in the result's folder."""

    folder: Path
    parity: Parity | None = None
    """Of a merged adapter: how far the files are from what was trained."""
    settled: Settled | None = None
    """How far the weights went back to the base's; None: it was not asked for."""


def release(
    checkpoint: Path,
    *,
    base: Base,
    head: Head | None,
    training: TrainingSpec,
    rows: Rows,
    folder: Path,
    before_commit: Callable[[], None],
    steering: Steering | None = None,
) -> Released:
    """Write `folder`/model (and `folder`/adapter); `rows` are tokens to compare a merged model on.

    With `steering` the weights may go back part of the way to the base's; an adapter of what they were
    is then not kept.
    """
    _forget_sharding()
    parity = settled = None
    if METHODS[training.method].adapter:
        adapted = _adapted(checkpoint, base, head, training.dropout)

        def write_adapter(staging: Path) -> None:
            _copy_adapter(checkpoint, staging, base)

        if not training.merge or not METHODS[training.method].mergeable:
            _write_folder(folder / MODEL, _beside_base(adapted, base, write_adapter), before_commit)
            return Released(folder / MODEL)
        model, parity = merge(adapted, base.saved_dtype, rows)
        parity.check(base.saved_dtype)
        settled = _settled(model, base, head, steering)
        if settled is None or settled.taken.factor == 1.0:
            _write_folder(folder / ADAPTER, write_adapter, before_commit)
        else:
            shutil.rmtree(folder / ADAPTER, ignore_errors=True)
    else:
        whole = load_weights(base, head, torch.float32, checkpoint)
        model = whole.to(base.saved_dtype)
        settled = _settled(model, base, head, steering)

    def write(staging: Path) -> None:
        model.save_pretrained(staging)
        base.tokenizer.save_pretrained(staging)

    _write_folder(folder / MODEL, write, before_commit)
    return Released(folder / MODEL, parity, settled)


def _settled(
    model: Any, base: Base, head: Head | None, steering: Steering | None
) -> Settled | None:
    if steering is None:
        return None
    weights = load_weights(base, head, base.saved_dtype)
    return settle(model, dict(weights.named_parameters()), steering)


def _adapted(checkpoint: Path, base: Base, head: Head | None, dropout: str | None) -> Any:
    """The adapter on its base in float32, QLoRA's on the weights as they were before rounding.

    `dropout` stays in the config of the result, as with every weight trained.
    """
    from peft import PeftModel

    whole = load_weights(base, head, torch.float32, dropout=dropout)
    return PeftModel.from_pretrained(whole, str(checkpoint))


def _beside_base(
    adapted: Any, base: Base, write_adapter: Callable[[Path], None]
) -> Callable[[Path], None]:
    """The adapter with all that a reader needs besides the base: tokenizer, labels, architecture."""

    def write(staging: Path) -> None:
        write_adapter(staging)
        model = adapted.get_base_model()
        model.config.architectures = [type(model).__name__]
        model.config.dtype = base.saved_dtype
        if adapted.active_peft_config.is_prompt_learning:
            taken = adapted.active_peft_config.num_virtual_tokens
            setattr(model.config.get_text_config(), VIRTUAL_TOKENS, taken)
        model.config.save_pretrained(staging)
        if getattr(model, "generation_config", None) is not None:
            model.generation_config.save_pretrained(staging)
        base.tokenizer.save_pretrained(staging)

    return write


def _copy_adapter(checkpoint: Path, staging: Path, base: Base) -> None:
    for name in ADAPTER_FILES:
        shutil.copyfile(checkpoint / name, staging / name)
    config = json.loads((staging / ADAPTER_FILES[0]).read_text(encoding="utf-8"))
    # The path of the workspace on this machine means nothing elsewhere; the digest does.
    config["base_model_name_or_path"] = base.digest
    write_atomic(staging / ADAPTER_FILES[0], json.dumps(config, indent=2, sort_keys=True))


def _write_folder(
    target: Path, write: Callable[[Path], None], before_commit: Callable[[], None]
) -> None:
    """Write a folder under another name, then put it in place of what an earlier attempt left."""
    staging = target.with_name(f".{target.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write(staging)
    before_commit()
    shutil.rmtree(target, ignore_errors=True)
    commit_folder(staging, target)


def _forget_sharding() -> None:
    """After ZeRO-3 transformers would load every model in shards, waiting for ranks that are gone."""
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
