"""Watching and reading logs of a job on a desktop, through the commands."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import FineTuneJobStatus, Progress, StageStatus
from oikyo.api.meta import Condition, Metric
from oikyo.cli.app import run_command
from oikyo.cli.portrait import one_line, spark
from oikyo.controller.resolve import run_id
from oikyo.desktop.home import Home, write_atomic
from oikyo.desktop.objects import Store
from oikyo.following.here import PIECE, Here
from oikyo.following.place import Wanted
from scenes import job

WHEN = "2026-11-25T20:00:00Z"


def training(percent: int = 40) -> FineTuneJob:
    return job(
        FineTuneJobStatus(
            phase="Training",
            start_time=WHEN,
            stages=(
                StageStatus(
                    name="prepare", attempt=1, state="Succeeded", started=WHEN, finished=WHEN
                ),
                StageStatus(name="train", attempt=2, state="Running", started=WHEN),
            ),
            progress=Progress(
                stage="train",
                progress_percentage=percent,
                step=40,
                total_steps=100,
                metrics=(Metric(name="loss", value="0.5"), Metric(name="grad_norm", value="1.25")),
            ),
        )
    )


def ended() -> FineTuneJob:
    done = Condition(
        type="Succeeded", status="True", reason="Accepted", message="all gates passed",
        last_transition_time=WHEN,
    )  # fmt: skip
    return job(FineTuneJobStatus(phase="Succeeded", conditions=(done,)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("OIKYO_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return Home(tmp_path)


def write_log(home: Home, name: str, *lines: str) -> None:
    path = home.logs(run_id(training())) / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_a_running_job_is_shown_with_its_curve(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(home).put(training())
    path = home.workspace / layout.stage(run_id(training()), "train") / layout.HISTORY
    path.parent.mkdir(parents=True)
    points = [json.dumps({"step": step, "loss": 4 - step / 10}) for step in range(40)]
    path.write_text("\n".join([*points, '{"step": 40, "lo']), encoding="utf-8")
    assert run_command(["watch", training().metadata.name, "--once"]) == 130
    told = capsys.readouterr().out
    assert "Training" in told
    assert "train #2" in told
    assert "40 %  step 40/100  loss 0.5" in told
    assert "4 -> 0.1, least 0.1" in told
    assert "gradient norm 1.25" in told


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_of_few_columns_shows_stages_and_a_curve_within_them(
    home: Home,
    columns: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Store(home).put(training())
    path = home.workspace / layout.stage(run_id(training()), "train") / layout.HISTORY
    path.parent.mkdir(parents=True)
    points = [json.dumps({"step": step, "loss": 4 - step / 10}) + "\n" for step in range(40)]
    path.write_text("".join(points), encoding="utf-8")
    assert run_command(["watch", training().metadata.name, "--once"]) == 130
    told = capsys.readouterr().out.splitlines()
    assert max(map(len, told)) <= columns
    assert [line for line in told if "train #2" in line and "40 %" in line]
    if columns == 80:
        (curve,) = [line for line in told if line.lstrip().startswith("loss ")]
        assert "4 -> 0.1, least 0.1" in curve


def test_watching_ends_with_the_job_and_its_exit_code(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(home).put(training())
    look = Here.job

    async def looked_at(here: Here, name: str) -> FineTuneJob:
        found = await look(here, name)
        Store(home).put(ended())  # between the first look and the second
        return found

    monkeypatch.setattr(Here, "job", looked_at)
    assert run_command(["watch", training().metadata.name]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Training  train 40 %  step 40/100")
    assert "all gates passed" in told


def test_an_unknown_job_is_told_with_those_that_exist(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(home).put(training())
    assert run_command(["watch", "nobody"]) == 64
    assert f"jobs here: {training().metadata.name}" in capsys.readouterr().err
    assert run_command(["logs", "nobody"]) == 64


def test_logs_of_all_stages_come_in_order_with_the_first_error_said_again(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(home).put(training())
    write_log(home, "train-1", "2026-11-25 20:00:02,000 INFO a step", "ValueError: the cause")
    write_log(home, "prepare-1", "2026-11-25 20:00:01,000 INFO rows are read")
    write_log(home, "train-2", "2026-11-25 20:00:03,000 ERROR later trouble")
    assert run_command(["logs", training().metadata.name]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told[:4]] == ["prepare-1", "train-1", "train-1", "train-2"]
    assert told[-1].startswith("first error: train-1 at ")
    assert told[-1].endswith("ValueError: the cause")


def test_one_stage_and_one_attempt_can_be_asked_for(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    Store(home).put(training())
    for name in ("prepare-1", "train-1", "train-2"):
        write_log(home, name, f"said by {name}")
    assert (
        run_command(["logs", training().metadata.name, "--stage", "train", "--attempt", "2"]) == 0
    )
    assert capsys.readouterr().out.split() == ["train-2", "said", "by", "train-2"]
    assert run_command(["logs", training().metadata.name, "--stage", "sing"]) == 64
    assert "write one of prepare, train, evaluate" in capsys.readouterr().err


async def test_followed_logs_go_on_until_the_job_ends(home: Home) -> None:
    Store(home).put(training())
    write_log(home, "train-1", "first", "half a li")
    place, seen = Here(home), list[str]()

    async def read() -> None:
        async for piece in place.lines(training(), Wanted(), follow=True):
            seen.extend(line.text for line in piece)

    task = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    assert not task.done()
    write_log(home, "train-2", "second")
    Store(home).put(ended())
    await asyncio.wait_for(task, 60)
    assert seen == ["first", "half a li", "second"]


def test_a_curve_keeps_its_shape_in_few_bars() -> None:
    bars = spark([float(100 - step) for step in range(100)], width=8)
    assert bars == "".join(chr(0x2588 - fall) for fall in range(8))
    assert spark([1.0, 1.0]) == chr(0x2581) * 2


def test_a_waiting_job_is_one_word() -> None:
    assert one_line(job()) == "Pending"


def test_a_history_is_read_on_and_anew_once_a_resumed_training_put_a_shorter_one_there(
    home: Home,
) -> None:
    path = home.workspace / layout.stage(run_id(training()), "train") / layout.HISTORY
    path.parent.mkdir(parents=True)
    place = Here(home)
    assert place.curve(training()) == []
    path.write_text('{"step": 1, "loss": 2.0, "grad_norm": 1.0}\n{"step": 2, "lo', encoding="utf-8")
    assert place.curve(training(), "loss") == [{"step": 1, "loss": 2.0}]
    with path.open("a", encoding="utf-8") as file:
        file.write('ss": 1.0}\n{"step": 2, "eval_loss": 1.5}\n')
    reads = path.stat().st_size
    assert place.curve(training(), "loss") == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    assert place._curves[str(path), "loss"]._at == reads
    write_atomic(path, '{"step": 1, "loss": 2.0}\n')
    assert place.curve(training(), "loss") == [{"step": 1, "loss": 2.0}]


async def test_a_log_larger_than_a_piece_is_read_piece_by_piece(home: Home) -> None:
    Store(home).put(ended())
    write_log(home, "train-1", *(f"2026-11-25 20:00:01,000 {n}" for n in range(PIECE)), "no time")
    pieces = [piece async for piece in Here(home).lines(ended(), Wanted(), follow=False)]
    assert [len(piece) for piece in pieces] == [PIECE, 1]
    assert pieces[1][0].time == pieces[0][0].time
