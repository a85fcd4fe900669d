"""Runs of words of the test side and items of benchmarks: all that are planted are found, and nothing else."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo.api.checks import DataCheck
from oikyo.api.leakage import Leakage
from oikyo.api.stages import BenchmarkSource
from oikyo_trainer.data.commands import check
from oikyo_trainer.data.examine import Examined
from oikyo_trainer.data.findings import FILE
from oikyo_trainer.data.leakage import leaks, quoted
from oikyo_trainer.data.leakage.runs import Known, Wanted, find
from oikyo_trainer.data.leakage.sieve import Sieve
from oikyo_trainer.data.leakage.watch import open_watch, sample
from oikyo_trainer.data.near import shingles
from oikyo_trainer.data.near.shingles import words_of
from oikyo_trainer.data.split import TEST, TRAIN, VALIDATION
from oikyo_trainer.errors import Refused
from unit.trainer.data.conftest import looked_at

NGRAM = 13
WORDS = [
    a + b + c for a in ("ka", "lo", "mi", "ne", "tu") for b in "rstv" for c in ("an", "el", "os")
]


def prose(draw: random.Random, count: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(count)]


def lines_of(folder: Path, code: str) -> dict[int, dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    return {line["line"]: line for line in lines if line["code"] == code}


def dressed(draw: random.Random, words: list[str]) -> str:
    """The same words in other clothes: case, punctuation, blanks."""
    text = "".join(
        (word.upper() if draw.random() < 0.3 else word) + draw.choice((" ", ", ", "  ", "! ", "\n"))
        for word in words
    )
    return f"({text}"


def planted(seed: int) -> tuple[list[dict[str, str]], list[dict[str, str]], set[int]]:
    """Rows to learn, a test set, and the lines of the rows that hold 13 words or more of it."""
    draw = random.Random(seed)
    test = [prose(draw, draw.randint(3, 60)) for _ in range(150)]
    long = [words for words in test if len(words) >= NGRAM]
    rows, leaks = [], set()
    for line in range(1, 1201):
        before, after = prose(draw, draw.randint(0, 40)), prose(draw, draw.randint(1, 40))
        middle: list[str] = []
        if line % 8 == 0:
            words = draw.choice(long)
            size = draw.randint(NGRAM, len(words))
            start = draw.randint(0, len(words) - size)
            middle = words[start : start + size]
            leaks.add(line)
        elif line % 8 == 4:
            words = draw.choice(long)  # one word less is no leak
            start = draw.randint(0, len(words) - NGRAM)
            middle = words[start : start + NGRAM - 1]
        rows.append({"text": dressed(draw, [*before, *middle, *after]), "label": "ab"[line % 2]})
    return rows, [{"text": " ".join(w), "label": "ab"[n % 2]} for n, w in enumerate(test)], leaks


def truly(rows: list[dict[str, str]], test: list[dict[str, str]]) -> set[int]:
    """The rows that share 13 words with a test text, or hold one of 8 to 12 words, by plain Python."""

    def runs(text: str, size: int) -> set[tuple[str, ...]]:
        words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    known: dict[int, set[tuple[str, ...]]] = {size: set() for size in range(8, NGRAM + 1)}
    for row in test:
        count = len(row["text"].split())
        if count >= 8:
            known[min(count, NGRAM)] |= runs(row["text"], min(count, NGRAM))
    return {
        line
        for line, row in enumerate(rows, 1)
        if any(runs(row["text"], size) & held for size, held in known.items())
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_every_planted_leak_is_found_and_nothing_else(
    desk: Any, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shingles, "SLICE_BYTES", 3000)  # so that there are many slices
    rows, test, leaks = planted(seed)
    spec = desk.spec(desk.rows("a.jsonl", rows), tests=(desk.rows("t.jsonl", test),))
    found, _, told = looked_at(spec, tmp_path / "staging")
    told_lines = lines_of(tmp_path / "staging", "ngram-leak")
    assert leaks <= set(told_lines)
    assert set(told_lines) == truly(rows, test)
    assert told["ngram_leaks"] == {"ngram": 13, "action": "Warn", "count": len(told_lines)}
    assert found.kept.mask[: len(rows)].all()
    one = told_lines[min(leaks)]
    assert "shares 13 words in a row with" in one["message"]
    other = int(one["other"].rsplit(":", 1)[1])
    words = re.findall("[a-z]+", one["excerpt"].replace("\\n", " "))
    assert " ".join(words[:5]) in test[other - 1]["text"]


def test_remove_drops_them_and_fail_refuses(desk: Any, tmp_path: Path) -> None:
    rows, test, leaks = planted(3)
    given = {"tests": (desk.rows("t.jsonl", test),), "leakage": Leakage(action="Remove")}
    found, _, told = looked_at(desk.spec(desk.rows("a.jsonl", rows), **given), tmp_path / "a")
    gone = {line for line in range(1, len(rows) + 1) if not found.kept.mask[line - 1]}
    assert leaks <= gone == truly(rows, test)
    assert told["leaked"]["count"] == len(gone)
    given = {"tests": given["tests"], "checks": (DataCheck(code="ngram-leak", action="Fail"),)}
    with pytest.raises(Refused, match="share a long run of words with a row of the test side"):
        looked_at(desk.spec(desk.rows("a.jsonl", rows), **given), tmp_path / "b")
    given["leakage"] = Leakage(action="Ignore")
    _, intake, told = looked_at(desk.spec(desk.rows("a.jsonl", rows), **given), tmp_path / "c")
    assert intake.findings.counts["ngram-leak"] == 0
    assert "ngram_leaks" not in told


def test_the_own_split_is_searched_too(desk: Any, tmp_path: Path) -> None:
    draw = random.Random(5)
    pages = [" ".join(prose(draw, 30)) for _ in range(60)]
    rows = [
        {"text": f"{page} {' '.join(prose(draw, 60))}", "label": "ab"[n % 2]}
        for n in range(8)
        for page in pages
    ]
    found, intake, _ = looked_at(desk.spec(desk.rows("a.jsonl", rows)), tmp_path / "staging")
    tested = {rows[row]["text"][:100] for row in np.flatnonzero(found.sides == TEST)}
    learnt = sum(
        rows[row]["text"][:100] in tested
        for row in np.flatnonzero((found.sides >= 0) & (found.sides != TEST))
    )
    assert intake.findings.counts["ngram-leak"] == learnt > 100


def quoting(seed: int) -> list[dict[str, str]]:
    """Rows of which each quotes one of 60 pages."""
    draw = random.Random(seed)
    pages = [" ".join(prose(draw, 30)) for _ in range(60)]
    return [
        {"text": f"{draw.choice(pages)} {' '.join(prose(draw, 60))}", "label": "ab"[n % 2]}
        for n in range(300)
    ]


def shared(rows: list[dict[str, str]], found: Examined, one: int, other: int) -> set[int]:
    """The lines of the rows of side `one` that quote the page of a row of side `other`."""
    pages = {rows[row]["text"][:100] for row in np.flatnonzero(found.sides == other)}
    own = np.flatnonzero(found.sides == one).tolist()
    return {row + 1 for row in own if rows[row]["text"][:100] in pages}


def test_training_rows_that_quote_the_validation_split_are_told(desk: Any, tmp_path: Path) -> None:
    rows = quoting(10)
    found, _, told = looked_at(desk.spec(desk.rows("a.jsonl", rows)), tmp_path / "staging")
    lines = lines_of(tmp_path / "staging", "validation-leak")
    assert set(lines) == shared(rows, found, TRAIN, VALIDATION)
    assert 20 < len(lines) < 260
    assert told["validation_leaks"] == {
        "ngram": 13,
        "action": "Warn",
        "count": len(lines),
        "looked_for": (found.sides == VALIDATION).sum(),
        "of": (found.sides == VALIDATION).sum(),
    }
    line, one = next(iter(lines.items()))
    other = int(one["other"].rsplit(":", 1)[1])
    assert found.sides[other - 1] == VALIDATION
    assert rows[other - 1]["text"][:100] == rows[line - 1]["text"][:100]
    assert "of the validation split" in one["message"]


def test_remove_leaves_no_run_of_validation_in_training(desk: Any, tmp_path: Path) -> None:
    rows = quoting(11)
    path = desk.rows("a.jsonl", rows)
    before, _, _ = looked_at(desk.spec(path), tmp_path / "before")
    spec = desk.spec(path, leakage=Leakage(action="Remove"))
    found, _, told = looked_at(spec, tmp_path / "after")
    assert not shared(rows, found, TRAIN, VALIDATION)
    assert not shared(rows, found, TRAIN, TEST)
    assert not shared(rows, found, VALIDATION, TEST)
    gone = shared(rows, before, TRAIN, VALIDATION) | shared(rows, before, TRAIN, TEST)
    gone |= shared(rows, before, VALIDATION, TEST)
    assert gone == {row + 1 for row in np.flatnonzero(found.kept.leaked).tolist()}
    assert told["leaked"]["count"] == len(gone)
    fail = (DataCheck(code="validation-leak", action="Fail"),)
    with pytest.raises(Refused, match=r"with a row of the validation split, max is 0\.01"):
        looked_at(desk.spec(path, checks=fail), tmp_path / "refused")


def test_of_a_large_validation_split_a_sample_is_looked_for_unless_rows_go(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = quoting(12)
    path = desk.rows("a.jsonl", rows)
    found, whole, _ = looked_at(desk.spec(path), tmp_path / "whole")
    monkeypatch.setattr(quoted, "SAMPLE", 2000)
    _, part, told = looked_at(desk.spec(path), tmp_path / "part")
    looked = told["validation_leaks"]["looked_for"]
    assert 1 <= looked < told["validation_leaks"]["of"] == (found.sides == VALIDATION).sum()
    code = "validation-leak"
    assert 0 < part.findings.counts[code] < whole.findings.counts[code]
    monkeypatch.setattr(quoted, "HELD", 3000)
    spec = desk.spec(path, leakage=Leakage(action="Remove"))
    _, every, told = looked_at(spec, tmp_path / "every")
    assert every.findings.counts[code] == whole.findings.counts[code]
    assert told["validation_leaks"]["looked_for"] == told["validation_leaks"]["of"]


@pytest.mark.parametrize("held", [1, 3000])
def test_a_test_side_in_parts_is_searched_as_a_whole(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    spec = desk.spec(desk.rows("a.jsonl", quoting(8)))
    _, whole, _ = looked_at(spec, tmp_path / "whole")
    monkeypatch.setattr(quoted, "HELD", held)
    _, parts, _ = looked_at(spec, tmp_path / "parts")
    assert parts.findings.counts == whole.findings.counts
    one, other = (lines_of(tmp_path / name, "ngram-leak") for name in ("whole", "parts"))
    assert one == other
    assert 20 < len(one) < 260


@pytest.mark.parametrize("given_test", [True, False])
@pytest.mark.parametrize("action", ["Warn", "Remove"])
def test_rows_that_were_seen_before_are_searched_as_if_they_were_not(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_test: bool, action: str
) -> None:
    rows, test, _ = planted(3)
    test_files = (desk.rows("t.jsonl", test),) if given_test else ()
    leakage = Leakage(action=action)
    spec = desk.spec(desk.rows("a.jsonl", rows), tests=test_files, leakage=leakage)
    watches: list[Any] = []

    def opened(*given: Any) -> Any:
        watches.append(open_watch(*given))
        return watches[-1]

    monkeypatch.setattr(leaks, "open_watch", opened)
    watched, _, _ = looked_at(spec, tmp_path / "watched")
    monkeypatch.setattr(leaks, "open_watch", lambda *_: None)
    unwatched, _, _ = looked_at(spec, tmp_path / "unwatched")
    assert watched.sides.tolist() == unwatched.sides.tolist()
    for code in ("ngram-leak", "validation-leak"):
        told = [lines_of(tmp_path / name, code) for name in ("watched", "unwatched")]
        assert told[0] == told[1]
        assert len(told[0]) > 5
    # Most rows that hold no run are not read again.
    learnt = watched.sides == TRAIN
    assert watches[0].test.left[learnt].mean() < 0.5


def test_a_sample_of_the_validation_split_is_among_the_rows_that_were_watched_for(
    desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(5)
    rows = [{"text": " ".join(prose(draw, 40)), "label": "ab"[n % 2]} for n in range(2000)]
    spec = desk.spec(desk.rows("a.jsonl", rows))
    asked: list[Any] = []

    def opened(*given: Any) -> Any:
        asked.append(open_watch(*given))
        return asked[-1]

    def sampled(*given: Any) -> Any:
        asked.append(sample(*given))
        return asked[-1]

    monkeypatch.setattr(leaks, "open_watch", opened)
    monkeypatch.setattr(quoted, "sample", sampled)
    for module in (leaks, quoted):
        monkeypatch.setattr(module, "SAMPLE", 8000)
    found, _, _ = looked_at(spec, tmp_path / "staging")
    watch, looked_for = asked
    assert 20 < len(looked_for) < (found.sides == VALIDATION).sum()
    assert watch.validation.of(looked_for) is not None  # else all rows are read again


@pytest.mark.parametrize("count", [0, 400])
def test_a_sieve_lets_every_row_with_a_run_through_and_few_others(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("oikyo_trainer.data.leakage.sieve.BITS", range(15, 16))
    draw = random.Random(9)
    texts = [" ".join(prose(draw, 20)) for _ in range(400)]
    short = [" ".join(prose(draw, NGRAM - 2)) for _ in range(count)]
    sieve = Sieve(NGRAM, 400 * 20, 800)  # four bits for each run: one in six others seems known
    for words in words_of(pa.table({"text": [*texts, *short]})):
        sieve.add(*sieve.read(words))
    runs = [text.split()[4 : 4 + NGRAM] for text in texts] + [text.split() for text in short]
    quoting = [
        " ".join((*prose(draw, 9 + number % 7), *run, *prose(draw, 9)))
        for number, run in enumerate(runs)
    ]
    others = [" ".join(prose(draw, 31)) for _ in range(400)]
    nearly = [" ".join((*text.split()[: NGRAM - 1], *prose(draw, 18))) for text in texts]
    (words,) = words_of(pa.table({"text": [*quoting, *others, *nearly]}))
    found = sieve.rows(words)
    assert set(range(len(runs))) <= set(found.tolist())
    assert len(found) < len(runs) + 200


def test_a_stock_answer_is_no_leak(desk: Any, tmp_path: Path) -> None:
    draw = random.Random(7)
    stock = "I am sorry but I cannot help you with that."
    data = [{"prompt": " ".join(prose(draw, 9)), "completion": stock} for _ in range(300)]
    spec = desk.spec(desk.rows("a.jsonl", data), task="TextGeneration")
    _, intake, _ = looked_at(spec, tmp_path / "staging")
    assert intake.findings.counts["ngram-leak"] == 0
    assert intake.findings.counts["validation-leak"] == 0


def test_a_template_is_no_leak(desk: Any, tmp_path: Path) -> None:
    draw = random.Random(6)
    asks = (
        "Below is an instruction that describes a task. Write a response that completes it well: "
    )
    rows = [{"text": asks + " ".join(prose(draw, 9)), "label": "ab"[n % 2]} for n in range(400)]
    _, intake, _ = looked_at(desk.spec(desk.rows("a.jsonl", rows)), tmp_path / "staging")
    assert intake.findings.counts["ngram-leak"] == 0
    page = " ".join(prose(draw, 40))
    told = [" ".join([asks, page[:90], *prose(draw, 60)]) for _ in range(30)]
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(told)] + rows
    found, intake, _ = looked_at(desk.spec(desk.rows("b.jsonl", rows)), tmp_path / "again")
    tested = int((found.sides[:30] == TEST).sum())
    assert 0 < tested < 30
    assert intake.findings.counts["ngram-leak"] == 30 - tested


def test_of_wanted_runs_alone_the_same_are_known(desk: Any, tmp_path: Path) -> None:
    draw = random.Random(11)
    template = " ".join(prose(draw, NGRAM))
    pages = [" ".join((*prose(draw, 30), template, *prose(draw, 30))) for _ in range(60)]
    short = [" ".join(prose(draw, NGRAM - 3)) for _ in range(9)]
    quotes = [" ".join(page.split()[10:26]) for page in pages[:9]] + [template, *short[:3]]
    asked = pa.table({"text": [f"{' '.join(prose(draw, 9))} {quote} so" for quote in quotes]})
    (asking,) = words_of(asked)
    wanted = Wanted(NGRAM)
    wanted.add(*wanted.read(asking))
    every, few = Known(NGRAM, 8), Known(NGRAM, 8, wanted)
    for known in (every, few):
        for words in words_of(pa.table({"text": [*pages, *short]})):
            known.add(words, np.arange(len(pages) + len(short)))
        known.close(len(pages) + len(short))
    of_every, of_few = find([every, few], asking)
    told = [
        [[column.tolist() for column in hits] for hits in found] for found in (of_every, of_few)
    ]
    assert told[0] == told[1]
    rows = {int(asking.row[asking.text[first]]) for hits in of_every for first in hits.first}
    assert rows == {*range(9), 10, 11, 12}  # the template alone is none
    assert len(few) < len(every) / 10


@settings(max_examples=60, deadline=None)
@given(
    known=st.lists(st.text("ab Cé.漢\n", max_size=40), min_size=1, max_size=5),
    text=st.text("ab Cé.漢\n", max_size=60),
    ngram=st.integers(5, 9),
)
def test_runs_are_found_as_by_plain_python(known: list[str], text: str, ngram: int) -> None:
    def split(said: str) -> list[str]:
        lower = unicodedata.normalize("NFC", said.lower())
        return "".join(f" {c} " if c == "漢" else c if c.isalnum() else " " for c in lower).split()

    def runs(words: list[str], size: int) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}

    index = Known(ngram, 3)
    for words in words_of(pa.table({"text": pa.array(known)})):
        index.add(words, np.arange(len(known)))
    index.close(1000)  # so many that none of them is a template
    asked = split(text)
    held = False
    for one in map(split, known):
        size = min(len(one), ngram)
        if size >= 3:
            inside = size == ngram or size >= 8
            held |= bool(runs(one, size) & runs(asked, size)) if inside else one == asked
    hits = [
        hit for words in words_of(pa.table({"text": [text]})) for hit in find([index], words)[0]
    ]
    assert bool(hits) == held


def benchmark(path: Path, name: str = "exam", **more: Any) -> BenchmarkSource:
    return BenchmarkSource(name=name, uri=path.as_uri(), path=str(path), **more)


def exam(desk: Any) -> tuple[Path, Path]:
    """Rows with items of a benchmark on the lines 3, 10 and 20, and its file."""
    draw = random.Random(9)
    rows = [{"text": " ".join(prose(draw, 30)), "label": "ab"[n % 2]} for n in range(200)]
    items: list[dict[str, Any]] = [
        {"question": " ".join(prose(draw, 40)), "choices": ["yes", "no"], "id": n} for n in range(9)
    ]
    items += [{"question": "Who wrote it?", "choices": ["yes"], "id": 9}]
    items += [{"question": " ".join(prose(draw, 9)), "choices": [], "id": 10}]
    rows[2]["text"] += "; " + items[4]["question"][:130].upper()
    rows[9]["text"] = "WHO wrote it"
    rows[19]["text"] += f" {items[10]['question']} and so on"
    rows[30]["text"] = "yes"
    return desk.rows("rows.jsonl", rows), desk.rows("exam.jsonl", items)


def test_items_of_a_benchmark_are_told_by_its_name(desk: Any, tmp_path: Path) -> None:
    rows, items = exam(desk)
    test = desk.rows("t.jsonl", [{"text": f"t {n}", "label": "ab"[n % 2]} for n in range(20)])
    spec = desk.spec(rows, tests=(test,), contamination=(benchmark(items),))
    _, intake, told = looked_at(spec, tmp_path / "staging")
    lines = lines_of(tmp_path / "staging", "contaminated")
    assert set(lines) == {3, 10, 20}
    assert lines[3]["message"].startswith("holds 13 words of an item of exam (")
    assert lines[3]["other"] == f"{items.as_uri()}:5"
    assert lines[10]["message"].startswith("holds 3 words of an item of exam")
    assert lines[20]["message"].startswith("holds 9 words of an item of exam")
    (one,) = told["contamination"]
    assert (one["name"], one["items"], one["rows"], one["items_found"]) == ("exam", 11, 3, 3)
    (choice,) = [c for c in intake.resolved.values() if c.name == "data.contamination.exam"]
    assert choice.value == "3 rows kept"


def test_a_version_is_made_without_them_and_its_card_tells(desk: Any) -> None:
    rows, items = exam(desk)
    test = desk.rows("t.jsonl", [{"text": f"t {n}", "label": "ab"[n % 2]} for n in range(20)])
    other = desk.rows("other.jsonl", [{"q": "nothing of this stands anywhere"}])
    chosen = (
        benchmark(items, action="Remove", columns=("question",)),
        benchmark(other, name="other"),
    )
    made = desk.prepare(rows, tests=(test,), contamination=chosen)
    assert made.train + made.validation == 197
    told = {choice.name: choice.value for choice in made.resolved}
    assert told["data.contamination.exam"] == "3 rows dropped"
    assert told["data.contamination.other"] == "no row"
    card = next(desk.workspace.rglob("datasets/*/README.md")).read_text()
    assert "- exam: 3 rows to learn hold one of its 11 items, and were dropped" in card
    assert "- other: 0 rows to learn hold one of its 1 items\n" in card
    fail = (DataCheck(code="contaminated", action="Fail"),)
    with pytest.raises(Refused, match="3 of 220 rows hold an item of a benchmark, max is 0"):
        desk.prepare(rows, tests=(test,), contamination=(benchmark(items),), checks=fail)


def test_a_benchmark_without_texts_or_column_is_refused(desk: Any) -> None:
    rows, items = exam(desk)
    with pytest.raises(Refused, match=r"has no column 'q' \(data.contamination, exam\)"):
        desk.prepare(rows, contamination=(benchmark(items, columns=("q",)),))
    empty = desk.rows("empty.jsonl", [{"id": 1, "answer": "yes"}])
    with pytest.raises(Refused, match="the benchmark exam has no text of 3 words or more"):
        desk.prepare(rows, contamination=(benchmark(empty),))
    with pytest.raises(Refused, match="does not exist"):
        desk.prepare(rows, contamination=(benchmark(desk.root / "none.jsonl"),))


def test_the_command_names_benchmarks(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from oikyo_trainer.data.__main__ import main

    rows, items = exam(desk)
    given = ["check", str(rows), "--against", f"exam={items}", "--min-test-rows", "1"]
    assert main([*given, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (one,) = report["contamination"]
    assert (one["name"], one["rows"]) == ("exam", 3)
    assert report["ngramLeaks"]["count"] == report["validationLeaks"]["count"] == 0
    assert main([*given, "--checks", "contaminated=Fail"]) == 64
    shown = capsys.readouterr()
    assert f"{rows}:3: holds 13 words of an item of exam ({items}:5)" in shown.out
    assert check.__doc__ is not None
    assert main([*given, "--ngram", "3"]) == 64
    assert "5 to 64" in capsys.readouterr().err
