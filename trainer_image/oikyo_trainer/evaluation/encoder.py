"""Texts into tokens, many at once: by the model's tokenizer, whatever it is.

What transformers' tokenizer would give, without the offsets, masks and type ids of which it makes Python
lists. `data.proven` has a quicker one of the same form for the prepare stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .ragged import Ragged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Encoder:
    """A tokenizer of transformers, and its way from texts to tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def encode(self, texts: Sequence[str] | Any, *, special: bool = True) -> Ragged:
        """Tokens of each text (a list, or a pyarrow column); `special`: with those around a text."""
        return Ragged.of(token_ids(self.tokenizer, _strings(texts), special=special))


def _strings(texts: Sequence[str] | Any) -> Sequence[str]:  # Any: pyarrow is untyped
    return texts.to_pylist() if hasattr(texts, "to_pylist") else texts


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = True
) -> list[list[int]]:
    """Tokens of each text, all at once; `special`: with the tokens that stand around a text."""
    if not texts:
        return []
    if not tokenizer.is_fast:
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return ids
    backend = ready(tokenizer)
    return [one.ids for one in backend.encode_batch_fast(list(texts), add_special_tokens=special)]


def ready(tokenizer: PreTrainedTokenizerBase) -> Any:  # Any: the library ships no types
    """The Rust tokenizer behind a fast one, which neither cuts nor pads."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def around(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """How many special tokens stand before and behind every text."""
    if not tokenizer.is_fast:
        return 0, 0
    # Not before the backend is ready: it may pad as tokenizer.json says, and padding counts as special.
    mask = ready(tokenizer).encode("a").special_tokens_mask
    return _leading(mask), _leading(mask[::-1])


def _leading(mask: Sequence[int]) -> int:
    """Ones in front."""
    return next((place for place, one in enumerate(mask) if not one), len(mask))
