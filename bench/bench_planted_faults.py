"""How much of what is wrong with data prepare finds: planted faults of every kind, with a known truth.

    python bench/bench_planted_faults.py --rows 50000 --seed 1
    python bench/bench_planted_faults.py --banking77 FOLDER     (train.csv: 10 % of real labels flipped)

Everything goes through the recipe of the prepare stage (oikyo_trainer.data.examine), with malformed rows let
through so that all are told. Told for each kind: planted, found, and what was told besides. A figure below
its bound ends the program with 1. tests/unit/trainer/data/test_judged.py asserts the same bounds.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plant

from oikyo.api.duplicates import Duplicates
from oikyo.api.stages import PrepareSpec, Source
from oikyo_trainer.data import judge
from oikyo_trainer.data.clean import log as cleaning
from oikyo_trainer.data.examine import Examined, examine
from oikyo_trainer.data.findings import FILE, Findings
from oikyo_trainer.data.insight import table
from oikyo_trainer.data.insight.suspects import noise
from oikyo_trainer.data.intake import Intake


@dataclass(frozen=True)
class Score:
    """What was found of one kind of fault."""

    kind: str
    planted: int
    found: int
    least: float
    """Share that must be found."""
    wrong: int = 0
    """Rows told or dropped that have no such fault."""
    told: int = 0
    """All rows told."""
    most_wrong: float = 0.0
    """Share of the rows told that may be wrong."""

    @property
    def share(self) -> float:
        return self.found / self.planted if self.planted else 1.0

    @property
    def passed(self) -> bool:
        return self.share >= self.least and self.wrong <= self.most_wrong * max(1, self.told)

    def line(self) -> str:
        besides = f"{self.wrong} of {self.told}" if self.told else "-"
        verdict = "" if self.passed else "  BELOW ITS BOUND"
        return f"| {self.kind} | {self.planted:,} | {self.share:.4f} | {self.least} | {besides} |{verdict}"


def looked_at(
    folder: Path, train: Path, tests: Iterable[Path]
) -> tuple[Examined, Intake, list[Any], list[Any]]:
    """Examine as prepare does; the findings and the log of the cleaning beside it."""
    spec = PrepareSpec(
        run="planted",
        task="TextClassification",
        model=Source(uri=""),
        sources=(_source(train),),
        test_sources=tuple(map(_source, tests)),
        max_bad_rows=1_000_000,
        min_test_rows=1,
        duplicates=Duplicates(near="Remove"),
    )
    intake = Intake(Findings(judge.checks(spec)))
    staging = folder / "staging"
    staging.mkdir()
    log = staging / cleaning.FILE
    with intake.findings.written(staging / FILE), intake.cleaned.written(log):
        found = examine(
            spec,
            (spec.sources, spec.test_sources),
            staging=staging,
            intake=intake,
            told={},
            tell=lambda *_: None,
            model=None,
        )
    lines = [[json.loads(one) for one in (staging / name).read_text().splitlines()] for name in (FILE, cleaning.FILE)]  # fmt: skip
    return found, intake, lines[0], lines[1]


def _source(path: Path) -> Source:
    return Source(uri=path.name, path=str(path))


def scores(folder: Path, made: plant.Planted) -> list[Score]:
    """Every kind of planted fault against what was found."""
    faults = [fault for fault in made.faults() if fault.file == "train.jsonl"]
    found, intake, findings, cleaned = looked_at(
        folder, folder / "train.jsonl", [folder / "test.jsonl"]
    )
    by_kind: dict[str, list[plant.Fault]] = {}
    for fault in faults:
        by_kind.setdefault(fault.kind, []).append(fault)
    bad = {
        (one["line"], one["code"]) for one in findings if one["code"] in intake.findings.bad_codes
    }
    malformed = {(fault.line, fault.detail) for fault in by_kind.get("malformed", ())}
    private = {one["line"] for one in findings if one["code"] == "personal-data"}
    return [
        _exact(by_kind, cleaned),
        _near(by_kind, cleaned),
        _leaks(by_kind["leak"], cleaned),
        _lines("near-leak", by_kind["near-leak"], _gone(cleaned, "leaked", "% like"), 0.97, 0.01),
        Score(
            "malformed row, with its line and code",
            len(malformed),
            len(malformed & bad),
            1.0,
            len(bad - malformed),
            len(bad),
        ),
        _lines("personal data", by_kind["personal"], private, 0.98, 0.01),
        _labels(by_kind["mislabelled"], found, intake),
    ]


def _gone(cleaned: list[Any], step: str, why: str) -> set[int]:
    return {one["line"] for one in cleaned if one["step"] == step and why in one["reason"]}


def _lines(
    kind: str, faults: list[plant.Fault], told: set[int], least: float, wrong: float = 0.0
) -> Score:
    meant = {fault.line for fault in faults}
    return Score(kind, len(meant), len(meant & told), least, len(told - meant), len(told), wrong)


def _told_pairs(cleaned: list[Any], step: str) -> set[frozenset[int]]:
    return {
        frozenset((one["line"], int(one["other"].rpartition(":")[2])))
        for one in cleaned
        if one["step"] == step
    }


def _exact(by_kind: dict[str, list[plant.Fault]], cleaned: list[Any]) -> Score:
    """Pairs; two leaks of one row of the test set are each other's duplicates as well."""
    meant = {frozenset((fault.line, fault.of)) for fault in by_kind["exact"]}
    leaks = {fault.line for fault in by_kind["leak"]}
    told = {pair for pair in _told_pairs(cleaned, "duplicates") if not pair <= leaks}
    return Score(
        "exact duplicate", len(meant), len(meant & told), 1.0, len(told - meant), len(told)
    )


