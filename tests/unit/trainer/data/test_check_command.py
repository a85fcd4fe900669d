"""oikyo data check: what prepare would find, told without writing a version."""

from __future__ import annotations

import json
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
        (["text"], "TextGeneration", "its only usual column is text"),
    ],
)
def test_the_task_is_told_from_the_columns(columns: list[str], task: str, reason: str) -> None:
    guessed = by_columns(columns, Fields())
    assert guessed.task == task
    assert reason in guessed.reason
