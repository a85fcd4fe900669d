"""The base held in 4 or 8 bits while adapters learn on it (QLoRA, Dettmers et al. 2023).

bitsandbytes computes; it does so on a GPU. The adapters are trained in float32 beside the frozen
weights, and released onto the base as it was saved, not onto the rounded one.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from oikyo.api.training import TrainingSpec

from ...errors import Refused
from ..heads import BEFORE_HEADS, HEADS


def quantization(training: TrainingSpec, *, cuda: bool, compute: torch.dtype) -> Any:
    """transformers' settings for the frozen base, None for another method; refuses without a GPU."""
    if training.method != "QLoRA":
        return None
    if not cuda:
        raise Refused(
            "NoGpu",
            "training.method is QLoRA, and this worker sees no GPU",
            next_step="Write training.resources.gpus: 1 and run on a cluster with GPUs, or write "
            "training.method: LoRA.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Refused(
            "BitsandbytesMissing",
            "training.method is QLoRA, and this image holds no bitsandbytes",
            next_step="Use the image of the Dockerfile's target trainer-gpu, or install oikyo[qlora].",
        )
    # It tells of every cast of every layer in every step.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return settings(training.quantization.bits, compute)


def settings(bits: int, compute: torch.dtype) -> Any:
    """NF4 with doubly quantized constants (section 3 of the paper), or LLM.int8."""
    from transformers import BitsAndBytesConfig

    # The head begins at random and is trained: it stays as it is.
    skipped = ["lm_head", *HEADS, *BEFORE_HEADS]
    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=skipped,
    )


def prepare(model: Any) -> Any:
    """Freeze the base and hold what is not quantized, such as norms, in float32."""
    from peft import prepare_model_for_kbit_training

    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
