"""Whether a text is in one of the languages that are wanted.

py3langid (BSD) knows 140 languages, needs no network, and judges some 25,000 texts of a line a second.
Short texts are ambiguous, so a row goes only when all wanted languages together get less than LEAST: of
banking77's 13,083 English questions that leaves out 3, none of them of 32 letters or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

LEAST = 0.1
LETTERS = 20
"""Letters below which a text is not judged."""
READ = 300
"""Characters that are read of a text: enough to tell its language, and each costs time."""


@cache
def _identifier() -> Any:  # Any: py3langid is untyped
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second and 4 MB

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def other(text: str, wanted: Sequence[str]) -> str:
    """The language of `text` when it is none of those `wanted`, else nothing."""
    text = text[:READ]
    if sum(map(str.isalpha, text)) < LETTERS:
        return ""
    identifier = _identifier()
    # Not rank(): sorting 140 languages takes longer than telling them apart.
    shares = identifier._decide(text)
    best = identifier.nb_classes[int(np.argmax(shares))]
    if best in wanted:
        return ""
    held = sum(
        float(s) for name, s in zip(identifier.nb_classes, shares, strict=True) if name in wanted
    )
    return str(best) if held < LEAST else ""
