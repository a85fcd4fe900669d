"""The quicker way from rows to tokens, for the prepare stage: gigatoken where it is proven, else not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ..evaluation.encoder import Encoder, ready
from ..evaluation.ragged import Ragged
from .quick import PROBES, Differs, open_quick

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("oikyo.data")


class Proven(Encoder):
    """An Encoder whose tokens are the same, made quicker where that is possible."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer)
        self._before: list[int] = []
        self._behind: list[int] = []
        self._quick = open_quick(ready(tokenizer)) if tokenizer.is_fast else None
        if self._quick is not None:
            try:
                self._before, self._behind = _around(ready(tokenizer))
            except Differs as error:
                self._end(error)

    def _end(self, why: Differs) -> None:
        log.warning("%s; all rows are made by tokenizers, which is slower", why)
        self._quick = None

    def encode(self, texts: Sequence[str] | Any, *, special: bool = True) -> Ragged:
        """As Encoder's; raises Differs, once: begin anew, what was made is not sure."""
        quick = self._quick  # another thread may end it
        if quick is None or not len(texts):
            return super().encode(texts, special=special)
        column = texts if hasattr(texts, "to_pylist") else pa.array(texts, pa.string())
        try:
            tokens = quick.encode(column)
        except Differs as error:
            self._end(error)
            raise
        return tokens.around(self._before, self._behind) if special else tokens


def _around(backend: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and behind every text."""
    (bare,), (full,) = (
        backend.encode_batch_fast(["a"], add_special_tokens=special) for special in (False, True)
    )
    size = len(bare.ids)
    places = [n for n in range(len(full.ids)) if full.ids[n : n + size] == bare.ids]
    if not places:
        raise Differs("the special tokens are not around a text")
    before, behind = full.ids[: places[0]], full.ids[places[0] + size :]
    texts = list(PROBES)
    for special, one in zip(
        backend.encode_batch_fast(texts, add_special_tokens=True),
        backend.encode_batch_fast(texts, add_special_tokens=False),
        strict=True,
    ):
        if special.ids != [*before, *one.ids, *behind]:
            raise Differs("the special tokens around a text depend on the text")
    return before, behind
