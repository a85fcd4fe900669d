"""Coverage, balance, slices, edge cases, and the page that tells them."""

from __future__ import annotations

import html
import json
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.data.insight.balance import classes, lengths
from oikyo_trainer.data.insight.edges import edges
from oikyo_trainer.data.insight.features import features
from oikyo_trainer.data.insight.glance import glance
from oikyo_trainer.data.insight.slices import interval, skews, slices
from oikyo_trainer.data.insight.table import Table
from oikyo_trainer.data.insight.topics import topics
from oikyo_trainer.data.page.advice import advice
from oikyo_trainer.errors import Refused

NORTH, SOUTH = "north", "south"


def a_table(
    texts: list[str], codes: list[int] | None = None, meta: dict[str, list[Any]] | None = None
) -> Table:
    count, given = len(texts), codes or [0] * len(texts)
    names = tuple(f"class {code}" for code in range(max(given) + 1))
    return Table(
        shape="classification",
        ids=[f"{place:032x}" for place in range(count)],
        sources=[f"rows.csv:{place + 2}" for place in range(count)],
        sides=np.zeros(count, dtype=np.int8),
        texts=texts,
        answers=[names[code] for code in given],
        lengths=np.array([len(text) for text in texts]),
        labels=names,
        codes=np.array(given),
        meta=meta or {},
        total=count,
    )


def test_balance_says_how_hard_the_classes_are_to_guess() -> None:
    even, skewed = a_table(["x"] * 40, [0, 1] * 20), a_table(["x"] * 40, [0] * 36 + [1] * 4)
    told = classes(even)
    assert told is not None
    assert (told["effective"], told["majority"], told["few"]) == (2.0, 0.5, [])
    told = classes(skewed)
    assert told is not None
    assert told["effective"] < 1.5
    assert (told["majority"], told["few"]) == (0.9, [{"label": "class 1", "rows": 4}])


def test_quantiles_are_lengths_that_rows_have() -> None:
    told = lengths(a_table(["x" * n for n in range(1, 101)]))
    assert (told["all"]["p50"], told["all"]["p99"]) == (50, 99)
    assert told["train"] == told["all"]


def test_topics_are_named_by_what_sets_them_apart() -> None:
    subjects = ["lost card wallet", "exchange rate euro", "forgotten pin code", "late parcel"]
    texts = [f"please help {subjects[i % 4]} number {i}" for i in range(400)]
    table = a_table(texts, [i % 4 for i in range(400)])
    seen = features(table.texts)
    assert seen is not None
    found = topics(table, seen)
    assert sum(topic["rows"] for topic in found) == 400
    assert all(topic["label"]["share"] == 1.0 for topic in found)
    words = {word for topic in found for term in topic["terms"] for word in term.split()}
    assert {"wallet", "euro", "parcel"} & words
    assert found == topics(table, seen)


def test_a_glance_tells_the_same_topics_apart() -> None:
    dice = random.Random(1)
    subjects = ["lost card wallet", "exchange rate euro", "forgotten pin code", "late parcel post"]
    words = [f"word{n}" for n in range(60)]
    texts = [f"{subjects[i % 4]} {' '.join(dice.sample(words, 4))}" for i in range(400)]
    table = a_table(texts, [i % 4 for i in range(400)])
    seen = glance(table.texts)
    assert seen is not None
    assert (np.linalg.norm(seen.points, axis=1) < 1 + 1e-6).all()
    found = topics(table, seen)
    assert found == topics(table, seen)
    assert all(topic["label"]["share"] == 1.0 for topic in found)
    assert {"wallet", "euro", "pin", "parcel"} <= {
        w for t in found for one in t["terms"] for w in one.split()
    }


def test_a_class_without_an_expected_kind_is_named() -> None:
    texts = ["this is not what i want"] * 50 + ["all of it is quite well"] * 50
    told = {one["kind"]: one for one in edges(a_table(texts, [0] * 50 + [1] * 50))}
    assert told["negation"]["classes"] == ["class 1"]
    assert (told["negation"]["rows"], told["question"]["rows"]) == (50, 0)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("hi there", "very short"),
        ("call 112 at once", "numbers"),
        ("I can\u2019t see it at all", "negation"),
        ("WHERE IS MY MONEY", "all capitals"),
        (
            "\u0433\u0434\u0435 \u043c\u043e\u0438 \u0434\u0435\u043d\u044c\u0433\u0438",
            "other script",
        ),
        ("wo ist die Br\u00fccke bitte", "beyond ASCII"),
        ("see https://example.org now", "link"),
        ("well done \U0001f600 you", "emoji"),
        ("first line\nsecond line", "several lines"),
    ],
)
def test_each_kind_is_seen(text: str, kind: str) -> None:
    told = {one["kind"]: one["rows"] for one in edges(a_table([text, "Just an ordinary row here"]))}
    assert told[kind] == 1


def test_the_interval_is_that_of_newcombes_paper() -> None:
    # Newcombe 1998, table II, method 10: 56/70 - 48/80 and 9/10 - 3/10.
    assert interval(56, 70, 48, 80, 1.959964) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert interval(9, 10, 3, 10, 1.959964) == pytest.approx((0.1705, 0.8090), abs=5e-5)


