"""From rows to examples: what is accepted, and the code of what is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo_trainer.data.columns import Columns
from oikyo_trainer.data.example import Example, converter
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.keys import keys
from oikyo_trainer.data.readers.row import Row

CLASSES = Columns("classification", {"text": "text", "label": "label"}, {})
ALPACA = Columns(
    "prompt-completion", {"prompt": "instruction", "completion": "output", "input": "input"}, {}
)
CHAT = Columns("messages", {"messages": "messages"}, {})


def one(columns: Columns, **values: Any) -> Example | BadRow:
    return converter(columns)(Row(7, values))


@pytest.mark.parametrize(
    ("label", "text"),
    [("a", "a"), (" a  b ", "a b"), (3, "3"), (3.0, "3"), (True, "true"), (0, "0")],
)
def test_a_label_becomes_text(label: Any, text: str) -> None:
    found = one(CLASSES, text="hi", label=label)
    assert isinstance(found, Example)
    assert found.payload == {"text": "hi", "label": text}


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"label": "a"}, "missing-field"),
        ({"text": None, "label": "a"}, "missing-field"),
        ({"text": "", "label": "a"}, "empty-text"),
        ({"text": " \n\t", "label": "a"}, "empty-text"),
        ({"text": 3, "label": "a"}, "wrong-type"),
        ({"text": ["x"], "label": "a"}, "wrong-type"),
        ({"text": "a\0b", "label": "a"}, "nul"),
        ({"text": "\ud800", "label": "a"}, "invalid-utf8"),
        ({"text": "x"}, "missing-label"),
        ({"text": "x", "label": None}, "missing-label"),
        ({"text": "x", "label": "  "}, "missing-label"),
        ({"text": "x", "label": 1.5}, "wrong-type"),
        ({"text": "x", "label": float("nan")}, "wrong-type"),
        ({"text": "x", "label": ["a"]}, "wrong-type"),
        ({"text": "x", "label": "l" * 257}, "long-label"),
        ({"text": "x", "label": 10**300}, "long-label"),
        ({"text": "x" * (1 << 20) + "y", "label": "a"}, "too-long"),
    ],
)
def test_a_row_that_is_no_example_has_a_code(values: dict[str, Any], code: str) -> None:
    found = one(CLASSES, **values)
    assert isinstance(found, BadRow)
    assert (found.line, found.code) == (7, code)


def test_the_input_of_alpaca_is_appended() -> None:
    found = one(ALPACA, instruction="Sum up.", input="Long text", output="Short")
    assert isinstance(found, Example)
    assert found.payload == {"prompt": "Sum up.\n\nLong text", "completion": "Short"}
    bare = one(ALPACA, instruction="Sum up.", input="", output="Short")
    assert isinstance(bare, Example)
    assert bare.payload["prompt"] == "Sum up."


def turn(role: str, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


def test_sharegpt_becomes_messages() -> None:
    chat = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    found = one(CHAT, messages=chat)
    assert isinstance(found, Example)
    assert found.payload["messages"] == [turn("user", "hi"), turn("assistant", "hello")]
    assert found.answer == "hello"


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    found = one(CHAT, messages=[turn("user", parts), turn("assistant")])
    assert isinstance(found, Example)
    assert found.payload["messages"][0]["content"] == "ab"


@pytest.mark.parametrize(
    "roles",
    [
        ["user", "assistant"],
        ["system", "user", "assistant"],
        ["user", "assistant", "user", "assistant"],
        ["user", "assistant", "tool", "tool", "assistant"],
        ["developer", "user", "assistant"],
    ],
)
def test_a_chat_in_order_is_accepted(roles: list[str]) -> None:
    assert isinstance(one(CHAT, messages=[turn(role) for role in roles]), Example)


@pytest.mark.parametrize(
    ("chat", "code"),
    [
        ([], "empty-chat"),
        ("user: hi", "wrong-type"),
        (["hi"], "wrong-type"),
        ([turn("assistant")], "role-order"),
        ([turn("user"), turn("user"), turn("assistant")], "role-order"),
        ([turn("user"), turn("system"), turn("assistant")], "role-order"),
        ([turn("user")], "no-answer"),
        ([turn("system")], "no-answer"),
        ([turn("user"), turn("assistant"), turn("tool")], "no-answer"),
        ([turn("narrator")], "unknown-role"),
        ([{"content": "x"}], "missing-role"),
        ([turn("user"), turn("assistant", "")], "empty-text"),
        ([turn("user"), turn("assistant", None)], "missing-field"),
        ([turn("user", [{"type": "image"}]), turn("assistant")], "wrong-type"),
        ([turn("user"), {**turn("assistant"), "tool_calls": [1]}], "tool-arguments"),
        ([turn("user", "a\0"), turn("assistant")], "nul"),
        (None, "missing-field"),
    ],
)
def test_a_chat_that_cannot_be_learnt_has_a_code(chat: Any, code: str) -> None:
    found = one(CHAT, messages=chat)
    assert isinstance(found, BadRow)
    assert found.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text"]), inner)
    ),
    max_leaves=12,
)


@given(value=JSON, label=JSON)
def test_any_value_gives_an_example_or_a_finding(value: Any, label: Any) -> None:
    for found in (
        one(CHAT, messages=value),
        one(CLASSES, text=value, label=label),
        one(ALPACA, instruction=value, input=label, output="x"),
    ):
        assert isinstance(found, Example | BadRow)
        if isinstance(found, Example):
            keys(42, found.input, found.answer)


def test_whitespace_and_composition_do_not_tell_rows_apart() -> None:
    plain, wide = keys(1, ("caf\u00e9 au lait",), "a"), keys(1, (" cafe\u0301  au\nlait",), "a")
    assert (plain.input, plain.row) == (wide.input, wide.row)
    assert plain.exact != wide.exact


def test_the_seed_moves_rows_but_does_not_rename_them() -> None:
    one_seed, other = keys(1, ("x",), "a"), keys(2, ("x",), "a")
    assert one_seed.input != other.input
    assert one_seed.row == other.row
    assert one_seed.exact == other.exact
