"""Rows of preference learning and plain texts, from a file to a version."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.data import Fields
from oikyo_trainer.data.columns import choose
from oikyo_trainer.data.example import Example, converter
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.readers.row import Row
from oikyo_trainer.errors import Refused

USER = {"role": "user", "content": "Why is the sky blue?"}
GOOD = {"role": "assistant", "content": "Rayleigh scattering."}
BAD = {"role": "assistant", "content": "It is painted."}


def convert(objective: str, row: dict[str, Any], fields: Fields | None = None) -> Example | BadRow:
    columns = choose("TextGeneration", fields or Fields(), list(row), "f", objective)  # type: ignore[arg-type]
    return converter(columns)(Row(7, row))


PAIR = {"prompt": [USER], "chosen": GOOD["content"], "rejected": BAD["content"]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": USER["content"], "chosen": GOOD["content"], "rejected": BAD["content"]},
        {"prompt": [USER], "chosen": GOOD["content"], "rejected": BAD["content"]},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": USER["content"], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"instruction": USER["content"], "preferred": [GOOD], "dispreferred": [BAD]},
        {
            "chosen": [{"from": "human", "value": USER["content"]}, GOOD],
            "rejected": [USER, {"from": "gpt", "value": BAD["content"]}],
        },
    ],
)
def test_every_way_to_write_a_pair_gives_the_same_row(row: dict[str, Any]) -> None:
    example = convert("DPO", row)
    assert isinstance(example, Example)
    assert example.payload == PAIR
    assert convert("ORPO", row) == example


def test_a_long_common_beginning_is_the_prompt() -> None:
    start = [
        {"role": "system", "content": "Be brief."},
        USER,
        GOOD,
        {"role": "user", "content": "?"},
    ]
    example = convert("DPO", {"chosen": [*start, GOOD], "rejected": [*start, BAD]})
    assert isinstance(example, Example)
    assert example.payload["prompt"] == start


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "same-answers"),
        ({"prompt": "q", "chosen": "a", "rejected": [BAD]}, "wrong-type"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "missing-field"),
        ({"chosen": "a", "rejected": "b"}, "missing-field"),
        ({"prompt": [USER, GOOD], "chosen": "a", "rejected": "b"}, "role-order"),
        ({"chosen": [USER, GOOD], "rejected": [USER, BAD, USER, GOOD]}, "no-answer"),
        ({"chosen": [USER, GOOD], "rejected": [USER, USER]}, "no-answer"),
        ({"prompt": "q", "chosen": [], "rejected": [BAD]}, "empty-chat"),
    ],
)
def test_a_broken_pair_is_told(row: dict[str, Any], code: str) -> None:
    bad = convert("DPO", row)
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.code) == (7, code)


@pytest.mark.parametrize(
    ("answer", "vote", "wanted"),
    [
        (GOOD["content"], True, True),
        ([GOOD], False, False),
        ([USER, GOOD], "true", True),
        (GOOD["content"], 0, False),
        (GOOD["content"], "No", False),
    ],
)
def test_every_way_to_write_a_vote_gives_the_same_row(
    answer: object, vote: object, wanted: bool
) -> None:
    example = convert("KTO", {"prompt": USER["content"], "completion": answer, "label": vote})
    assert isinstance(example, Example)
    assert example.payload == {
        "prompt": [USER],
        "completion": GOOD["content"],
        "desirable": wanted,
    }


@pytest.mark.parametrize(
    ("vote", "code"), [("maybe", "wrong-type"), (2, "wrong-type"), (None, "missing-field")]
)
def test_a_vote_is_true_or_false(vote: object, code: str) -> None:
    bad = convert("KTO", {"prompt": "q", "completion": "a", "desirable": vote})
    assert isinstance(bad, BadRow)
    assert bad.code == code


def test_the_columns_of_preferences_can_be_named() -> None:
    fields = Fields(chosen="win", rejected="lose", prompt="q")
    example = convert("DPO", {"q": USER["content"], "win": "a", "lose": "b"}, fields)
    assert isinstance(example, Example)
    with pytest.raises(Refused, match="no column for the rejected"):
        convert("DPO", {"prompt": "q", "chosen": "a"})


def test_pairs_become_a_version_and_contradictions_are_reported(desk: Any) -> None:
    rows = [{"prompt": f"q {i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(60)]
    rows += [rows[0], {"prompt": "q 1", "chosen": "bad 1", "rejected": "good 1"}]
    rows += [{"prompt": "q 2", "chosen": "better", "rejected": "good 2"}]
    path = desk.rows("pairs.jsonl", rows)
    result = desk.prepare(path, task="TextGeneration", objective="DPO")
    assert result.duplicates == 1
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    report = json.loads((folder / "report.json").read_text())
    assert report["conflicts"]["rows"] == 2
    assert json.loads((folder / layout.MANIFEST).read_text())["shape"] == "preference"
    table = pq.read_table(folder / "train.parquet")
    first = table.to_pylist()[0]
    assert first["prompt"][0]["role"] == "user"
    assert first["chosen"] != first["rejected"]


def test_votes_become_a_version(desk: Any) -> None:
    rows = [{"prompt": f"q {i}", "completion": f"a {i}", "label": i % 2 == 0} for i in range(60)]
    rows.append({"prompt": "q 1", "completion": "a 1", "label": True})
    result = desk.prepare(desk.rows("v.jsonl", rows), task="TextGeneration", objective="KTO")
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    assert json.loads((folder / "report.json").read_text())["conflicts"]["rows"] == 2
    votes = pq.read_table(folder / "train.parquet")["desirable"].to_pylist()
    assert {True, False} == set(votes)


def test_a_text_column_alone_is_text_to_go_on_with(desk: Any) -> None:
    rows = [{"text": f"Document {i} tells of {i * i}."} for i in range(60)]
    result = desk.prepare(desk.rows("t.jsonl", rows), task="TextGeneration")
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    assert json.loads((folder / layout.MANIFEST).read_text())["shape"] == "text"
    assert result.columns == {"text": "text"}


def test_a_text_beside_a_label_is_no_text_to_go_on_with() -> None:
    with pytest.raises(Refused, match="no column for the prompt"):
        choose("TextGeneration", Fields(), ["text", "label"], "f")
    named = choose("TextGeneration", Fields(text="body"), ["body", "label"], "f")
    assert named.shape == "text"
