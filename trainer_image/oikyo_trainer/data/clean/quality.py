"""Why a text is none to learn from: the rules of Gopher (Rae et al. 2021, table A1), with the spec's bounds.

Repeated runs of words are counted as datatrove does. The rules were made for web pages; for short rows the
bounds on words and on the length are the ones that matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from oikyo.api.clean import Quality

FEWEST = 50
"""Words of the shortest text that is judged by repetition, signs and letters; Gopher drops shorter ones."""
RUN = 5
_LETTER = re.compile(r"[^\W\d_]")
_SYMBOL = re.compile(r"#|\.\.\.|\N{HORIZONTAL ELLIPSIS}")

Fence = tuple[float, float]


def size(text: str) -> float:
    """The length of a text on the scale of the fence."""
    return math.log1p(len(text))


def fence(low: float, high: float, times: float) -> Fence | None:
    """The shortest and longest size that stay, of the quartiles; None when these are equal."""
    return (low - times * (high - low), high + times * (high - low)) if high > low else None


def fault(asked: str, texts: Sequence[str], rules: Quality, bounds: Fence | None) -> str:
    """What is wrong with a row whose input is `asked` and whose texts are `texts`; empty when nothing."""
    count = len(asked.split())
    if count < rules.min_words:
        return f"{count} words, fewer than {rules.min_words}"
    if rules.max_words is not None and count > rules.max_words:
        return f"{count} words, more than {rules.max_words}"
    if bounds is not None and not bounds[0] <= size(asked) <= bounds[1]:
        side = "short" if size(asked) < bounds[0] else "long"
        return f"{len(asked)} characters are far too {side} among these rows"
    return next((why for text in texts if (why := _repetition(text, rules))), "")


def _repetition(text: str, rules: Quality) -> str:
    words = text.split()
    if len(words) < FEWEST:
        return ""
    told = (
        (_repeated_lines(text), rules.max_repeated_lines, "of its lines repeat earlier ones"),
        (
            _repeated_words(words),
            rules.max_repeated_words,
            "of its letters stand in repeated runs of words",
        ),
        (
            len(_SYMBOL.findall(text)) / len(words),
            rules.max_symbols,
            "signs # and ... for each word",
        ),
    )
    for share, limit, what in told:
        if 0 < float(limit) < share:
            return f"{share:.0%} {what}, more than {float(limit):.0%}"
    letters = sum(_LETTER.search(word) is not None for word in words) / len(words)
    if letters < float(rules.min_letter_words):
        return f"{letters:.0%} of its words hold a letter, fewer than {float(rules.min_letter_words):.0%}"
    return ""


def _repeated_lines(text: str) -> float:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return 1 - len(set(lines)) / len(lines)


def _repeated_words(words: list[str]) -> float:
    seen: set[tuple[str, ...]] = set()
    repeated = place = 0
    while place <= len(words) - RUN:
        run = tuple(words[place : place + RUN])
        if run in seen:
            repeated += sum(map(len, run))
            place += RUN
        else:
            seen.add(run)
            place += 1
    return repeated / sum(map(len, words))
