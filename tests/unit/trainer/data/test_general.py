"""General rows in prepare: a version and tokens of their own, apart from the task's rows, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import PrepareResult
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from unit.trainer.data.conftest import Desk, source

LONG = "the quick brown fox jumps over the lazy dog beside the old river bank at noon today"


def answers(number: int, what: str = "task") -> list[dict[str, Any]]:
    return [
        {"prompt": f"{what} question {n} about thing {n * 7}", "completion": f"answer {n}"}
        for n in range(number)
    ]


def texts(number: int, what: str = "general") -> list[dict[str, Any]]:
    return [{"text": f"{what} knowledge number {n} of things {n * 3}"} for n in range(number)]


@pytest.fixture
def llama(desk: Desk) -> Desk:
    from unit.trainer.evaluation.tiny import save_causal

    save_causal(desk.root / "causal")
    desk.model = desk.root / "causal"
    return desk


def prepare(desk: Desk, task: Path, general: Path, **more: Any) -> PrepareResult:
    asked = {"sources": [{"uri": general.as_uri()}], **more.pop("general", {})}
    training = TrainingSpec(general=asked, max_length=64)
    return desk.prepare(
        task,
        task="TextGeneration",
        training=training,
        general=(source(general),),
        max_length=64,
        **more,
    )


def rows_of(desk: Desk, digest: str, split: str) -> list[dict[str, Any]]:
    path = desk.workspace / layout.dataset(digest) / f"{split}.parquet"
    return pq.read_table(path).to_pylist()


def test_general_rows_of_another_form_become_a_version_of_their_own(llama: Desk) -> None:
    task, general = (
        llama.rows("task.jsonl", answers(120)),
        llama.rows("general.jsonl", texts(200)),
    )
    found = prepare(llama, task, general)
    assert found.general is not None
    assert found.general.dataset_digest != found.dataset_digest
    sizes = [len(rows_of(llama, found.general.dataset_digest, s)) for s in ("train", "validation", "test")]  # fmt: skip
    assert sum(sizes) == 200
    assert min(sizes) >= 20
    assert (llama.workspace / layout.tokens(found.general.tokens_digest) / "train.marks").exists()
    told = {item.name: item for item in found.resolved}["training.general"]
    assert (told.value, told.reason.split(",")[0]) == ("200 rows", f"{sizes[0]} to replay")
    again = prepare(llama, task, general)
    assert again.general == found.general


def test_what_the_task_holds_is_never_replayed(llama: Desk) -> None:
    own = answers(120)
    tests = llama.rows("test.jsonl", [*answers(30, "exam"), {"prompt": LONG, "completion": "yes"}])
    task = llama.rows("task.jsonl", own)
    shared = [*answers(30, "exam"), *own[:10], {"prompt": f"say: {LONG}", "completion": "no"}]
    general = llama.rows("general.jsonl", [*answers(200, "general"), *shared])
    found = prepare(llama, task, general, test_sources=(source(tests),))
    assert found.general is not None
    every = [
        row["prompt"]
        for split in ("train", "validation", "test")
        for row in rows_of(llama, found.general.dataset_digest, split)
    ]
    assert len(every) == 200
    assert not {row["prompt"] for row in shared} & set(every)
    told = {item.name: item for item in found.resolved}["training.general"]
    assert told.reason.endswith("; 41 that are the task's own are left out")


@pytest.mark.parametrize(
    ("rows", "reason", "says"),
    [
        ([], "EmptyFile", "training.general: "),
        (texts(6), "GeneralSetTooSmall", "training.general"),
        (answers(120), "GeneralSetTooSmall", "120 more are the task's own rows and do not count"),
        ([{"image": "a.png"}] * 50, "MissingColumn", "training.general: "),
        (
            [{"prompt": f"a {n} " * 40, "completion": f"b {n}"} for n in range(60)],
            "DataCheckFailed",
            "training.general: answer-cut-off",
        ),
    ],
)
def test_general_rows_that_cannot_be_used_are_refused(
    llama: Desk, rows: list[dict[str, Any]], reason: str, says: str
) -> None:
    task, general = llama.rows("task.jsonl", answers(120)), llama.rows("general.jsonl", rows)
    with pytest.raises(Refused) as refused:
        prepare(llama, task, general)
    assert refused.value.reason == reason
    assert says in refused.value.message
    assert refused.value.next_step


def test_the_longest_general_row_counts_for_the_memory(llama: Desk) -> None:
    task = llama.rows("task.jsonl", answers(120))
    long = [{"text": f"general row {n} " + "word " * 40} for n in range(60)]
    small = prepare(llama, task, llama.rows("short.jsonl", texts(60)))
    large = prepare(llama, task, llama.rows("long.jsonl", long))
    assert small.memory is not None
    assert large.memory is not None
    assert small.memory.longest <= large.memory.longest == 64