def test_a_skew_is_told_with_its_interval_and_chance_alone_is_not() -> None:
    regions = [NORTH, SOUTH] * 300
    random = np.random.default_rng(1)
    fair = random.integers(0, 2, 600).tolist()
    assert skews(a_table(["x"] * 600, fair, {"region": regions})) == []
    unfair = [int(random.random() < (0.7 if region == SOUTH else 0.3)) for region in regions]
    found = skews(a_table(["x"] * 600, unfair, {"region": regions}))
    south = next(one for one in found if (one.value, one.outcome) == (SOUTH, "label 'class 1'"))
    assert 0.05 < south.low < 0.4 < south.high
    assert south.sentence().startswith("region = south: label 'class 1' in ")


def test_small_slices_come_first_and_say_why() -> None:
    regions = [NORTH] * 95 + [None] * 5
    first, second = slices(a_table(["x"] * 100, None, {"region": regions}))
    assert (first.value, first.small) == ("(none)", "has 5 rows, fewer than 30")
    assert second.small == "has 0 rows in the test split, fewer than 10"


def a_file(desk: Any) -> Path:
    words = ["lost card wallet", "exchange rate euro"]
    rows = [
        {"text": f"{words[i % 2]} {i}", "label": "ab"[i % 2], "region": SOUTH if i % 2 else NORTH}
        for i in range(120)
    ]
    body = [{"text": "<script>alert(1)</script> card", "label": "a", "region": NORTH}]
    path: Path = desk.rows("rows.jsonl", [*rows, *rows[:3], *body, {"text": "", "label": "a"}])
    return path


class Page(HTMLParser):
    """What a page would fetch or run, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.headings: list[str] = []
        self._tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag in ("script", "link", "img", "iframe") or dict(attrs).keys() & {"src", "href"}:
            self.outside.append(tag)

    def handle_data(self, data: str) -> None:
        if self._tag == "h2" and data.strip():
            self.headings.append(data.strip())


def test_the_page_stands_alone_and_tells_every_part(desk: Any, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    data = a_file(desk)
    assert main(["report", str(data), "-o", str(output), "--slice-by", "region"]) == 0
    body = output.read_text(encoding="utf-8")
    page = Page()
    page.feed(body)
    assert page.outside == []
    assert len(body) < 2 << 20
    for heading in ("What to fix first", "Dropped rows", "Classes", "Slices", "Lineage"):
        assert heading in page.headings
    assert "1 row cannot be used: empty-text 1" in body
    assert "rows.jsonl:125" in body
    assert "label &#39;b&#39; in 100% of its rows" in body


def test_the_json_holds_the_same_figures(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(a_file(desk)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["duplicates"]["count"], told["bad_rows"]["count"]) == (3, 1)
    assert told["insight"]["rows"] == told["insight"]["of"] == 121
    assert told["insight"]["slices"] is None


@pytest.mark.parametrize(
    ("rows", "reason", "why"),
    [
        (
            [{"text": f"question number {i}", "label": "a"} for i in range(60)],
            "SingleClass",
            "every row has the label 'a' (column 'label')",
        ),
        (
            [{"text": f"question number {i}", "label": f"answer {i}"} for i in range(300)],
            "LabelIsNoClass",
            "column 'label' has 300 different values in 300 rows",
        ),
        (
            [{"text": f"question number {i}", "score": 2.5} for i in range(60)],
            "ConstantNumber",
            "every row has the number 2.5 (column 'score')",
        ),
    ],
    ids=["one class", "no classes", "one number"],
)
def test_what_a_training_would_refuse_is_shown_and_comes_first(
    desk: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    rows: list[dict[str, Any]],
    reason: str,
    why: str,
) -> None:
    data = desk.rows("rows.jsonl", rows)
    assert main(["report", str(data), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err.startswith(f"warning: rows.jsonl: a training would refuse this: {why}")
    told = json.loads(said.out)
    assert told["refused"]["reason"] == reason
    assert told["insight"]["rows"] == len(rows)
    assert advice(told)[0].severity == "Error"
    assert advice(told)[0].what.startswith(why)
    assert main(["report", str(data), "-o", str(tmp_path / "page.html")]) == 0
    assert why in html.unescape((tmp_path / "page.html").read_text(encoding="utf-8"))
    capsys.readouterr()
    assert main(["check", str(data)]) == 64
    assert f"error: {why}" in capsys.readouterr().err


def test_one_small_class_is_told_as_one() -> None:
    told = classes(a_table(["x"] * 40, [0] * 20 + [1] * 15 + [2] * 5))
    (found,) = advice({"insight": {"classes": told}})
    assert found.what == "1 class has fewer than 10 rows: class 2"


def test_a_column_that_no_row_has_is_refused(
    desk: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wrong = ["report", str(a_file(desk)), "-o", str(tmp_path / "p.html"), "--slice-by", "country"]
    assert main(wrong) == 64
    assert "has no column 'country'" in capsys.readouterr().err


def test_a_version_has_the_same_page_with_its_digest(desk: Any, tmp_path: Path) -> None:
    result = desk.prepare(a_file(desk), max_bad_rows=1)
    folder = next((desk.workspace / "datasets").glob("*/manifest.json")).parent
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 0
    assert result.dataset_digest in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_prepare_leaves_the_page_also_when_the_data_is_refused(desk: Any) -> None:
    data = a_file(desk)
    with pytest.raises(Refused):
        desk.prepare(data)
    page = desk.workspace / layout.stage("job-00000000", "prepare") / "report.html"
    assert "Mend first" in page.read_text(encoding="utf-8")
    desk.prepare(data, max_bad_rows=1)
    assert "Statistics over 121 of 121 kept rows" in page.read_text(encoding="utf-8")
