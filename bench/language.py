"""Texts of a made-up language, and near-duplicates of them with a similarity that is known."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

FUNCTION_WORDS = [
    "the", "of", "and", "to", "in", "a", "is", "that", "for", "it", "with", "as", "was", "on",
    "be", "by", "at", "this", "have", "from", "or", "an", "not", "are", "but", "they", "which",
    "you", "all", "were", "when", "we", "there", "can", "been", "has", "more", "if", "no", "out",
    "do", "so", "what", "about", "who", "get", "would", "my", "me", "your", "how", "their", "any",
    "will", "only", "could", "other", "than", "then", "them", "some", "into",
]  # fmt: skip
SYLLABLES = [
    a + b
    for a in ["b", "ch", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z"]
    for b in ["a", "e", "i", "o", "u", "ai"]
]
ENDINGS = ("", "", "n", "r", "s", "ing", "ed", "ly")
EDITED = (0.80, 0.95)
"""Jaccard of the sets of words' pairs (bigrams) between a row and its near-duplicate."""
LEAST_WORDS = 24
"""Words of the shortest row: below it one edited word takes more than a fifth of the bigrams."""


class Language:
    """Texts of a made-up language: Zipf-distributed words, and for each class words of its own."""

    def __init__(self, seed: int, *, vocabulary: int, classes: int, median: int) -> None:
        """`vocabulary` counts words in all, `median` those of the median text."""
        draw = random.Random(seed)
        made: dict[str, None] = dict.fromkeys(FUNCTION_WORDS)
        while len(made) < vocabulary:
            stem = "".join(draw.choices(SYLLABLES, k=draw.choice((1, 2, 2, 3))))
            made.setdefault(stem + draw.choice(ENDINGS))
        self.words = list(made)
        self.weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(made))))
        rare = self.words[1000:] or self.words
        self.topics = [draw.sample(rare, min(80, len(rare))) for _ in range(classes)]
        self.median = median

    def text(self, draw: random.Random, topic: int) -> list[str]:
        """The words of one text; a fifth of them, about, belong to its class."""
        count = max(LEAST_WORDS, round(draw.lognormvariate(0, 0.5) * self.median))
        words = draw.choices(self.words, cum_weights=self.weights, k=count)
        own = self.topics[topic]
        for place in range(draw.randrange(5), count, 5):
            words[place] = draw.choice(own)
        return words

    def edited(self, draw: random.Random, words: list[str]) -> tuple[list[str], float]:
        """A near-duplicate, by replaced, dropped and added words, and its Jaccard."""
        target = draw.uniform(*EDITED)
        best, similarity = words, 1.0
        while True:
            changed = self._edit(draw, best)
            now = jaccard(words, changed)
            if now < EDITED[0]:
                if best is not words:
                    return best, similarity
                continue
            best, similarity = changed, now
            if similarity <= target:
                return best, similarity

    def _edit(self, draw: random.Random, words: list[str]) -> list[str]:
        place, other = draw.randrange(len(words)), draw.choice(self.words)
        how = draw.choice(("replace", "replace", "drop", "add"))
        rest = words[place + (how != "add") :]
        return [*words[:place], *([] if how == "drop" else [other]), *rest]


def jaccard(one: list[str], two: list[str]) -> float:
    """Of the sets of bigrams of words."""
    first, second = set(pairwise(one)), set(pairwise(two))
    return len(first & second) / len(first | second)


def written(words: list[str]) -> str:
    """The words as sentences."""
    pieces = []
    for start in range(0, len(words), 12):
        sentence = " ".join(words[start : start + 12])
        pieces.append(sentence[0].upper() + sentence[1:] + ".")
    return " ".join(pieces)
