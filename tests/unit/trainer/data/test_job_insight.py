"""The statistics that prepare itself makes of a job's rows: told as findings, in the report and on its page."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.augment import Augment
from oikyo.api.checks import DataCheck
from oikyo.api.data import Fields
from oikyo_trainer.data.insight import job
from oikyo_trainer.data.insight.source import open_data
from oikyo_trainer.data.insight.table import least
from oikyo_trainer.errors import Refused

WORDS = {
    "card": "card number stolen blocked chip reader contactless expired replace delivery",
    "loan": "loan interest mortgage repay instalment rate house agreement broker borrow",
    "travel": "airport luggage passport hotel flight currency abroad holiday visa embassy",
}
OFF = tuple(DataCheck(code=code, action="Ignore") for code in ("probable-label-error", "outlier"))
OUTLIERS = (DataCheck(code="outlier", action="Warn", max="0"),)


def rows_with_errors(seed: int, count: int = 240) -> tuple[list[dict[str, str]], set[int]]:
    """Rows whose words tell their class, and the lines whose label is another one."""
    draw = random.Random(seed)
    rows, wrong = [], set()
    for line in range(1, count + 1):
        name = draw.choice(list(WORDS))
        text = " ".join(draw.choice(WORDS[name].split()) for _ in range(9)) + f" {line}"
        if line % 20 == 0:
            wrong.add(line)
            name = draw.choice([other for other in WORDS if other != name])
        rows.append({"text": text, "label": name})
    return rows, wrong


def report_of(desk: Any) -> tuple[dict[str, Any], str]:
    """The report and the page that prepare left."""
    folder = desk.workspace / layout.stage("job-00000000", "prepare")
    page = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads((folder / "report.json").read_text()), page


def test_flipped_labels_are_in_status_report_and_page(desk: Any) -> None:
    rows, wrong = rows_with_errors(1)
    result = desk.prepare(desk.rows("a.jsonl", rows))
    (found,) = [one for one in result.findings if one.code == "probable-label-error"]
    told, page = report_of(desk)
    (checked,) = [one for one in told["findings"] if one["code"] == "probable-label-error"]
    assert found.count == checked["count"] == told["insight"]["suspects"][found.code]["count"]
    lines = {one["line"] for one in checked["examples"]}
    assert len(wrong - lines) <= 1
    assert len(lines - wrong) <= 2
    one = checked["examples"][0]
    row = rows[one["line"] - 1]
    assert f"has the label {row['label']!r}, and" in one["message"]
    assert one["excerpt"].startswith(row["text"][:20])
    assert told["insight"]["topics"]
    assert "Labels that are probably wrong" in page
    assert page.count("with a label that is probably wrong") == 0  # the check says it, once
    assert "Topics" in page
    assert "Within the limits" in page  # one row in twenty, and one in ten may be so
    assert "Statistics over 240 of 240 kept rows" in page


def test_a_version_has_the_statistics_that_its_job_made(desk: Any) -> None:
    rows, _ = rows_with_errors(2)
    result = desk.prepare(desk.rows("a.jsonl", rows))
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    told, _ = report_of(desk)
    assert json.loads((folder / "report.json").read_text())["insight"] == told["insight"]


def test_fail_refuses_a_job_with_too_many_wrong_labels(desk: Any) -> None:
    rows, _ = rows_with_errors(3)
    fail = (DataCheck(code="probable-label-error", action="Fail", max="0.02"),)
    with pytest.raises(Refused, match="have a label that is probably wrong"):
        desk.prepare(desk.rows("a.jsonl", rows), checks=fail)
    assert "Labels that are probably wrong" in report_of(desk)[1]


def test_without_the_checks_no_row_is_suspected(desk: Any) -> None:
    rows, _ = rows_with_errors(4)
    desk.prepare(desk.rows("a.jsonl", rows), checks=OFF)
    told, page = report_of(desk)
    assert told["insight"]["suspects"] == {}
    assert "Labels that are probably wrong" not in page
    assert "Edge cases" in page


def test_the_library_is_loaded_only_where_it_is_needed(desk: Any) -> None:
    rows, _ = rows_with_errors(5, 60)
    pairs = [{"prompt": row["text"], "completion": row["label"]} for row in rows]
    spec = desk.spec(desk.rows("a.jsonl", pairs), task="TextGeneration")
    desk.workspace.mkdir()
    (desk.root / "spec.json").write_text(spec.json_line())
    program = (
        "import sys; from pathlib import Path; from oikyo.api.stages import PrepareSpec; "
        "from oikyo_trainer.context import Context; from oikyo_trainer.data.prepare import prepare; "
        "from oikyo_trainer.progress import Reporter; "
        f"spec = PrepareSpec.model_validate_json(Path({str(desk.root / 'spec.json')!r}).read_text()); "
        f"prepare(spec, Context(Path({str(desk.workspace)!r}), Reporter('prepare', 1, spec.run))); "
        "sys.exit('scipy' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_generation_asks_for_outliers_by_a_check_and_has_topics_without(desk: Any) -> None:
    rows, _ = rows_with_errors(6)
    pairs = [{"prompt": row["text"], "completion": row["label"]} for row in rows]
    pairs[100]["prompt"] = "zzyzx qwrtp xkcdq bnmpl vvwxq jjkqz"
    path = desk.rows("a.jsonl", pairs)
    desk.prepare(path, task="TextGeneration")
    told, page = report_of(desk)
    assert sum(one["rows"] for one in told["insight"]["topics"]) == told["insight"]["rows"] == 240
    assert told["insight"]["suspects"] == {}
    assert "<h2>Topics</h2>" in page
    result = desk.prepare(path, task="TextGeneration", checks=OUTLIERS)
    (found,) = [one for one in result.findings if one.code == "outlier"]
    assert (found.severity, found.count) == ("Warning", 1)
    assert "a.jsonl:101: shares hardly a word with any other row" in found.example
    told, page = report_of(desk)
    assert told["insight"]["topics"]
    assert "Rows near no other row" in page


def test_of_many_rows_a_sample_by_content_is_looked_at_and_the_page_says_so(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ROWS", 100)
    rows, _ = rows_with_errors(7)
    result = desk.prepare(desk.rows("a.jsonl", rows))
    told, page = report_of(desk)
    assert (told["insight"]["rows"], told["insight"]["of"]) == (100, 240)
    assert "Statistics over 100 of 240 kept rows, chosen by content, the same each time" in page
    assert "<code>oikyo data report</code> looks at 50,000" in page
    again = desk.prepare(desk.rows("b.jsonl", rows[::-1]))
    one, other = (
        [(f.code, f.count) for f in r.findings if f.code == "probable-label-error"]
        for r in (result, again)
    )
    assert one == other
    monkeypatch.setattr(job, "CELLS", 60)
    desk.prepare(desk.rows("c.jsonl", rows))
    assert report_of(desk)[0]["insight"]["rows"] == 20  # three classes


def test_sets_of_labels_are_not_judged(desk: Any) -> None:
    rows, _ = rows_with_errors(8)
    path = desk.rows("a.jsonl", [{**row, "label": f"{row['label']},bank"} for row in rows])
    result = desk.prepare(path, fields=Fields(label_separator=","))
    assert "probable-label-error" not in {one.code for one in result.findings}
    assert report_of(desk)[0]["insight"]["suspects"] == {}
    desk.prepare(path, fields=Fields(label_separator=","), checks=OUTLIERS)
    suspects = report_of(desk)[0]["insight"]["suspects"]
    assert suspects["probable-label-error"]["count"] == 0


def test_synthetic_rows_are_no_part_of_the_statistics(desk: Any) -> None:
    rows, wrong = rows_with_errors(9)
    augment = Augment(templates=("please: {text}",), per_row=2)
    result = desk.prepare(desk.rows("a.jsonl", rows), augment=augment)
    assert result.synthetic > 150
    folder: Path = desk.workspace / layout.dataset(result.dataset_digest)
    marks = pq.read_table(folder / "train.parquet")["synthetic"].to_pylist()
    assert sum(mark is not None for mark in marks) == result.synthetic
    (found,) = [one for one in result.findings if one.code == "probable-label-error"]
    assert abs(found.count - len(wrong)) <= 2  # each row once, however often it was reworded
    assert report_of(desk)[0]["insight"]["of"] == 240
    assert open_data(folder).table.total == 240
    assert open_data(folder, made=True).table.total == 240 + result.synthetic


def test_the_rows_with_the_least_ids_are_found_without_sorting_all() -> None:
    draw = np.random.default_rng(1)

    class Ids:
        rows = draw.integers(0, 2**64, (5000, 2), dtype=np.uint64)

    mask = draw.random(5000) < 0.7
    kept = np.flatnonzero(mask)
    order = kept[np.lexsort((Ids.rows[kept, 1], Ids.rows[kept, 0]))]
    for limit in (1, 10, 700, 4000):
        assert least(Ids, mask, limit).tolist() == order[:limit].tolist()  # type: ignore[arg-type]
    Ids.rows[:, 0] = 2**63  # unlike hashes
    order = kept[np.lexsort((Ids.rows[kept, 1], Ids.rows[kept, 0]))]
    assert least(Ids, mask, 10).tolist() == order[:10].tolist()  # type: ignore[arg-type]
