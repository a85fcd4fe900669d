"""oikyo data convert: between all formats and shapes and back, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED
from oikyo_trainer.data.__main__ import main

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet", "arrow", "jsonl.gz", "csv.zst", "json.zst")
ROUND = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
WORDS = st.text(LETTERS, min_size=1, max_size=30).filter(lambda text: not text.isspace())
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and not set(name) & set("\r\n\ufeff")
)


def put(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def convert(*arguments: object) -> int:
    return main(["convert", *map(str, arguments)])


def there_and_back(folder: Path, given: list[Any], form: str, *shapes: str) -> list[Any]:
    """The rows after a way through the format `form`, or through the shapes, in this order."""
    at = put(folder / "start.jsonl", given)
    steps: list[tuple[str, tuple[str, ...]]] = []
    steps += [(f"through.{form}", ()), ("end.jsonl", ())] if not shapes else []
    steps += [(f"{n}.{form}", ("--to", shape)) for n, shape in enumerate(shapes)]
    for name, more in steps:
        assert convert(at, folder / name, *more) == EXIT_DONE
        at = folder / name
    return [json.loads(line) for line in at.read_bytes().decode().split("\n") if line]


@pytest.mark.parametrize("form", FORMATS)
@ROUND
@given(data=st.data())
def test_texts_come_back_from_every_format(tmp_path: Path, form: str, data: Any) -> None:
    names = data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    text = st.text(LETTERS, max_size=30)
    given = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, text)), min_size=1))
    assert there_and_back(tmp_path, given, form) == given


@pytest.mark.parametrize("form", ["json", "parquet", "arrow"])
def test_nested_values_come_back_from_formats_that_hold_them(tmp_path: Path, form: str) -> None:
    given = [{"n": 1, "f": 0.5, "b": True, "turns": [{"role": "user", "n": [1, 2]}], "null": None}]
    assert there_and_back(tmp_path, given, form) == given


CHAT = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=3).map(
    lambda pairs: [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
)


@ROUND
@given(chats=st.lists(CHAT, min_size=1, max_size=5), system=WORDS)
def test_chats_come_back_from_sharegpt(tmp_path: Path, chats: list[Any], system: str) -> None:
    given = [{"messages": [{"role": "system", "content": system}, *c], "id": 1} for c in chats]
    assert there_and_back(tmp_path, given, "jsonl", "sharegpt", "messages") == given


@ROUND
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5))
def test_answers_come_back_from_every_dialogue(tmp_path: Path, pairs: list[Any]) -> None:
    given = [{"prompt": asked, "completion": answer} for asked, answer in pairs]
    way = ("alpaca", "messages", "sharegpt", "alpaca", "prompt-completion")
    assert there_and_back(tmp_path, given, "jsonl", *way) == given


def test_alpacas_input_becomes_part_of_the_prompt(tmp_path: Path) -> None:
    start = put(tmp_path / "a.jsonl", [{"instruction": "Sum up", "input": "a b", "output": "c"}])
    assert convert(start, tmp_path / "b.jsonl", "--to", "messages") == EXIT_DONE
    (row,) = rows(tmp_path / "b.jsonl")
    assert [turn["content"] for turn in row["messages"]] == ["Sum up\n\na b", "c"]


def test_a_class_becomes_an_answer_and_other_columns_stay(tmp_path: Path) -> None:
    start = put(tmp_path / "a.jsonl", [{"text": "hi", "label": "x", "day": 3}])
    assert convert(start, tmp_path / "b.jsonl", "--to", "prompt-completion") == EXIT_DONE
    assert rows(tmp_path / "b.jsonl") == [{"prompt": "hi", "completion": "x", "day": 3}]


def test_numbers_are_told_from_the_rows_and_columns_may_be_named(tmp_path: Path) -> None:
    data = put(tmp_path / "rows.jsonl", [{"body": "warm", "label": 21.5}])
    assert convert(data, tmp_path / "out.jsonl", "--to", "prompt-completion") == EXIT_REFUSED
    named = ("--to", "prompt-completion", "--column", "text=body")
    assert convert(data, tmp_path / "out.jsonl", *named) == EXIT_DONE
    assert rows(tmp_path / "out.jsonl") == [{"prompt": "warm", "completion": "21.5"}]


def test_a_refusal_of_a_packed_file_is_one_sentence(tmp_path: Path, capfd: Any) -> None:
    data = put(tmp_path / "rows.jsonl", [{"text": ["a"]}])
    assert convert(data, tmp_path / "out.csv.gz") == EXIT_REFUSED
    assert capfd.readouterr().err.count("\n") == 2


def test_a_pair_becomes_two_votes(tmp_path: Path) -> None:
    start = put(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "good", "rejected": "bad"}])
    assert convert(start, tmp_path / "b.jsonl", "--to", "unpaired") == EXIT_DONE
    votes = [(row["completion"], row["desirable"]) for row in rows(tmp_path / "b.jsonl")]
    assert votes == [("good", True), ("bad", False)]
    assert convert(tmp_path / "b.jsonl", tmp_path / "c.jsonl", "--to", "unpaired") == EXIT_DONE
    assert rows(tmp_path / "c.jsonl") == rows(tmp_path / "b.jsonl")


def _turns(*roles: str, **more: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": role, **more} for role in roles]}


REFUSED = [
    (_turns("system", "user", "assistant"), "alpaca", "holds one question and one answer"),
    (_turns("user", "assistant", name="ann"), "sharegpt", "has 'name', which would be lost"),
    (_turns("user", "assistant"), "preference", "it has no rejected answer"),
    ({"prompt": "a", "completion": "b"}, "text-label", "free text is no class"),
    ({"prompt": "a", "completion": "b"}, "unpaired", "it has no vote"),
    ({"prompt": "a", "completion": "b", "output": 1}, "alpaca", "'output' is in the way"),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, "messages", "one answer is worse"),
    ({"text": "a"}, "messages", "plain text has no answer"),
    ({"prompt": "a", "completion": ""}, "messages", "'completion' is empty"),
]


@pytest.mark.parametrize(("row", "to", "sentence"), REFUSED, ids=[str(n) for n in range(9)])
def test_what_would_lose_meaning_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], to: str, sentence: str, capsys: Any
) -> None:
    start = put(tmp_path / "a.jsonl", [row])
    assert convert(start, tmp_path / "b.jsonl", "--to", to) == EXIT_REFUSED
    said = capsys.readouterr().err
    assert sentence in said
    assert "a.jsonl:1" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


HELD = [
    ([{"a": [1]}], "b.csv", "'a' is of type list"),
    ([{"a": "x\ny"}], "b.txt", "the column text alone"),
    ([{"text": "x\ny"}], "b.txt", "one text a line"),
    ([{"a": 1}, {"a": "x"}], "b.parquet", "one type cannot hold"),
    ([{" a": "x"}], "b.csv", "a header cannot hold the column ' a'"),
    ([{"a": "x"}], "b.xml", "names no format that is written"),
    ([{"a": "x"}], "b.parquet.gz", "names no format that is written"),
    ([{"a": "x"}], "none/b.csv", "No such file"),
    ([{"a": "\ud800"}], "b.csv", "not UTF-8"),
    ([{"a": "x"}], "a.jsonl", "is IN itself"),
]


@pytest.mark.parametrize(("given", "name", "sentence"), HELD, ids=[str(n) for n in range(10)])
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(
    tmp_path: Path, given: list[Any], name: str, sentence: str, capsys: Any
) -> None:
    start = put(tmp_path / "a.jsonl", given)
    assert convert(start, tmp_path / name) == EXIT_REFUSED
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_bad_row_leaves_what_stood_there_before(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "b"}\n{"a": \n')
    (tmp_path / "b.csv").write_text("old")
    assert convert(tmp_path / "a.jsonl", tmp_path / "b.csv") == EXIT_REFUSED
    assert "a.jsonl:2" in capsys.readouterr().err
    assert (tmp_path / "b.csv").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_of_several_formats_becomes_one_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    put(tmp_path / "in" / "a.jsonl", [{"text": "a"}])
    (tmp_path / "in" / "b.csv").write_text("text\nb\n")
    assert convert(tmp_path / "in", tmp_path / "all.jsonl") == EXIT_DONE
    assert rows(tmp_path / "all.jsonl") == [{"text": "a"}, {"text": "b"}]