def _leaks(faults: list[plant.Fault], cleaned: list[Any]) -> Score:
    """Rows that are gone as leaks, or as duplicates of one."""
    lines = {fault.line for fault in faults}
    told = _gone(cleaned, "leaked", "stands in the test set")
    again = {line for pair in _told_pairs(cleaned, "duplicates") if pair <= lines for line in pair}
    return _lines("leak", faults, told | again, 1.0)


def _near(by_kind: dict[str, list[plant.Fault]], cleaned: list[Any]) -> Score:
    """Pairs; an exact copy of one half may stand for it, the texts are then the same."""
    meant = {frozenset((fault.line, fault.of)) for fault in by_kind["near"]}
    own = {line for pair in meant for line in pair}
    own |= {line for fault in by_kind["exact"] for line in (fault.line, fault.of)}
    told = _told_pairs(cleaned, "nearDuplicates")
    wrong = [pair for pair in told if not pair <= own]
    return Score("near-duplicate", len(meant), len(meant & told), 0.97, len(wrong), len(told), 0.01)


def _labels(faults: list[plant.Fault], found: Examined, intake: Intake) -> Score:
    """Flipped labels among as many first suspects as were flipped; of the rows that stay and are seen."""
    seen = table.of_rows(intake, found.rows, found.sides, found.spool, table.ROWS)
    place = {source: number for number, source in enumerate(seen.sources)}
    wrong = {place[f"train.jsonl:{f.line}"] for f in faults if f"train.jsonl:{f.line}" in place}
    return label_score("flipped label, among the first so many", seen, wrong)


def label_score(kind: str, seen: table.Table, wrong: set[int]) -> Score:
    """Precision at the number of flipped labels."""
    suspects = noise(seen).errors
    top = set() if suspects is None else set(suspects.rows[: len(wrong)].tolist())
    return Score(kind, len(wrong), len(wrong & top), 0.7)


def flipped_banking(path: Path, folder: Path, seed: int) -> Score:
    """banking77 with a tenth of its labels changed at random."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    text, label = list(rows[0])[:2]
    names, draw = sorted({row[label] for row in rows}), random.Random(seed)
    flipped = set(draw.sample(range(len(rows)), len(rows) // 10))
    target = folder / "flipped.jsonl"
    with target.open("w", encoding="utf-8") as out:
        for number, row in enumerate(rows):
            others = [name for name in names if name != row[label]]
            now = draw.choice(others) if number in flipped else row[label]
            out.write(json.dumps({"text": row[text], "label": now}) + "\n")
    found, intake, _, _ = looked_at(folder, target, [])
    seen = table.of_rows(intake, found.rows, found.sides, found.spool, table.ROWS)
    places = {source: number for number, source in enumerate(seen.sources)}
    lines = (f"flipped.jsonl:{number + 1}" for number in flipped)
    wrong = {places[line] for line in lines if line in places}
    return label_score("flipped label of banking77, among the first so many", seen, wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--banking77", type=Path, help="folder with train.csv")
    given = parser.parse_args()
    print("| fault | planted | found | bound | told besides |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = plant.plant(folder, plan(given.rows, given.seed))
        told = scores(folder, made)
    if given.banking77:
        with tempfile.TemporaryDirectory() as name:
            told.append(flipped_banking(given.banking77 / "train.csv", Path(name), given.seed))
    print("\n".join(score.line() for score in told))
    return 0 if all(score.passed for score in told) else 1


def plan(rows: int, seed: int) -> plant.Plan:
    """Every kind of fault, a tenth of the labels flipped among them."""
    share = rows / 10_000
    return plant.Plan(
        rows=rows,
        seed=seed,
        mislabelled=0.1,
        personal=0.02,
        malformed=0.01,
        leaks=round(50 * share),
        near_leaks=round(100 * share),
    )


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    sys.exit(main())
