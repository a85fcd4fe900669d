"""An adapter worked into the weights of its base, and the proof that nothing else changed.

`merge` serves the release of a training, `merge_version` a job that continues from a released
adapter. Both compute in float32 and round once, to the type that the base was saved in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import Refused

PARITY_ROWS = 16
"""Rows of the job's own data that both forms of the model are asked about."""
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest difference of a logit that rounding explains, as a share of the largest logit: a sum over a
layer's inputs carries a few of the type's rounding steps (2^-24, 2^-11, 2^-8) through every layer."""

Rows = Sequence[Sequence[int]]  # tokens of each row


@dataclass(frozen=True)
class Parity:
    """How far the merged model is from the adapter on its base."""

    difference: float
    """Largest absolute difference of any logit of any row."""
    largest: float
    """Largest absolute logit of the adapter on its base: the scale of the difference."""

    def check(self, dtype: torch.dtype) -> None:
        """Refuse a merged model that answers differently than what was trained and measured."""
        share = self.difference / max(self.largest, 1e-6)
        if not share <= TOLERANCE[dtype]:  # not a number passes nothing
            raise Refused(
                "MergeDiffers",
                f"merged into {str(dtype).removeprefix('torch.')} weights, the model's logits differ "
                f"by {self.difference:.3g} from the adapter's, {share:.1%} of the largest logit; "
                f"rounding explains {TOLERANCE[dtype]:.1%}",
                next_step="Write training.merge: false, which keeps the adapter as it was trained, "
                "or lower training.lora.alpha.",
            )


def merge(adapted: Any, dtype: torch.dtype, rows: Rows) -> tuple[Any, Parity]:
    """The peft model `adapted` (float32) as a plain one of `dtype`, and how far the two are apart."""
    adapted.eval()
    before = [answer(adapted, row) for row in rows]
    _place_heads(adapted)
    whole = adapted.merge_and_unload()
    # Rounded as the files will be; computed in float32, so that only the weights are compared.
    whole = whole.to(dtype).float()
    gaps = [(answer(whole, row) - was).abs().max() for row, was in zip(rows, before, strict=True)]
    largest = [was.abs().max() for was in before]
    parity = Parity(_max(gaps), _max(largest))
    return whole.to(dtype), parity


def _place_heads(adapted: Any) -> None:
    """Put what was trained whole where the base had it. peft does so itself, but for IA3 and OFT only
    with a layer that has a weight of its own, which a pooler or RoBERTa's head has not (0.19)."""
    from peft.utils import ModulesToSaveWrapper

    for name, module in list(adapted.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, last = name.rpartition(".")
            setattr(
                adapted.get_submodule(parent), last, module.modules_to_save[module.active_adapter]
            )


def answer(model: Any, row: Sequence[int]) -> torch.Tensor:
    """Logits of one row: (1, T, V) of a language model, (1, classes) of a classifier."""
    with torch.inference_mode():
        tokens = torch.tensor([list(row)], device=model.device)
        logits: torch.Tensor = model(
            input_ids=tokens, attention_mask=torch.ones_like(tokens)
        ).logits
    return logits.float()


def _max(values: list[torch.Tensor]) -> float:
    return float(torch.stack(values).max()) if values else 0.0


def merge_version(folder: Path, target: Path) -> None:
    """Write the adapter version in `folder`, merged into its base, to `target` as a base model."""
    import transformers
    from peft import PeftModel

    from ...evaluation.models import base_folder, load_config
    from ...evaluation.opening import SAFE
    from ..model import read_weights_header

    config, base = load_config(folder), base_folder(folder)
    kind = getattr(transformers, config.architectures[0])
    model = kind.from_pretrained(
        base, config=config, dtype=torch.float32, use_safetensors=True,
        ignore_mismatched_sizes=True, **SAFE,
    )  # fmt: skip
    adapted = PeftModel.from_pretrained(model, str(folder))
    if adapted.active_peft_config.is_prompt_learning:
        raise Refused(
            "CannotMerge",
            f"version {folder.parent.name}/{folder.name} was made by PromptTuning: its vectors cannot "
            "be worked into weights, so no training can start from them",
            next_step="Start from the version's own base model, or train with another method.",
        )
    _, dtype = read_weights_header(base, base.name)
    whole, _ = merge(adapted, dtype, ())
    whole.save_pretrained(target)
    transformers.AutoTokenizer.from_pretrained(folder, **SAFE).save_pretrained(target)
