"""The stage as a whole: what it writes, what it refuses, and that it never leaves half a version."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.checks import DataCheck
from oikyo.api.split import Split
from oikyo_trainer.data.version import is_whole
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.rows import open_dataset


def tickets(count: int, *, start: int = 0, classes: int = 3) -> list[dict[str, str]]:
    return [
        {"text": f"question number {i}", "label": f"topic {i % classes}"}
        for i in range(start, start + count)
    ]


def tables(desk: Any, digest: str) -> dict[str, list[dict[str, Any]]]:
    folder = desk.workspace / layout.dataset(digest)
    return {
        side: pq.read_table(folder / f"{side}.parquet").to_pylist()
        for side in ("train", "validation", "test")
    }


def test_a_version_holds_every_row_once(desk: Any) -> None:
    rows = tickets(300)
    path = desk.rows("rows.jsonl", [*rows, *rows[:10]])
    result = desk.prepare(path)
    found = tables(desk, result.dataset_digest)
    together = [row for side in found.values() for row in side]
    assert sorted(row["text"] for row in together) == sorted(row["text"] for row in rows)
    assert len({row["id"] for row in together}) == 300
    assert {side: len(rows) for side, rows in found.items()} == {
        "train": result.train,
        "validation": result.validation,
        "test": result.test,
    }
    assert (result.duplicates, result.num_labels) == (10, 3)
    line = int(together[0]["source"].rpartition(":")[2])
    assert rows[line - 1]["text"] == together[0]["text"]


def test_the_manifest_describes_the_files(desk: Any) -> None:
    result = desk.prepare(desk.rows("rows.jsonl", tickets(100)))
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["shape"] == "classification"
    assert manifest["labels"] == ["topic 0", "topic 1", "topic 2"]
    assert sorted(manifest["files"]) == [
        "README.md",
        "cleaned.jsonl",
        "croissant.json",
        "findings.jsonl",
        "report.json",
        "test.parquet",
        "train.parquet",
        "validation.parquet",
    ]
    for name, item in manifest["files"].items():
        body = (folder / name).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (item["size"], item["sha256"])


def test_paths_formats_and_order_do_not_change_the_digest(desk: Any) -> None:
    rows = tickets(200)
    random.Random(1).shuffle(shuffled := list(rows))
    pq.write_table(pa.Table.from_pylist(shuffled[:120]), desk.root / "one.parquet")
    csv = "label,text\r\n" + "".join(f'{r["label"]},"{r["text"]}"\r\n' for r in shuffled[120:])
    first = desk.prepare(desk.rows("rows.jsonl", rows))
    second = desk.prepare(desk.root / "one.parquet", desk.file("two.csv", csv))
    assert first.dataset_digest == second.dataset_digest


def test_the_same_input_gives_the_same_bytes(desk: Any, a_desk: Callable[[str], Any]) -> None:
    path, other = desk.rows("rows.jsonl", tickets(100)), a_desk("other")
    digest = desk.prepare(path).dataset_digest
    assert other.prepare(path).dataset_digest == digest
    for name in ("train.parquet", "manifest.json", "report.json"):
        one, two = (d.workspace / layout.dataset(digest) / name for d in (desk, other))
        assert one.read_bytes() == two.read_bytes()


def test_the_seed_and_the_rows_change_the_digest(desk: Any) -> None:
    path = desk.rows("rows.jsonl", tickets(100))
    digests = {
        desk.prepare(path).dataset_digest,
        desk.prepare(path, split=Split(seed=1)).dataset_digest,
        desk.prepare(desk.rows("more.jsonl", tickets(101))).dataset_digest,
    }
    assert len(digests) == 3


def test_given_test_rows_are_kept_apart_and_removed_from_training(desk: Any) -> None:
    learn = desk.rows("learn.jsonl", tickets(100))
    hold = desk.rows("hold.jsonl", tickets(30, start=90))
    result = desk.prepare(learn, tests=(hold,), min_test_rows=30)
    assert (result.test, result.leaked) == (30, 10)
    assert result.train + result.validation == 90
    found = tables(desk, result.dataset_digest)
    assert not {r["text"] for r in found["train"]} & {r["text"] for r in found["test"]}


def test_two_labels_of_one_text_are_kept_and_reported(desk: Any) -> None:
    rows = [*tickets(100), {"text": "question  number 0", "label": "topic 1"}]
    desk.prepare(desk.rows("rows.jsonl", rows))
    report = json.loads((desk.workspace / "runs/job-00000000/prepare/report.json").read_bytes())
    assert (report["conflicts"]["rows"], report["conflicts"]["inputs"]) == (2, 1)
    (pair,) = report["conflicts"]["examples"]
    assert [item["label"] for item in pair] == ["topic 0", "topic 1"]
    assert pair[1]["where"].endswith("rows.jsonl:101")


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"prompt": "p{}", "completion": "c"}, "prompt-completion"),
        (
            {
                "messages": [
                    {"role": "user", "content": "p{}"},
                    {"role": "assistant", "content": "c"},
                ]
            },
            "messages",
        ),
    ],
)
def test_generation_rows_keep_their_shape(desk: Any, row: dict[str, Any], shape: str) -> None:
    body = "".join(json.dumps(row).replace("{}", str(i)) + "\n" for i in range(100))
    result = desk.prepare(desk.file("rows.jsonl", body), task="TextGeneration")
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert (manifest["shape"], manifest["labels"], result.num_labels) == (shape, [], 0)
    first = open_dataset(desk.workspace, result.dataset_digest).rows("train")[0]
    assert first == json.loads(json.dumps(row).replace("{}", _number(first)))


def _number(row: dict[str, Any]) -> str:
    text = row["prompt"] if "prompt" in row else row["messages"][0]["content"]
    return str(text).removeprefix("p")


def test_bad_rows_are_refused_with_file_and_line(desk: Any) -> None:
    body = "".join(json.dumps(row) + "\n" for row in tickets(50))
    path = desk.file("rows.jsonl", body + '{"text": "mail ann@example.org"}\nno json\n')
    with pytest.raises(Refused) as refused:
        desk.prepare(path)
    error = refused.value
    assert error.reason == "InvalidData"
    assert error.message.startswith("2 bad rows, data.maxBadRows is 0; the first: file://")
    assert "rows.jsonl:51: the label 'label' is missing (text: mail <EMAIL>)" in error.message
    first, second = error.evidence.splitlines()
    assert "rows.jsonl:51: " in first
    assert "rows.jsonl:52: the line is not JSON" in second
    assert "data.maxBadRows" in error.next_step
    report = json.loads((desk.workspace / "runs/job-00000000/prepare/report.json").read_bytes())
    assert report["bad_rows"]["codes"] == {"missing-label": 1, "not-json": 1}
    assert report["refused"]["reason"] == "InvalidData"
    assert list((desk.workspace / "datasets").iterdir()) == []


def test_bad_rows_within_the_limit_are_dropped_and_counted(desk: Any) -> None:
    body = "".join(json.dumps(row) + "\n" for row in tickets(50))
    result = desk.prepare(desk.file("rows.jsonl", body + "no json\n"), max_bad_rows=1)
    assert result.bad_rows == 1
    assert result.train + result.validation + result.test == 50


REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "".join(json.dumps(row) + "\n" for row in tickets(50, classes=1)),
        {},
        "SingleClass",
        "every row has the label 'topic 0'",
    ),
    (
        "".join(json.dumps(row) + "\n" for row in tickets(50)),
        {"min_test_rows": 20},
        "TestSplitTooSmall",
        r"test split has \d rows? \(split.test is 0.1\), data.minTestRows is 20: add data or raise",
    ),
    (
        "".join(json.dumps(row) + "\n" for row in tickets(4)),
        {"split": Split(validation="0.0001", test="0.5")},
        "ValidationTooSmall",
        "the validation split has no row",
    ),
    (
        '{"text": "", "label": ""}\n' * 3,
        {"max_bad_rows": 9},
        "NoRows",
        "no usable row is left of 3",
    ),
    ("text,label\n", {}, "InvalidData", "can be read"),
    ("\n\n", {}, "EmptyFile", "holds no rows"),
    (
        "".join(json.dumps({"text": f"t{i}", "label": f"l{i}"}) + "\n" for i in range(500)),
        {},
        "LabelIsNoClass",
        "column 'label' has 500 different values in 500 rows",
    ),
    ('{"body": "x", "label": "y"}\n', {}, "MissingColumn", "its columns are body, label"),
]


@pytest.mark.parametrize(
    ("body", "more", "reason", "sentence"), REFUSALS, ids=lambda v: str(v)[:20]
)
def test_data_that_cannot_be_trained_on_is_refused(
    desk: Any, body: str, more: dict[str, Any], reason: str, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        desk.prepare(desk.file("rows.jsonl", body), **more)
    assert refused.value.reason == reason
    assert refused.value.next_step


def test_a_label_that_is_only_in_the_test_set_is_refused(desk: Any) -> None:
    learn = desk.rows("learn.jsonl", tickets(100))
    odd = [*tickets(20, start=200), {"text": "odd", "label": "topik 1"}]
    hold = desk.rows("hold.jsonl", odd)
    ignored = (DataCheck(code="label-typo", action="Ignore"),)
    with pytest.raises(Refused, match="the label 'topik 1' that no training row has") as refused:
        desk.prepare(learn, tests=(hold,), checks=ignored)
    assert refused.value.evidence.endswith("hold.jsonl:21")
    assert "Did you mean 'topic 1'?" in refused.value.next_step


def test_files_of_two_shapes_are_refused(desk: Any) -> None:
    one = desk.rows("one.jsonl", [{"prompt": "a", "completion": "b"}])
    two = desk.rows("two.jsonl", [{"messages": []}])
    with pytest.raises(Refused, match=r"two.jsonl holds messages rows, .*one.jsonl prompt-comp"):
        desk.prepare(one, two, task="TextGeneration")


def test_the_same_file_twice_is_refused(desk: Any) -> None:
    path = desk.rows("rows.jsonl", tickets(100))
    (desk.root / "again.jsonl").symlink_to(path)
    with pytest.raises(Refused, match="are the same file"):
        desk.prepare(path, desk.root / "again.jsonl")


def test_a_job_with_the_rows_of_an_earlier_one_writes_no_version_and_says_so(desk: Any) -> None:
    path = desk.rows("rows.jsonl", tickets(100))
    first = desk.prepare(path)
    again = desk.prepare(path, run="job-2")
    assert (first.unchanged, again.unchanged) == (False, True)
    assert first.dataset_digest == again.dataset_digest


def test_a_damaged_version_is_written_again(desk: Any) -> None:
    path = desk.rows("rows.jsonl", tickets(100))
    folder = desk.workspace / layout.dataset(desk.prepare(path).dataset_digest)
    whole = (folder / "train.parquet").read_bytes()
    os.truncate(folder / "train.parquet", 10)
    desk.prepare(path)
    assert (folder / "train.parquet").read_bytes() == whole


def test_progress_reaches_the_reporter(desk: Any) -> None:
    from oikyo_trainer.data.prepare import prepare

    context = desk.context()
    prepare(desk.spec(desk.rows("rows.jsonl", tickets(20_000))), context)
    metrics = {item.name: item.value for item in context.reporter.current.metrics}
    assert int(metrics["rows"]) >= 8192
    assert context.reporter.current.progress_percentage == 99


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_no_half_version(desk: Any) -> None:
    rows = desk.rows("rows.jsonl", tickets(4000))
    (desk.root / "spec.json").write_text(desk.spec(rows).json_line())
    delays = random.Random(7)
    started = time.monotonic()
    assert _stage(desk).wait() == 0
    usual = time.monotonic() - started
    whole = _versions(desk)
    for _ in range(6):
        for folder in ("runs", "datasets", "models"):
            subprocess.run(["rm", "-rf", str(desk.workspace / folder)], check=True)
        process = _stage(desk)
        time.sleep(delays.uniform(0.3, 1.0) * usual)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert all(is_whole(folder) for folder in _versions(desk))
    assert _stage(desk).wait() == 0
    assert _versions(desk) == whole
    left = [p.name for p in (desk.workspace / "datasets").iterdir() if p.name.startswith(".")]
    assert left == []


def _versions(desk: Any) -> list[Path]:
    kinds = ("datasets", "models")
    return sorted(
        path
        for kind in kinds
        for path in (desk.workspace / kind).glob("[0-9a-f]*")
        if path.is_dir()
    )


def _stage(desk: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "oikyo_trainer", "prepare", "--port", "0"]
    command += ["--spec", str(desk.root / "spec.json"), "--workspace", str(desk.workspace)]
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
