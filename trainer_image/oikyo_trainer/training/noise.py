"""NEFTune (Jain et al. 2023): noise on the embeddings of a row while it is learned, none in a validation.

The Trainer's own switch looks for the embeddings where adapters of LoRA's kind keep them, and finds none behind
PromptTuning's vectors (transformers 5.23); the noise is the library's.
"""

from __future__ import annotations

from typing import Any

from .model import innermost


def add_noise(model: Any, alpha: float) -> None:
    """Put the noise on what the embeddings of `model` say in training mode."""
    from transformers.integrations.neftune import neftune_post_forward_hook

    embeddings = innermost(model).get_input_embeddings()
    embeddings.neftune_noise_alpha = alpha
    embeddings.register_forward_hook(neftune_post_forward_hook)
