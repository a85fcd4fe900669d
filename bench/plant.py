"""Rows with planted faults and the truth beside them: what a check of the data must find.

    python bench/plant.py FOLDER --rows 200000 --seed 1

writes train.jsonl, test.jsonl (a test set), benchmark.jsonl (a public benchmark whose passages leaked)
and truth.jsonl, one line per fault: {"file", "line", "kind", "of", "detail"}. `of` is the line of the
other row, in test.jsonl or benchmark.jsonl for a leak, else in train.jsonl. No row has two faults, and
no text stands twice by chance. The same seed gives the same bytes; memory does not grow with the rows.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from language import Language, written


@dataclass(frozen=True)
class Plan:
    """How many rows, and the share of them, or the number, that each fault has."""

    rows: int = 10_000
    seed: int = 1
    words: int = 60
    """Median words of a row."""
    classes: int = 12
    vocabulary: int = 30_000
    tests: int = 500
    """Rows of the test set; a tenth of that makes the benchmark."""
    exact: float = 0.01
    near: float = 0.03
    mislabelled: float = 0.0
    personal: float = 0.005
    malformed: float = 0.001
    leaks: int = 50
    """Training rows that also stand in the test set."""
    near_leaks: int = 50
    """Training rows that are near-duplicates of test rows."""
    ngram_leaks: int = 20
    """Training rows that quote 30 words of a test row."""
    contaminated: int = 20
    """Training rows that quote 30 words of the benchmark."""


@dataclass(frozen=True)
class Fault:
    """One planted fault."""

    file: str
    line: int
    kind: str
    of: int = 0
    """Line of the other row, 0 when there is none."""
    detail: str = ""
    """The kind of the malformed row or of the personal data, the true label, or the Jaccard."""


@dataclass
class Planted:
    """Where the files lie, and how many faults of each kind were planted."""

    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def faults(self) -> Iterator[Fault]:
        with (self.folder / "truth.jsonl").open(encoding="utf-8") as file:
            for line in file:
                yield Fault(**json.loads(line))


def _digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices("0123456789", k=count))


def _card(draw: random.Random) -> str:
    body = "4" + _digits(draw, 14)
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(body))
    number = body + str(-total % 10)
    return " ".join(number[start : start + 4] for start in range(0, 16, 4))


def _iban(draw: random.Random) -> str:
    body = _digits(draw, 18)
    check = 98 - int(body + "131400") % 97  # D = 13, E = 14 (ISO 13616)
    return f"DE{check:02d}{body}"


def personal(draw: random.Random) -> tuple[str, str]:
    """(kind, text) of one piece of personal data; every card and IBAN has valid check digits."""
    name = draw.choice(("ann", "bela", "carla", "dmitri", "esra", "farid"))
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    made = {
        "e-mail": f"{name}.{_digits(draw, 3)}@example.org",
        "phone": f"+49 30 {_digits(draw, 8)}",
        "card": _card(draw),
        "iban": _iban(draw),
        "key": "ghp_" + "".join(draw.choices(letters, k=36)),
    }
    kind = draw.choice(list(made))
    return kind, made[kind]


def malformed(draw: random.Random, row: dict[str, str]) -> tuple[str, bytes]:
    """(kind, line) of a row that cannot be read; the kinds are the codes of `oikyo_trainer.data`."""
    good = json.dumps(row)
    made = {
        "not-json": good[: len(good) // 2].encode(),
        "missing-label": json.dumps({"text": row["text"]}).encode(),
        "empty-text": json.dumps({**row, "text": "  "}).encode(),
        "wrong-type": json.dumps({**row, "text": 17}).encode(),
        "invalid-utf8": good.encode().replace(b" ", b" \xff\xfe ", 1),
        "not-an-object": json.dumps([row["text"]]).encode(),
        "duplicate-key": (good[:-1] + ', "label": "again"}').encode(),
        "nul": json.dumps({**row, "text": "a\0b"}).encode(),
    }
    kind = draw.choice(list(made))
    return kind, made[kind]


class _Gardener:
    """Writes the files; keeps only the rows that a later one will resemble."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.planted = plan, Planted(folder)
        self.draw = random.Random(plan.seed + 1)
        self.language = Language(
            plan.seed, vocabulary=plan.vocabulary, classes=plan.classes, median=plan.words
        )
        self.held: list[tuple[int, int, list[str]]] = []
        """(line, class, words) of clean training rows; a reservoir."""
        self.originals: set[int] = set()
        self.tests: list[tuple[int, list[str]]] = []
        self.benchmark: list[list[str]] = []

    def grow(self) -> Planted:
        folder = self.planted.folder
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "truth.jsonl").open("w", encoding="utf-8") as self.truth:
            with (folder / "test.jsonl").open("wb") as file:
                self._tests(file)
            with (folder / "benchmark.jsonl").open("wb") as file:
                self._benchmark(file)
            with (folder / "train.jsonl").open("wb") as file:
                for line, kind in enumerate(self._kinds(), 1):
                    file.write(self._row(line, kind) + b"\n")
        return self.planted

    def _tests(self, file: IO[bytes]) -> None:
        for _ in range(self.plan.tests):
            topic = self.draw.randrange(self.plan.classes)
            words = self.language.text(self.draw, topic)
            self.tests.append((topic, words))
            file.write(_json(written(words), topic) + b"\n")

    def _benchmark(self, file: IO[bytes]) -> None:
        for _ in range(max(1, self.plan.tests // 10)):
            self.benchmark.append(self.language.text(self.draw, 0))
            file.write(json.dumps({"question": written(self.benchmark[-1])}).encode() + b"\n")

    def _kinds(self) -> Iterator[str]:
        """The kind of each row: counts as planned, places by chance, the first rows clean."""
        plan = self.plan
        shares = {kind: getattr(plan, kind) for kind in ("exact", "near", "mislabelled")}
        counts = {kind: round(share * plan.rows) for kind, share in shares.items()}
        counts |= {"personal": round(plan.personal * plan.rows)}
        counts |= {"malformed": round(plan.malformed * plan.rows)}
        counts |= {"leak": plan.leaks, "near-leak": plan.near_leaks}
        counts |= {"ngram-leak": plan.ngram_leaks, "contamination": plan.contaminated}
        head = min(300, plan.rows // 2)
        if sum(counts.values()) > plan.rows - head:
            raise ValueError(f"{plan.rows} rows have no room for {sum(counts.values())} faults")
        left = plan.rows - head
        yield from ["clean"] * head
        for remaining in range(left, 0, -1):
            place = self.draw.randrange(remaining)
            for kind, count in counts.items():
                if place < count:
                    counts[kind] -= 1
                    yield kind
                    break
                place -= count
            else:
                yield "clean"

    def _row(self, line: int, kind: str) -> bytes:
        draw = self.draw
        topic = draw.randrange(self.plan.classes)
        words = self.language.text(draw, topic)
        if kind == "clean":
            self._hold(line, topic, words)
            return _json(written(words), topic)
        if kind in ("exact", "near"):
            return self._again(line, kind)
        if kind in ("leak", "near-leak", "ngram-leak", "contamination"):
            return self._leak(line, kind, topic, words)
        if kind == "mislabelled":
            wrong = (topic + draw.randrange(1, self.plan.classes)) % self.plan.classes
            self._tell(line, kind, detail=_label(topic))
            return _json(written(words), wrong)
        if kind == "personal":
            what, value = personal(draw)
            self._tell(line, kind, detail=what)
            return _json(f"{written(words)} Write to {value} please.", topic)
        what, bad = malformed(draw, {"text": written(words), "label": _label(topic)})
        self._tell(line, kind, detail=what)
        return bad

    def _hold(self, line: int, topic: int, words: list[str]) -> None:
        if len(self.held) < 2000:
            self.held.append((line, topic, words))
        elif self.draw.random() < 0.5:
            self.held[self.draw.randrange(2000)] = (line, topic, words)

    def _again(self, line: int, kind: str) -> bytes:
        of, topic, words = self._original()
        if kind == "exact":
            self._tell(line, kind, of)
            return _json(written(words), topic)
        changed, similarity = self.language.edited(self.draw, words)
        self._tell(line, kind, of, f"{similarity:.3f}")
        return _json(written(changed), topic)

    def _original(self) -> tuple[int, int, list[str]]:
        """A row that no other row resembles yet: near-duplicates then come in pairs."""
        for _ in range(100):
            place = self.draw.randrange(len(self.held))
            if self.held[place][0] not in self.originals:
                break
        self.originals.add(self.held[place][0])
        return self.held[place]

    def _leak(self, line: int, kind: str, topic: int, words: list[str]) -> bytes:
        draw = self.draw
        if kind == "contamination":
            place = draw.randrange(len(self.benchmark))
            self._tell(line, kind, place + 1)
            return _json(written(_quoting(draw, words, self.benchmark[place])), topic)
        place = draw.randrange(len(self.tests))
        of_topic, of_words = self.tests[place]
        if kind == "leak":
            self._tell(line, kind, place + 1)
            return _json(written(of_words), of_topic)
        if kind == "near-leak":
            changed, similarity = self.language.edited(draw, of_words)
            self._tell(line, kind, place + 1, f"{similarity:.3f}")
            return _json(written(changed), of_topic)
        self._tell(line, kind, place + 1)
        return _json(written(_quoting(draw, words, of_words)), topic)

    def _tell(self, line: int, kind: str, of: int = 0, detail: str = "") -> None:
        self.planted.counts[kind] += 1
        fault = Fault("train.jsonl", line, kind, of, detail)
        self.truth.write(json.dumps(vars(fault)) + "\n")


def _quoting(draw: random.Random, words: list[str], quoted: list[str]) -> list[str]:
    start = draw.randrange(max(1, len(quoted) - 30))
    place = draw.randrange(len(words))
    return [*words[:place], *quoted[start : start + 30], *words[place:]]


def _label(topic: int) -> str:
    return f"topic {topic}"


def _json(text: str, topic: int) -> bytes:
    return json.dumps({"text": text, "label": _label(topic)}).encode()


def plant(folder: Path, plan: Plan | None = None) -> Planted:
    """Write the four files into `folder`."""
    return _Gardener(plan or Plan(), folder).grow()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    for name, default in vars(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args())
    planted = plant(given.pop("folder"), Plan(**given))
    print(json.dumps(planted.counts), file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
