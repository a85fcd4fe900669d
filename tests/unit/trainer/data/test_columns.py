"""Which columns are read when the spec says, and when it does not."""

from __future__ import annotations

import pytest

from oikyo.api.data import Fields
from oikyo.api.tasks import Task
from oikyo_trainer.data.columns import choose
from oikyo_trainer.errors import Refused

CLASSIFY: Task = "TextClassification"
GENERATE: Task = "TextGeneration"


@pytest.mark.parametrize(
    ("task", "present", "names"),
    [
        (CLASSIFY, ["text", "category"], {"text": "text", "label": "category"}),
        (CLASSIFY, ["intent", "sentence", "id"], {"text": "sentence", "label": "intent"}),
        (CLASSIFY, ["content", "text", "label"], {"text": "text", "label": "label"}),
        (GENERATE, ["question", "answer"], {"prompt": "question", "completion": "answer"}),
        (GENERATE, ["conversations", "prompt"], {"messages": "conversations"}),
        (
            GENERATE,
            ["instruction", "input", "output"],
            {"prompt": "instruction", "completion": "output", "input": "input"},
        ),
        (
            GENERATE,
            ["prompt", "input", "output"],
            {"prompt": "prompt", "completion": "output"},
        ),
    ],
)
def test_the_usual_names_are_found(task: Task, present: list[str], names: dict[str, str]) -> None:
    columns = choose(task, Fields(), present, "rows.csv")
    assert columns.names == names
    assert all(item.reason for item in columns.resolved())


def test_the_spec_beats_the_usual_names() -> None:
    fields = Fields(text="body", label="topic")
    columns = choose(CLASSIFY, fields, ["text", "label", "body", "topic"], "rows.csv")
    assert columns.names == {"text": "body", "label": "topic"}
    assert columns.resolved()[0].reason == "data.fields.text says so"


def test_named_prompt_and_completion_beat_a_chat() -> None:
    columns = choose(GENERATE, Fields(prompt="a", completion="b"), ["a", "b", "messages"], "f")
    assert columns.shape == "prompt-completion"


@pytest.mark.parametrize(
    ("fields", "present", "sentence", "step"),
    [
        (
            Fields(label="categry"),
            ["text", "category"],
            r"rows.csv has no column 'categry' \(data.fields.label\); its columns are text, cat",
            "Did you mean 'category'?",
        ),
        (
            Fields(),
            ["text", "Category "],
            "has no column for the label; tried label, category, intent, class",
            "Did you mean 'Category '?",
        ),
        (Fields(), ["a", "b"], "no column for the text", "Set data.fields.text"),
    ],
)
def test_a_missing_column_is_told_with_those_that_exist(
    fields: Fields, present: list[str], sentence: str, step: str
) -> None:
    with pytest.raises(Refused, match=sentence) as refused:
        choose(CLASSIFY, fields, present, "rows.csv")
    assert step in refused.value.next_step
