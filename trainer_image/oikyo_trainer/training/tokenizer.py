"""The base model's tokenizer made ready to train with, and what has to be refused about it.

Opened by the prepare stage, which makes the tokens, and by the training, which saves it with the result.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from oikyo.api.tasks import Task

from ..errors import Refused
from ..evaluation import opening
from ..evaluation.rendering import PLAIN_TEMPLATE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def open_tokenizer(
    folder: Path, vocabulary: int, digest: str, task: Task, *, chat: bool = True
) -> PreTrainedTokenizerBase:
    """The tokenizer in the model's `folder`, able to pad, with a chat template if it generates.

    `vocabulary`: how many tokens the model embeds. `chat`: whether the template will render rows;
    without, and without saving, a tokenizer that is opened sooner will do.
    """
    try:
        tokenizer = opening.load(folder) if chat else opening.load_for_texts(folder)
    except Exception as error:  # the libraries raise anything for files that they cannot read
        raise Refused(
            "InvalidModel",
            f"the tokenizer of the base model {digest} cannot be read: {error!s:.200}",
            next_step="Save it again beside the weights: tokenizer.save_pretrained(FOLDER)",
        ) from error
    _ensure_padding(tokenizer)
    _check_vocabulary(tokenizer, vocabulary, digest)
    if task == "TextGeneration":
        _check_end_token(tokenizer, digest)
        if tokenizer.chat_template is None:
            tokenizer.chat_template = PLAIN_TEMPLATE
    return tokenizer


def _ensure_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    """Rows are padded on the right; any token will do there, since the mask hides it."""
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise Refused(
            "NoPadToken",
            "the base model's tokenizer has no pad, end or unknown token to fill short rows with",
            next_step="Set pad_token in the model's tokenizer_config.json.",
        )


def _check_vocabulary(tokenizer: PreTrainedTokenizerBase, embedded: int, digest: str) -> None:
    if len(tokenizer) > embedded:
        raise Refused(
            "VocabularyMismatch",
            f"the tokenizer of {digest} has {len(tokenizer)} tokens and the model embeds {embedded}",
            next_step="Resize the model's embeddings to its tokenizer and save both again.",
        )


def _check_end_token(tokenizer: PreTrainedTokenizerBase, digest: str) -> None:
    if tokenizer.eos_token_id is None:
        raise Refused(
            "NoEndToken",
            f"the tokenizer of {digest} has no end token: the model could not learn to stop",
            next_step="Set eos_token in the model's tokenizer_config.json.",
        )
