"""Synthetic rows: of training rows alone, marked, the same bytes for the same inputs."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api.augment import Augment, Edits, Synonyms
from oikyo_trainer.data.augment import edits
from oikyo_trainer.data.keys import normalise
from oikyo_trainer.errors import Refused

WORDS = [a + b + c for a in "bdfklmnprst" for b in "aeiou" for c in ("ket", "lon", "mis", "rad")]


def rows(count: int = 200, classes: int = 3) -> list[dict[str, str]]:
    dice = random.Random(5)
    return [
        {"text": " ".join(dice.choices(WORDS, k=9)), "label": f"topic {i % classes}"}
        for i in range(count)
    ]


def version(desk: Any, result: Any) -> Path:
    return desk.workspace / "datasets" / result.dataset_digest.removeprefix("sha256:")


def table(desk: Any, result: Any, side: str) -> list[dict[str, Any]]:
    return pq.read_table(version(desk, result) / f"{side}.parquet").to_pylist()


def test_only_the_training_split_grows_and_every_row_says_what_it_is(desk: Any) -> None:
    path = desk.rows("rows.jsonl", rows())
    plain = desk.prepare(path)
    more = desk.prepare(path, run="job-1", augment=Augment(edits=Edits(), per_row=2))
    assert more.dataset_digest != plain.dataset_digest
    for side in ("validation", "test"):
        given = [
            {k: v for k, v in row.items() if k != "synthetic"} for row in table(desk, more, side)
        ]
        assert given == table(desk, plain, side)
        assert not any(row["synthetic"] for row in table(desk, more, side))
    trained = table(desk, more, "train")
    made = [row for row in trained if row["synthetic"]]
    own = {row["source"]: row for row in trained if not row["synthetic"]}
    assert [r["id"] for r in own.values()] == [r["id"] for r in table(desk, plain, "train")]
    assert len(made) == more.synthetic > len(own)
    assert more.train == plain.train + more.synthetic
    for row in made:
        assert row["synthetic"] == "edits"
        assert row["label"] == own[row["source"]]["label"]
        assert normalise(row["text"]) != normalise(own[row["source"]]["text"])


def test_no_synthetic_row_says_what_a_held_out_row_says(desk: Any) -> None:
    data = [
        {"text": f"please {verb} card {i} for my {thing} account today", "label": thing}
        for i in range(60)
        for verb in ("block", "freeze")
        for thing in ("giro", "savings")
    ]
    synonyms = (
        Synonyms(word="block", instead=("freeze",)),
        Synonyms(word="freeze", instead=("block",)),
    )
    how = Edits(swap="0.0", delete="0.0", replace="0.99", synonyms=synonyms)
    # Ignore: else the two wordings stand on one side to begin with, which is the better protection.
    near = {"near": "Ignore"}
    result = desk.prepare(
        desk.rows("rows.jsonl", data), augment=Augment(edits=how), duplicates=near
    )
    held = {r["text"] for side in ("validation", "test") for r in table(desk, result, side)}
    trained = table(desk, result, "train")
    assert not [row for row in trained if row["text"] in held]
    report = json.loads((version(desk, result) / "report.json").read_text())
    dropped = report["augment"]["dropped"]
    assert dropped["leaked"] > 0
    assert dropped["duplicate"] > 0
    texts = [(row["text"], row["label"]) for row in trained]
    assert len(texts) == len(set(texts))


def test_a_synthetic_row_that_is_almost_a_held_out_row_is_left_out(desk: Any) -> None:
    tail = " ".join(f"word{i}" for i in range(30))
    data = [{"text": f"{name} {i} {tail} {name} {i}", "label": name}
            for i in range(80) for name in ("one", "two")]  # fmt: skip
    long = [{"text": f"a question of its own about matter {i} and {i * i}", "label": "one"}
            for i in range(80)]  # fmt: skip
    how = Augment(templates=("{text} " + tail + " one 5",))
    result = desk.prepare(desk.rows("rows.jsonl", data + long), augment=how)
    report = json.loads((version(desk, result) / "report.json").read_text())
    assert report["augment"]["dropped"]["near-leak"] > 0


def test_the_same_inputs_give_the_same_version(a_desk: Any) -> None:
    how = Augment(
        edits=Edits(typos="0.1"), templates=("Hello, {text}", "{text} Thanks."), per_row=3
    )
    made = []
    for name in ("one", "two"):
        desk = a_desk(name)
        result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=how)
        trained = pq.read_table(version(desk, result) / "train.parquet")
        made.append((result.dataset_digest, trained.drop_columns("source")))
    assert made[0][0] == made[1][0]
    assert made[0][1].equals(made[1][1])
    other = a_desk("three")
    again = other.prepare(
        other.rows("rows.jsonl", rows()), augment=how.model_copy(update={"seed": 7})
    )
    assert again.dataset_digest != result.dataset_digest


def test_small_classes_are_filled_up_to_the_share_and_no_other(desk: Any) -> None:
    data = [{"text": f"a large matter {i}", "label": "large"} for i in range(200)]
    data += [{"text": f"a small matter {i}", "label": "small"} for i in range(40)]
    result = desk.prepare(desk.rows("rows.jsonl", data), augment=Augment(balance="0.5"))
    trained = table(desk, result, "train")
    count = {name: sum(row["label"] == name for row in trained) for name in ("large", "small")}
    assert count["small"] == (count["large"] + 1) // 2
    assert {row["synthetic"] for row in trained if row["label"] == "small"} == {None, "repeat"}
    assert len({row["id"] for row in trained}) == len(trained)
    assert not any(row["synthetic"] for row in trained if row["label"] == "large")


def test_of_a_chat_the_last_question_is_changed_and_nothing_else(desk: Any) -> None:
    data = [
        {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": f"What is {i}?"},
                {"role": "assistant", "content": f"It is {i}."},
            ]
        }
        for i in range(100)
    ]
    how = Augment(templates=("Tell me: {text}",))
    result = desk.prepare(desk.rows("rows.jsonl", data), task="TextGeneration", augment=how)
    made = [row["messages"] for row in table(desk, result, "train") if row["synthetic"]]
    assert made
    for system, question, answer in made:
        assert system["content"] == "Be short."
        number = question["content"].removeprefix("Tell me: What is ").removesuffix("?")
        assert answer["content"] == f"It is {number}."


def test_calls_of_tools_stay_as_they_are(desk: Any) -> None:
    call = {"type": "function", "id": "1", "function": {"name": "sum", "arguments": {"a": 1}}}
    tool = {"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}
    data = [
        {
            "messages": [
                {"role": "user", "content": f"Add one and {i}"},
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": str(i + 1), "tool_call_id": "1"},
                {"role": "assistant", "content": f"It is {i + 1}."},
            ],
            "tools": [tool],
        }
        for i in range(100)
    ]
    how = Augment(templates=("Please: {text}",))
    result = desk.prepare(desk.rows("rows.jsonl", data), task="TextGeneration", augment=how)
    trained = table(desk, result, "train")
    own = {row["source"]: row for row in trained if not row["synthetic"]}
    made = [row for row in trained if row["synthetic"]]
    assert len(made) == len(own)
    for row in made:
        before = own[row["source"]]
        assert row["tools"] == before["tools"]
        assert row["messages"][1:] == before["messages"][1:]
        assert row["messages"][0]["content"] == f"Please: {before['messages'][0]['content']}"


def test_card_and_page_count_them(desk: Any) -> None:
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=Augment(edits=Edits()))
    card = (version(desk, result) / "README.md").read_text()
    assert f"{result.synthetic} rows of the training split were made" in card
    page = (desk.workspace / "runs/job-00000000/prepare/report.html").read_text()
    assert f"{result.synthetic} rows of the training split were made" in page


@pytest.mark.parametrize(
    ("data", "task", "how", "sentence"),
    [
        ([{"text": f"a text {i}"} for i in range(60)], "TextGeneration", {"edits": {}}, "changes the input"),
        ([{"prompt": f"p {i}", "completion": f"c {i}"} for i in range(60)], "TextGeneration",
         {"balance": "1"}, "fills up classes"),
    ],
)  # fmt: skip
def test_what_cannot_be_augmented_is_refused(
    desk: Any, data: Any, task: str, how: Any, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        desk.prepare(desk.rows("rows.jsonl", data), task=task, augment=Augment.model_validate(how))


def test_edits_keep_numbers_and_leave_a_word(desk: Any) -> None:
    how = Edits(swap="0.3", delete="0.5", typos="0.5")
    text = "refund 42 euros for order 1234567 please soon"
    made = {edits.edited(text, how, edits.dice(1, b"row", copy)) for copy in range(50)}
    assert len(made) > 40
    assert all("42" in one and "1234567" in one for one in made)
    assert all(edits.edited("word", how, edits.dice(1, b"row", n)) for n in range(20))
    assert edits.edited(text, how, edits.dice(1, b"row", 3)) == edits.edited(
        text, how, edits.dice(1, b"row", 3)
    )


def test_synonyms_keep_case_and_punctuation() -> None:
    how = Edits(
        swap="0.0", delete="0.0", replace="0.999", synonyms=(Synonyms(word="card", instead=("bank card",)),)
    )  # fmt: skip
    dice = edits.dice(3, b"row", 0)
    assert edits.edited("Card? My card, please.", how, dice) == "Bank card? My bank card, please."


def test_slices_travel_with_the_rows_that_were_made(desk: Any) -> None:
    data = [{**row, "channel": f"channel {i % 2}"} for i, row in enumerate(rows())]
    result = desk.prepare(
        desk.rows("rows.jsonl", data), augment=Augment(edits=Edits()), slice_by=("channel",)
    )
    trained = table(desk, result, "train")
    own = {row["source"]: row["meta.channel"] for row in trained if not row["synthetic"]}
    assert [row for row in trained if row["synthetic"]]
    assert all(own[row["source"]] == row["meta.channel"] for row in trained)
