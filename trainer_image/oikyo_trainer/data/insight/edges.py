"""Kinds of text that models stumble over, and the classes that show none of them in training.

Each kind is a pattern, told in the report as it is; it counts signs, it does not understand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..split import TRAIN
from .table import Table

NEGATION = re.compile(
    r"\b(?:not?|never|none|nothing|cannot|without|nicht|kein\w*|nie|non|pas|jamais|nunca|sin)\b"
    r"|n['\u2019]t\b",
    re.IGNORECASE,
)
LINK = re.compile(r"https?://|www\.", re.IGNORECASE)
EMOJI = re.compile("[\u2600-\u27bf\U0001f300-\U0001faff]")
LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
LETTER = re.compile(r"[^\W\d_]")

KINDS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "very short": ("at most 2 words", lambda text: len(text.split(None, 2)) <= 2),
    "very long": ("over 1,000 characters", lambda text: len(text) > 1000),
    "numbers": ("a digit", lambda text: any(map(str.isdigit, text))),
    "negation": ("not, no, never, n't and the like", lambda text: bool(NEGATION.search(text))),
    "question": ("a question mark", lambda text: "?" in text or "\uff1f" in text),
    "all capitals": ("capitals only, 8 letters or more", lambda text: _shouts(text)),
    "no capitals": ("small letters only, 8 or more", lambda text: _whispers(text)),
    "beyond ASCII": ("a letter with an accent or of another script", lambda text: _beyond(text)),
    "other script": ("mostly letters that are not Latin", lambda text: _other_script(text)),
    "emoji": ("an emoji or symbol", lambda text: bool(EMOJI.search(text))),
    "link": ("http:// or www.", lambda text: bool(LINK.search(text))),
    "several lines": ("a line break", lambda text: "\n" in text.strip()),
}
EXPECTED = 5.0
"""A class lacks a kind when at least so many rows of it were to be expected and there is none."""
SHOWN = 10


def _shouts(text: str) -> bool:
    return text.isupper() and sum(map(str.isalpha, text)) >= 8


def _whispers(text: str) -> bool:
    return text.islower() and sum(map(str.isalpha, text)) >= 8


def _beyond(text: str) -> bool:
    return not text.isascii() and any(ord(c) > 127 and c.isalpha() for c in text)


def _other_script(text: str) -> bool:
    if text.isascii():
        return False
    letters = len(LETTER.findall(text))
    return letters > 0 and len(LATIN.findall(text)) < letters / 2


def edges(table: Table) -> list[dict[str, Any]]:
    """Each kind with its rows in all and in training, and the classes that lack it there."""
    train = table.sides == TRAIN
    told = []
    for name, (sign, shows) in KINDS.items():
        has = np.fromiter(map(shows, table.texts), dtype=bool, count=len(table))
        lacking = _lacking(table, has, train)
        told.append(
            {
                "kind": name,
                "sign": sign,
                "rows": int(has.sum()),
                "train": int((has & train).sum()),
                "lacking": len(lacking),
                "classes": lacking[:SHOWN],
            }
        )
    return told


def _lacking(table: Table, has: npt.NDArray[np.bool_], train: npt.NDArray[np.bool_]) -> list[str]:
    """The largest classes first; chance alone leaves a class with 5 expected empty in 1 of 150 cases."""
    if not table.labels or not train.any():
        return []
    codes = table.codes[train]
    rows = np.bincount(codes, minlength=len(table.labels))
    found = np.bincount(codes, has[train], minlength=len(table.labels))
    lacks = (found == 0) & (rows * has[train].mean() >= EXPECTED)
    order = np.argsort(-rows, kind="stable")
    return [table.labels[code] for code in order.tolist() if lacks[code]]
