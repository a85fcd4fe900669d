"""Rows against the model's context: which are cut, and which lose their whole answer to the cut.

A text has at most as many tokens as bytes, so most rows need no tokenizer at all. Of the others those
near the limit are tokenised, up to EXACT characters; what is left is judged by the characters per
token so far, and the message says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from oikyo.api.stages import PrepareSpec
from oikyo.api.training import Truncation

from .findings import EXCERPT
from .spool import Index, Mask
from .texts import Found, Texts
from .tokens import WORTH, Counter, open_counter

LONG, CUT_OFF = "long-row", "answer-cut-off"
EXACT = 8 << 20
"""Characters that are tokenised; more would take longer than a person waits."""
CALIBRATED = 50_000
"""Tokens from which on the characters per token are known well enough to tell what is near."""
NEAR = 2.0
"""Rows between limit / NEAR and limit * NEAR tokens, as estimated, are near."""
LARGEST = 32
"""Rows of a piece, those with the most bytes, that are tokenised to know the longest."""
HEAD = 8
"""Of a text so many characters for each token of the limit are tokenised."""

USED: dict[Truncation, str] = {
    "End": "{} are used",
    "Start": "the last {} are used",
    "Middle": "{} of both ends are used",
    "Drop": "a row of more than {} is left out",
}


@dataclass(frozen=True)
class Limit:
    """Tokens after which a row is cut, and who says so."""

    tokens: int
    reason: str
    truncation: Truncation = "End"

    @property
    def used(self) -> str:
        """What of a longer row is learned, in words."""
        return f"{USED[self.truncation].format(self.tokens)} ({self.reason})"


def limit_of(max_length: int, context: int | None, truncation: Truncation = "End") -> Limit:
    """training.maxLength, or the model's context where that is shorter."""
    if context is not None and context < max_length:
        return Limit(context, "the context of the base model", truncation)
    return Limit(max_length, "training.maxLength", truncation)


@dataclass
class _Budget:
    """Characters that may still be tokenised, and what was learnt from those that were."""

    left: int = field(default_factory=lambda: EXACT)
    characters: int = 0
    tokens: int = 0

    def per_token(self) -> float:
        return self.characters / self.tokens if self.tokens else 3.0


