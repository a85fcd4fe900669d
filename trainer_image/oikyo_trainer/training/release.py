"""From the best checkpoint to a model that anyone can load. Rank 0 alone; no process group is needed.

Works from the files of a verified checkpoint, never from the live model: the same path for a single
process, DDP and ZeRO. An adapter is merged into the base and also kept as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from oikyo.api.evaluation import Task
from oikyo.api.training import TrainingSpec

from ..files import commit_folder, write_atomic
from .model import METHODS, Base, load_weights

MODEL = "model"
ADAPTER = "adapter"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def release(
    checkpoint: Path,
    *,
    base: Base,
    task: Task,
    labels: tuple[str, ...],
    training: TrainingSpec,
    folder: Path,
    before_commit: Callable[[], None],
) -> Path:
    """Write `folder`/model (and `folder`/adapter); returns the model's folder."""
    _forget_sharding()
    if METHODS[training.method].adapter:
        model = _merge(checkpoint, base, task, labels)
        _write_folder(
            folder / ADAPTER,
            lambda staging: _copy_adapter(checkpoint, staging, base),
            before_commit,
        )
    else:
        model = load_weights(base, task, labels, torch.float32, checkpoint)
    model = model.to(base.saved_dtype)

    def write(staging: Path) -> None:
        model.save_pretrained(staging)
        base.tokenizer.save_pretrained(staging)

    _write_folder(folder / MODEL, write, before_commit)
    return folder / MODEL


def _merge(checkpoint: Path, base: Base, task: Task, labels: tuple[str, ...]) -> Any:
    """Merge in float32, rounded once at the end."""
    from peft import PeftModel

    whole = load_weights(base, task, labels, torch.float32)
    return PeftModel.from_pretrained(whole, str(checkpoint)).merge_and_unload()


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
