"""Scores of generated text against one reference each. Pure; no tokenizer of the model is involved."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU

WORD = re.compile(r"[^\W_]+")


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, as sacrebleu counts it (13a tokens, exponential smoothing)."""
    return float(BLEU().corpus_score(list(answers), [list(references)]).score)


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of answers, 0 to 1, that equal their reference, white space at both ends aside."""
    pairs = list(zip(answers, references, strict=True))
    return sum(a.strip() == r.strip() for a, r in pairs) / len(pairs) if pairs else float("nan")


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Mean over rows of the ROUGE-L F-measure, 0 to 1 (Lin 2004, section 3, beta = 1)."""
    pairs = list(zip(answers, references, strict=True))
    return sum(rouge_l_of(a, r) for a, r in pairs) / len(pairs) if pairs else float("nan")


def rouge_l_of(answer: str, reference: str) -> float:
    """ROUGE-L F-measure of one answer: words are lower-cased runs of letters and digits."""
    found, wanted = WORD.findall(answer.lower()), WORD.findall(reference.lower())
    common = _longest_common_subsequence(found, wanted)
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _longest_common_subsequence(left: Sequence[str], right: Sequence[str]) -> int:
    """Length, by one row of the table at a time: memory grows with `right` alone."""
    row = [0] * (len(right) + 1)
    for word in left:
        diagonal = 0
        for column, other in enumerate(right, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