class Lengths:
    """Findings about rows that are longer than training takes, as passing.py shows them."""

    def __init__(
        self,
        schema: Any,  # of the texts; pyarrow is untyped
        spec: PrepareSpec,
        files: Mapping[str, Path],
        scratch: Path,
    ) -> None:
        """`files` are those of the base model; Refused when its tokenizer cannot be read."""
        chat = any(pa.types.is_list(field.type) for field in schema)
        worth = WORTH if spec.training is None else 0  # the rows become tokens by gigatoken later
        self._counter = open_counter(files, spec.model.uri, scratch, chat=chat, worth=worth)
        truncation = spec.training.truncation if spec.training else "End"
        self._limit = limit_of(spec.max_length, self._counter.context, truncation)
        self._budget = _Budget()
        self._longest = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest row, looked for among the LARGEST of each piece; at most the limit."""
        return min(self._longest, self._limit.tokens)

    def see(self, piece: Index, texts: Texts) -> _Seen:
        overhead = _overhead(self._counter, texts, len(piece))
        octets = np.asarray(pc.binary_length(texts.every))
        bound = overhead + _per_row(texts, octets, len(piece))
        longest = 0
        if self._longest < self._limit.tokens and len(piece):
            longest = _longest(texts, self._counter, self._limit, overhead, bound)
        return _Seen(piece, texts, overhead, np.flatnonzero(bound > self._limit.tokens), longest)

    def take(self, seen: _Seen) -> Iterable[Found]:
        self._longest = max(self._longest, seen.longest)
        if not len(seen.maybe):
            return ()
        return _measure(seen, self._counter, self._limit, self._budget)

    def close(self) -> Iterable[Found]:
        return ()


class _Seen(NamedTuple):
    """Some rows."""

    piece: Index
    texts: Texts
    overhead: Index
    maybe: Index
    """Those that may have more tokens than the limit."""
    longest: int


def _longest(texts: Texts, counter: Counter, limit: Limit, overhead: Index, bound: Index) -> int:
    """Most tokens of the rows that have the most bytes."""
    large = np.sort(np.argsort(-bound, kind="stable")[:LARGEST])
    chosen = np.flatnonzero(np.isin(texts.owner, large))
    chosen = chosen[np.argsort(texts.owner[chosen], kind="stable")]
    heads = pc.utf8_slice_codeunits(texts.every.take(pa.array(chosen)), 0, HEAD * limit.tokens)
    tokens = counter.count(heads.to_pylist()).astype(np.float64)
    owner = np.searchsorted(large, texts.owner[chosen])
    return int((overhead[large] + _sum(texts, chosen, owner, tokens, len(large))).max())


def _overhead(counter: Counter, texts: Texts, count: int) -> Index:
    """Tokens of each row that are none of its texts."""
    if not texts.chat:
        end = 0 if texts.answer is None else 1
        return np.full(count, counter.special + end, dtype=np.int64)
    return counter.start + counter.turn * np.bincount(texts.owner, minlength=count)


def _per_row(texts: Texts, values: npt.NDArray[Any], count: int) -> Index:
    return np.bincount(texts.owner, weights=values, minlength=count).astype(np.int64)


def _measure(seen: _Seen, counter: Counter, limit: Limit, budget: _Budget) -> Iterator[Found]:
    """Tokenise the rows of one piece that may be too long, and tell which are."""
    piece, texts, overhead, maybe, _ = seen
    chosen = np.flatnonzero(np.isin(texts.owner, maybe))
    chosen = chosen[np.argsort(texts.owner[chosen], kind="stable")]
    owner = np.searchsorted(maybe, texts.owner[chosen])
    column = texts.every.take(pa.array(chosen))
    characters = np.asarray(pc.utf8_length(column)).astype(np.float64)
    estimate = overhead[maybe] + np.bincount(owner, characters) / budget.per_token()
    near = (estimate < limit.tokens * NEAR) & (estimate > limit.tokens / NEAR)
    asked = near[owner] | (budget.tokens < CALIBRATED)
    tokens, about = _tokens(column, characters, asked, counter, limit, budget)
    total = overhead[maybe] + _sum(texts, chosen, owner, tokens, len(maybe))
    guessed = np.bincount(owner, weights=about, minlength=len(maybe)) > 0
    before = _before_answer(texts, chosen, owner, tokens, len(maybe))
    before += counter.start if texts.chat else counter.special
    for place in np.flatnonzero(total > limit.tokens).tolist():
        row, word = int(piece[maybe[place]]), "about " if guessed[place] else ""
        first = texts.every[int(chosen[np.searchsorted(owner, place)])].as_py()[: 4 * EXCERPT]
        cut_off = limit.truncation == "End" and before[place] >= limit.tokens
        if texts.answer is not None and cut_off:
            message = f"has {word}{int(before[place])} tokens before its answer, {limit.used}"
            yield Found(CUT_OFF, row, message, first)
        else:
            message = f"has {word}{int(total[place])} tokens, {limit.used}"
            yield Found(LONG, row, message, first)


def _sum(
    texts: Texts, chosen: Index, owner: Index, tokens: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float64]:
    """Tokens of each row's texts as they are learnt; of answers one at a time the longest."""
    if not texts.either:
        return np.bincount(owner, weights=tokens, minlength=count).astype(np.float64)
    answers = texts.answers[chosen]
    longest = np.zeros(count)
    np.maximum.at(longest, owner[answers], tokens[answers])
    rest = np.bincount(owner[~answers], weights=tokens[~answers], minlength=count)
    return (longest + rest).astype(np.float64)


def _before_answer(
    texts: Texts, chosen: Index, owner: Index, tokens: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float64]:
    """Tokens of each row's texts in front of its first answer."""
    answers = texts.answers[chosen]
    seen = np.cumsum(answers)
    first = np.searchsorted(owner, np.arange(count))
    before_row: Index = seen[first] - answers[first]
    early: Mask = seen - before_row[owner] == 0
    weights = np.where(early, tokens, 0.0)
    return np.bincount(owner, weights=weights, minlength=count).astype(np.float64)


def _tokens(
    column: Any,
    characters: npt.NDArray[np.float64],
    asked: Mask,
    counter: Counter,
    limit: Limit,
    budget: _Budget,
) -> tuple[npt.NDArray[np.float64], Mask]:
    """Tokens of each text, and whether the number is a guess.

    Of a text the beginning alone is tokenised, many times what is used; the rest is in proportion.
    """
    enough = np.minimum(characters, HEAD * limit.tokens)
    exact = asked & (np.cumsum(np.where(asked, enough, 0)) <= budget.left)
    counted = np.zeros(0, dtype=np.int64)
    if exact.any():
        heads = pc.utf8_slice_codeunits(column.filter(pa.array(exact)), 0, HEAD * limit.tokens)
        counted = counter.count(heads.to_pylist())
        budget.left -= int(enough[exact].sum())
        budget.characters += int(enough[exact].sum())
        budget.tokens += int(counted.sum())
    tokens = characters / budget.per_token()
    tokens[exact] = counted * characters[exact] / np.maximum(enough[exact], 1)
    return tokens, ~exact | (enough < characters)
