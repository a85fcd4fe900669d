"""oikyo data check: what prepare would find, told without writing a version."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.data import Fields
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.data.guess import by_columns


def rows(count: int = 300) -> list[dict[str, Any]]:
    asks = ("money back", "parcel late")
    labels = ("refund", "delivery")
    return [{"text": f"question {i}: {asks[i % 2]}", "label": labels[i % 2]} for i in range(count)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, values: Sequence[dict[str, Any] | str]) -> None:
    lines = [v if isinstance(v, str) else json.dumps(v) for v in values]
    path.write_text("".join(f"{line}\n" for line in lines))


def test_clean_data_is_said_to_be(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(here / "rows.jsonl", rows())
    assert main(["check", "rows.jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "TextClassification: it has the columns text and label"
    assert lines[1].startswith("300 rows; ")
    assert lines[-1] == "nothing refuses a training on this data"
    assert sorted(path.name for path in here.iterdir()) == ["rows.jsonl"]


def test_faults_are_grouped_with_line_and_next_step_and_all_are_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values: list[Any] = rows()
    values[4]["label"] = "refnud"
    values[9] = "no json"
    values[11] = {"text": "mail ann@example.org"}
    values[20] = {**values[18], "label": "delivery"}
    write(here / "rows.jsonl", values)
    assert main(["check", "rows.jsonl"]) == 64
    told = capsys.readouterr()
    lines = told.out.splitlines()
    heads = [line.split(":")[0] for line in lines if line[:1].isupper()][1:]
    assert heads == [
        "Error    label-typo",
        "Error    missing-label",
        "Error    not-json",
        "Warning  conflicting-answers",
        "Warning  small-class",
    ]
    assert "         rows.jsonl:5: has the label 'refnud' (1 row), which looks like" in told.out
    assert "         rows.jsonl:12: the label 'label' is missing (text: mail <EMAIL>)" in lines
    assert "         do: Write the label as the others do" in lines
    assert told.err.startswith("error: label-typo: 1 of 298 rows has a label that looks like")
    assert "Traceback" not in told.err


def test_what_the_options_allow_refuses_nothing(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values: list[Any] = rows()
    values[4]["label"] = "refnud"
    values[9] = "no json"
    write(here / "rows.jsonl", values)
    options = ["--checks", "label-typo=Warn:0.1", "--max-bad-rows", "1"]
    assert main(["check", "rows.jsonl", *options]) == 0
    out = capsys.readouterr().out
    assert "Info     label-typo" in out
    assert "Warning  not-json" in out


def test_programs_read_json_and_the_whole_list(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "rows.jsonl", [*rows(), *["no json"] * 30])
    assert main(["check", "rows.jsonl", "--json", "-o", "all.jsonl"]) == 64
    told = json.loads(capsys.readouterr().out)
    (found,) = told["findings"]
    assert (found["code"], found["count"], len(found["examples"])) == ("not-json", 30, 20)
    assert found["examples"][0]["line"] == 301
    assert told["refused"]["reason"] == "InvalidData"
    assert len((here / "all.jsonl").read_text().splitlines()) == 30


def test_the_tokenizer_of_the_model_tells_what_is_cut(
    here: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [{"prompt": f"ask {i}", "completion": "word " * 40 + f"{i}."} for i in range(400)]
    write(here / "rows.jsonl", values)
    options = ["--model", str(model), "--max-length", "32", "--examples", "1"]
    assert main(["check", "rows.jsonl", *options]) == 0
    out = capsys.readouterr().out
    assert "Warning  long-row: 400 of 400 rows have more tokens than are learnt" in out
    assert "rows.jsonl:1: has 44 tokens, 32 are used (training.maxLength) (ask 0)" in out
    assert "and 399 more" in out


def test_the_format_is_told_with_its_evidence_and_may_be_said_otherwise(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "rows.txt", rows())
    assert main(["check", "rows.txt"]) == 0
    told = "read as JSONL: rows.txt: its first line is a JSON object"
    assert told in capsys.readouterr().out.splitlines()
    assert main(["check", "rows.txt", "--format", "Text", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["task"] == "TextGeneration"
    assert report["resolved"][0] == {
        "name": "data.sources.format",
        "value": "Text",
        "reason": "rows.txt: as data.sources[].format says",
    }


def test_a_file_in_the_folder_above_is_the_persons_own(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(here / "rows.jsonl", rows())
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert main(["check", "../rows.jsonl"]) == 0
    assert main(["convert", "../rows.jsonl", "rows.csv"]) == 0


@pytest.mark.parametrize("verb", ["check", "report"])
def test_a_link_to_itself_is_refused_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (here / "loop.jsonl").symlink_to("loop.jsonl")
    assert main([verb, "loop.jsonl", "--json"]) == 64
    assert capsys.readouterr().err.startswith("error: loop.jsonl cannot be opened")


def test_a_reader_that_has_seen_enough_gets_no_traceback(here: Path) -> None:
    write(here / "rows.jsonl", rows())
    program = [sys.executable, "-m", "oikyo_trainer.data", "check", "rows.jsonl"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


VOTES = [{"prompt": f"ask {i}", "completion": f"say {i}", "desirable": i % 2} for i in range(40)]
PAIRS = [{"prompt": f"ask {i}", "chosen": f"good {i}", "rejected": "bad"} for i in range(40)]
WITH_CATEGORY = [
    {"instruction": f"ask {i}", "input": "", "output": f"say {i}", "category": "qa"}
    for i in range(40)
]


@pytest.mark.parametrize(
    ("values", "columns"),
    [
        (VOTES, {"prompt", "completion", "desirable"}),
        (PAIRS, {"prompt", "chosen", "rejected"}),
        (WITH_CATEGORY, {"prompt", "input", "completion"}),
    ],
)
def test_every_verb_takes_the_rows_for_the_same_as_the_check(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    values: list[dict[str, Any]],
    columns: set[str],
) -> None:
    write(here / "rows.jsonl", values)
    assert main(["report", "rows.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["columns"].keys() == columns
    assert main(["diff", "rows.jsonl", "rows.jsonl"]) == 0
    assert main(["review", "rows.jsonl", "-o", "review.csv"]) == 0
    assert main(["review", "rows.jsonl", "--apply", "review.csv", "-o", "same.jsonl"]) == 0
    assert (here / "same.jsonl").read_text() == (here / "rows.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["absent.jsonl"], "absent.jsonl does not exist"),
        (["rows.jsonl", "--checks", "label-typo"], "write --checks CODE=ACTION[:MAX]"),
        (["rows.jsonl", "--checks", "typo=Warn"], "there is no such check; write one of"),
        (["rows.jsonl", "--checks", "label-typo=warn"], "'Ignore', 'Warn' or 'Fail'"),
        (["rows.jsonl", "--column", "tekst=body"], "write one of text, label"),
        (["rows.jsonl", "--column", "text=body"], "no column 'body' (data.fields.text)"),
        (["rows.jsonl", "--model", "absent"], "absent is no folder"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    write(here / "rows.jsonl", rows())
    assert main(["check", *options]) == 64
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert says in told


@pytest.mark.parametrize(
    ("columns", "task", "reason"),
    [
        (["question", "category"], "TextClassification", "no other task"),
        (["sentence", "intent"], "TextClassification", "sentence and intent"),
        (["instruction", "output", "category"], "TextGeneration", "instruction and output"),
        (["id", "conversations"], "TextGeneration", "the column conversations"),
        (["prompt", "chosen", "rejected"], "TextGeneration", "chosen and rejected"),
        (["prompt", "completion", "thumbs_up"], "TextGeneration", "completion and thumbs_up"),
        (["text"], "TextGeneration", "its only usual column is text"),
    ],
)
def test_the_task_is_told_from_the_columns(columns: list[str], task: str, reason: str) -> None:
    guessed = by_columns(columns, Fields())
    assert guessed.task == task
    assert reason in guessed.reason
