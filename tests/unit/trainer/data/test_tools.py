"""Chats that call tools: read in every form, broken ones told, kept in the version, converted, rendered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.data import Fields
from oikyo.api.fewshot import FewShot
from oikyo_trainer.data.columns import choose
from oikyo_trainer.data.convert.shapes import Unlike, columns_of, reshaper
from oikyo_trainer.data.example import Example, converter
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.readers.row import Row
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.prompts import encode
from oikyo_trainer.evaluation.rendering import TemplateRefuses, chat_of
from oikyo_trainer.evaluation.rows import open_dataset
from unit.trainer.evaluation.tiny import tokenizer

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}


def call(arguments: Any = '{"place": "Rome"}', name: str = "weather", **more: Any) -> Any:
    return {"type": "function", **more, "function": {"name": name, "arguments": arguments}}


def calls(*made: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


def answer(text: str = "sunny", **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text, **more}


ASKED = {"role": "user", "content": "How is Rome?"}
LAST = {"role": "assistant", "content": "Sunny."}
WHOLE = [ASKED, calls(call(id="c1")), answer(tool_call_id="c1", name="weather"), LAST]


def read(chat: Any, tools: Any = None) -> Example | BadRow:
    values = {"messages": chat, **({"tools": tools} if tools is not None else {})}
    columns = choose("TextGeneration", fields(), list(values), "chats.jsonl")
    return converter(columns)(Row(7, values))


def fields() -> Any:
    from oikyo.api.data import Fields

    return Fields()


def test_openais_form_is_kept_as_json() -> None:
    found = read(WHOLE, [WEATHER])
    assert isinstance(found, Example)
    assert json.loads(found.payload["tools"]) == [WEATHER]
    turn = found.payload["messages"][1]
    assert turn["content"] == ""
    assert json.loads(turn["tool_calls"]) == [call({"place": "Rome"}, id="c1")]
    assert found.payload["messages"][2]["tool_call_id"] == "c1"


@pytest.mark.parametrize(
    "chat",
    [
        [ASKED, calls(call()), answer(), LAST],
        [ASKED, calls(call(), call()), answer(), answer("rain"), LAST],
        [ASKED, calls(call(id="a"), call(id="b")), answer(tool_call_id="b"),
         answer(tool_call_id="a"), LAST],
        [ASKED, calls(call())],
        [ASKED, {"role": "assistant", "function_call": {"name": "weather", "arguments": "{}"}},
         {"role": "function", "name": "weather", "content": "sunny"}, LAST],
        [{"from": "human", "value": "Rome?"},
         {"from": "function_call", "value": '{"name": "weather", "arguments": {}}'},
         {"from": "observation", "value": "sunny"}, {"from": "gpt", "value": "Sunny."}],
    ],
)  # fmt: skip
def test_every_usual_form_is_read(chat: Any) -> None:
    assert isinstance(read(chat, json.dumps([WEATHER])), Example)


@pytest.mark.parametrize(
    ("chat", "code"),
    [
        ([ASKED, calls(call("{place: Rome}")), answer(), LAST], "tool-arguments"),
        ([ASKED, calls(call("[1]")), answer(), LAST], "tool-arguments"),
        ([ASKED, calls({"function": {"arguments": "{}"}}), answer(), LAST], "tool-arguments"),
        ([ASKED, calls(call(name="traffic")), answer(), LAST], "unknown-tool"),
        ([ASKED, LAST, answer(tool_call_id="c1"), LAST], "tool-answer"),
        ([ASKED, calls(call(id="c1")), answer(tool_call_id="c2"), LAST], "tool-answer"),
        ([ASKED, calls(call()), answer(), answer(), LAST], "tool-answer"),
        ([ASKED, calls(call()), ASKED, LAST], "unanswered-call"),
        ([ASKED, calls(call(), call()), answer(), LAST], "unanswered-call"),
        ([{**ASKED, "tool_calls": [call()]}, LAST], "role-order"),
        ([ASKED, {"role": "assistant", "content": None, "tool_calls": []}], "missing-field"),
    ],
)
def test_what_is_broken_has_a_code_and_a_place(chat: Any, code: str) -> None:
    found = read(chat, [WEATHER])
    assert isinstance(found, BadRow)
    assert (found.code, found.line) == (code, 7)
    assert "messages[" in found.message


@pytest.mark.parametrize(
    "tools", ["{", [{"function": {}}], {"name": "x"}, [{"name": "x", "parameters": 1}]]
)
def test_broken_declarations_have_a_code(tools: Any) -> None:
    found = read(WHOLE, tools)
    assert isinstance(found, BadRow)
    assert found.code == "tool-definition"


def test_chats_that_differ_in_a_call_alone_are_no_duplicates(desk: Any) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(40):
            place = call(json.dumps({"place": f"town {number}"}), id="c")
            yield {"messages": [ASKED, calls(place), answer(tool_call_id="c"), LAST],
                   "tools": [WEATHER]}  # fmt: skip
        yield {"messages": [ASKED, LAST]}

    result = desk.prepare(
        desk.rows("chats.jsonl", list(rows())),
        task="TextGeneration",
        checks=({"code": "conflicting-answers", "action": "Ignore"},),
    )
    assert (result.duplicates, result.train + result.validation + result.test) == (0, 41)
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    turn = pq.read_schema(folder / "train.parquet").field("messages").type.value_type
    assert [field.name for field in turn] == [
        "role", "content", "name", "tool_calls", "tool_call_id"
    ]  # fmt: skip
    kept = open_dataset(desk.workspace, result.dataset_digest).rows("train")
    assert all(None not in turn.values() for row in kept for turn in row["messages"])
    calling = next(row for row in kept if "tools" in row)
    chat = chat_of(calling)
    assert chat.tools == [WEATHER]
    assert chat.messages[1]["tool_calls"][0]["function"]["arguments"]["place"].startswith("town")


def converted(row: dict[str, Any], target: Any) -> dict[str, Any]:
    columns = columns_of([Row(1, row)], Fields(), None, "chats.jsonl")
    (found,) = reshaper(columns, target)(Row(1, row))
    return found


def test_a_round_trip_over_sharegpt_keeps_calls_answers_and_tools() -> None:
    row = {"messages": WHOLE, "tools": [WEATHER]}
    there = converted(row, "sharegpt")
    assert [turn["from"] for turn in there["conversations"]] == [
        "human", "function_call", "observation", "gpt"
    ]  # fmt: skip
    back = converted(there, "messages")
    assert back["tools"] == [WEATHER]
    assert back["messages"] == [
        ASKED, {**calls(call()), "content": ""}, answer(), LAST
    ]  # fmt: skip
    assert converted(back, "sharegpt") == there


def test_a_round_trip_in_openais_form_keeps_the_ids() -> None:
    row = {"messages": WHOLE, "tools": [WEATHER]}
    there = converted(row, "messages")
    assert converted(there, "messages") == there
    assert there["messages"][1]["tool_calls"] == [call(id="c1")]


@pytest.mark.parametrize(
    ("chat", "target", "why"),
    [
        ([ASKED, calls(call(), call()), answer(), answer(), LAST], "sharegpt", "several calls"),
        ([ASKED, {**calls(call()), "content": "Let me see."}], "sharegpt", "beside one"),
        ([ASKED, calls(call())], "prompt-completion", "tools, which prompt-completion cannot"),
    ],
)  # fmt: skip
def test_what_another_form_cannot_hold_is_refused(chat: Any, target: Any, why: str) -> None:
    with pytest.raises(Unlike, match=why):
        converted({"messages": chat}, target)


def test_the_template_of_the_model_renders_tools_calls_and_answers() -> None:
    words = tokenizer()
    words.chat_template = (
        "{% for t in tools or [] %}({{ t.function.name }}){% endfor %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}[{{ c.function.name }} "
        "{{ c.function.arguments.place }}]{% endfor %}</s>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    found = read(WHOLE, [WEATHER])
    assert isinstance(found, Example)
    (encoded,) = encode(words, [found.payload], "messages", Reading(400))
    assert words.decode(encoded.tokens) == (
        "(weather)<user>How is Rome?</s><assistant>[weather Rome]</s><tool>sunny</s>"
        "<assistant>Sunny.</s>"
    )
    assert words.decode(encoded.tokens[encoded.answer]) == "[weather Rome]</s>Sunny.</s>"
    calling = read(WHOLE[:2], [WEATHER])
    assert isinstance(calling, Example)
    (encoded,) = encode(words, [calling.payload], "messages", Reading(400))
    assert encoded.reference == "[weather Rome]"


def test_examples_for_prompts_are_chosen_with_the_version(desk: Any) -> None:
    rows = [{"prompt": f"what is {n} and {n % 7}", "completion": f"it is {n}"} for n in range(80)]
    asked = FewShot(examples=3)
    result = desk.prepare(desk.rows("rows.jsonl", rows), task="TextGeneration", few_shot=asked)
    path = desk.workspace / layout.few_shot(result.dataset_digest, asked)
    kept = json.loads(path.read_text())
    assert len(kept["by_row"]) == result.test
    assert {len(places) for places in kept["by_row"].values()} == {3}
    report = desk.workspace / layout.stage("job-00000000", "prepare") / "report.json"
    assert json.loads(report.read_text())["few_shot"]["chooseBy"] == "Similarity"


def test_a_template_that_would_lose_the_calls_is_refused() -> None:
    words = tokenizer(chat=True)
    for tools in (None, [WEATHER]):
        found = read(WHOLE, tools)
        assert isinstance(found, Example)
        with pytest.raises(TemplateRefuses, match="it does not render tool"):
            encode(words, [found.payload], "messages", Reading(400))
