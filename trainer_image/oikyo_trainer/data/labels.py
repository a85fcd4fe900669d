"""Labels as a set: typing errors, placeholders, classes too small or too large to learn from.

All of it on the labels and their counts; the texts of the rows are not touched.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from .findings import excerpt
from .intake import Intake
from .split import TRAIN, Sides
from .spool import Mask, Rows, counted
from .texts import tell

TYPO, PLACEHOLDER, SMALL, IMBALANCE = (
    "label-typo",
    "placeholder-answer",
    "small-class",
    "class-imbalance",
)
PLACEHOLDERS = frozenset(
    {"nan", "<na>", "n/a", "#n/a", "null", "nil", "undefined", "nat", "[deleted]"}
)
RARE, COMMON = 0.02, 20
"""A label is taken for another one mistyped when it has at most this share of the other's rows, or one
row, and the other has so many."""
SHORTEST, LONG = 5, 8
"""Letters from which one, and from which two, may differ."""
FEWEST = 5
"""Training rows below which a class is small."""
LONGEST = 40
"""Letters beyond which one may differ, because the ways to leave out two are too many."""
MOST = 5000
"""Labels that are compared letter by letter at most: of more only the spellings of one word are found."""

Counts = npt.NDArray[np.int64]


def check(intake: Intake, rows: Rows, sides: Sides) -> None:
    """Findings about the labels of the rows that stay; none for generation."""
    if not rows.labels:
        return
    if intake.several:
        return  # two sets that share a name are no typing error, and most sets are small
    kept = sides >= 0
    counts = counted(rows.label_codes, kept, len(rows.labels))
    told = dict(typos(rows.labels, counts))
    for code, message in {**_placeholders(rows.labels, counts), **told}.items():
        kind = TYPO if code in told else PLACEHOLDER
        own = np.flatnonzero(kept & (rows.label_codes == code)).tolist()
        tell(intake, rows, kind, ((row, message) for row in own))
    _small(intake, rows, sides == TRAIN, counts)
    _imbalance(intake, rows, kept, counts)


def _placeholders(labels: Sequence[str], counts: Counts) -> dict[int, str]:
    return {
        code: f"has the label {excerpt(label)!r}, which stands for a missing one"
        for code, label in enumerate(labels)
        if counts[code] and label.casefold() in PLACEHOLDERS
    }


def typos(labels: Sequence[str], counts: Counts) -> Iterator[tuple[int, str]]:
    """Codes of labels that look like another one mistyped, each with the sentence that says so."""
    partners = {**_near(labels, counts), **_spellings(labels, counts)}
    for code, other in sorted(partners.items()):
        yield (
            code,
            f"has the label {excerpt(labels[code])!r} ({_rows(counts[code])}), which looks like "
            f"{excerpt(labels[other])!r} ({_rows(counts[other])})",
        )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _spellings(labels: Sequence[str], counts: Counts) -> dict[int, int]:
    """Labels that differ from a commoner one in case, whitespace, hyphens or underscores alone."""
    words: dict[str, list[int]] = defaultdict(list)
    for code, label in enumerate(labels):
        if counts[code] and (word := re.sub(r"[\s_-]+", "", label.casefold())):
            words[word].append(code)
    partners = {}
    for codes in words.values():
        best, *others = sorted(codes, key=lambda code: (-counts[code], labels[code]))
        partners.update(dict.fromkeys(others, best))
    return partners


def _near(labels: Sequence[str], counts: Counts) -> dict[int, int]:
    """Rare labels that a letter or two make a common one."""
    folded = [label.casefold() for label in labels]
    common = [code for code in range(len(labels)) if counts[code] >= COMMON]
    most = max((int(counts[code]) for code in common), default=0)
    rare = [code for code in range(len(labels)) if 0 < counts[code] <= _few(most)]
    if len(common) + len(rare) > MOST:
        return {}
    # Words that a few letters part have a word in common when as many are left out of each.
    shortened: dict[str, list[int]] = defaultdict(list)
    for code in common:
        for word in _left_out(folded[code]):
            shortened[word].append(code)
    partners = {}
    for code in rare:
        near = {other for word in _left_out(folded[code]) for other in shortened.get(word, ())}
        fit = [
            other
            for other in near
            if counts[code] <= _few(int(counts[other])) and _mistyped(folded[code], folded[other])
        ]
        if fit:
            partners[code] = max(fit, key=lambda other: (int(counts[other]), labels[other]))
    return partners


def _few(count: int) -> int:
    """Rows up to which a label is rare beside one with `count`."""
    return max(1, int(RARE * count))


def _allowed(length: int) -> int:
    """Letters that may differ from a word so long."""
    if length > LONGEST:
        return 1
    return 0 if length < SHORTEST else 2 if length >= LONG else 1


def _left_out(word: str) -> set[str]:
    """`word` with up to as many letters left out as may differ."""
    words = {word}
    for _ in range(_allowed(len(word))):
        words |= {one[:i] + one[i + 1 :] for one in words for i in range(len(one))}
    return words


def _mistyped(rare: str, common: str) -> bool:
    """Whether `rare` may be `common` with a slip of the fingers, and is no word of its own.

    A prefix ("un", "in", "a") makes another word, and so does another number.
    """
    shorter, longer = sorted((rare, common), key=len)
    if len(shorter) < SHORTEST or rare == common or longer.endswith(shorter):
        return False
    if re.findall(r"\d+", rare) != re.findall(r"\d+", common):
        return False
    allowed = min(_allowed(len(shorter)), _allowed(len(longer)))
    return len(longer) - len(shorter) <= allowed and distance(rare, common, allowed) <= allowed


def distance(one: str, other: str, most: int) -> int:
    """Letters to insert, delete, replace or swap with a neighbour (Damerau 1964, in its restricted
    form of optimal string alignment); more than `most` comes back as `most` + 1."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        row = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def _small(intake: Intake, rows: Rows, train: Mask, counts: Counts) -> None:
    learnt = counted(rows.label_codes, train, len(rows.labels))
    for code in np.flatnonzero((learnt < FEWEST) & (counts > 0)).tolist():
        own = np.flatnonzero(train & (rows.label_codes == code))
        if len(own):
            message = (
                f"the class {excerpt(rows.labels[code])!r} has only {_rows(len(own))} to learn from"
            )
            intake.found(SMALL, rows, int(own[0]), message, count=len(own))


def _imbalance(intake: Intake, rows: Rows, kept: Mask, counts: Counts) -> None:
    code = int(counts.argmax())
    if counts[code] <= Decimal(intake.findings.checks[IMBALANCE].max) * len(rows):
        return
    first = int((kept & (rows.label_codes == code)).argmax())
    share = 100 * int(counts[code]) / int(kept.sum())
    message = (
        f"the class {excerpt(rows.labels[code])!r} has {share:.1f} % of the rows: a model that "
        "always answers it is right so often"
    )
    intake.found(IMBALANCE, rows, first, message, count=int(counts[code]))
