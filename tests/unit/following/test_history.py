"""The curve of a training as a table, and in the tools that compare runs."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

from oikyo.api import workspace as layout
from oikyo.cli.app import run_command
from oikyo.controller.resolve import run_id
from oikyo.desktop.home import Home
from oikyo.desktop.objects import Store
from scenes import job

POINTS = [
    {"step": 1, "time": 100.0, "loss": 2.0, "learning_rate": 0.001},
    {"step": 2, "time": 101.0, "loss": 1.5},
    {"step": 2, "time": 102.0, "eval_loss": 1.75},
]


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job of the home in the environment, with a history."""
    monkeypatch.setenv("OIKYO_HOME", str(tmp_path))
    home = Home(tmp_path)
    Store(home).put(job())
    path = home.workspace / layout.stage(run_id(job()), "train") / layout.HISTORY
    path.parent.mkdir(parents=True)
    lines = [json.dumps(point) for point in POINTS]
    path.write_text("\n".join([*lines, '{"step": 3, "lo']), encoding="utf-8")
    return job().metadata.name


def test_a_table_has_a_column_for_each_value(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["history", name]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["loss"] for row in rows] == ["2.0", "1.5", ""]
    assert rows[2]["eval_loss"] == "1.75"


def test_lines_are_written_as_they_were_logged(name: str, tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    assert run_command(["history", name, "--to", "jsonl", "-o", str(target)]) == 0
    assert [json.loads(line) for line in target.read_text().splitlines()] == POINTS


def test_the_history_of_a_version_is_read_from_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "versions" / "words" / "3" / layout.HISTORY
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(POINTS[0]) + "\n")
    assert run_command(["history", str(path)]) == 0
    assert "2.0" in capsys.readouterr().out


def test_tensorboard_reads_what_was_written(name: str, tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    folder = tmp_path / "board"
    assert run_command(["history", name, "--to", "tensorboard", "-o", str(folder)]) == 0
    (file,) = (folder / name).iterdir()
    body, at, seen = file.read_bytes(), 0, []
    while at < len(body):  # length, its checksum, the event, its checksum
        size = int.from_bytes(body[at : at + 8], "little")
        data = body[at + 12 : at + 12 + size]
        assert masked_crc32c(data) == int.from_bytes(body[at + 12 + size :][:4], "little")
        event = Event.FromString(data)
        seen += [(event.step, v.tag, round(v.simple_value, 6)) for v in event.summary.value]
        at += 16 + size
    assert seen == [
        (1, "train/loss", 2.0),
        (1, "train/learning_rate", 0.001),
        (2, "train/loss", 1.5),
        (2, "train/eval_loss", 1.75),
    ]


@pytest.mark.parametrize("tool", ["mlflow", "wandb", "trackio"])
def test_a_tool_that_is_not_installed_is_named_with_its_extra(
    name: str, tool: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert importlib.util.find_spec(tool) is None, f"{tool} is no dependency of the tests"
    assert run_command(["history", name, "--to", tool]) == 1
    assert f"pip install 'oikyo[cli,{tool}]'" in capsys.readouterr().err


def test_an_unknown_tool_is_told_with_those_that_exist(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["history", name, "--to", "paper"]) == 64
    assert "write one of csv, jsonl, tensorboard" in capsys.readouterr().err


def test_a_job_that_logged_nothing_yet_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OIKYO_HOME", str(tmp_path))
    Store(Home(tmp_path)).put(job())
    assert run_command(["history", job().metadata.name]) == 64
    assert "no history yet" in capsys.readouterr().err


def test_a_target_that_takes_nothing_is_told_in_one_block(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    for tool in ("csv", "tensorboard"):
        target = str(tmp_path / "file" / "within")
        assert run_command(["history", name, "--to", tool, "-o", target]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: --to {tool} wrote nothing, or not all to {target}: ")
        assert "next: look at -o" in told
