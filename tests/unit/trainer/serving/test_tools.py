"""Tools in a request: rendered by the model's template, broken ones told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from oikyo_trainer.evaluation.prompts import render
from oikyo_trainer.serving.errors import ApiError
from oikyo_trainer.serving.requests import ChatRequest
from unit.trainer.evaluation.tiny import tokenizer
from unit.trainer.serving.harness import ServerProcess

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a": 1}'}}
USER = {"role": "user", "content": "Rome?"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
SAID = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


def asked(*messages: Any, **more: Any) -> ChatRequest:
    body = {"model": "words", "messages": list(messages), "tools": [WEATHER], **more}
    return ChatRequest.model_validate(body)


def test_declarations_calls_and_answers_are_rendered() -> None:
    words = tokenizer()
    words.chat_template = (
        "{% for t in tools %}({{ t.function.name }}){% endfor %}"
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}"
        "[{{ c.function.name }} {{ c.function.arguments.a }}]{% endfor %}{% endfor %}"
    )
    tokens = render(words, asked(USER, CALLING, SAID).chat(), open_answer=False)
    assert words.decode(tokens) == "(weather)<user>Rome?<assistant>[weather 1]<tool>sunny"


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ((USER, {**CALLING, "tool_calls": [{**CALL, "function": {"name": "x"}}]}, SAID), "none of"),
        ((USER, {**SAID, "tool_call_id": "c9"}), "which no turn before it makes"),
        ((USER, CALLING, USER), "has no answer"),
    ],
)
def test_a_broken_call_is_a_bad_request(messages: Any, says: str) -> None:
    with pytest.raises(ApiError, match=says) as refused:
        asked(*messages).chat()
    assert refused.value.status == 400


def test_a_turn_that_says_nothing_is_a_bad_request() -> None:
    with pytest.raises(ValidationError, match="content is missing"):
        asked({"role": "assistant"})


def test_a_model_whose_template_knows_no_tools_says_so(generator: ServerProcess) -> None:
    body = {"model": "words", "messages": [USER], "tools": [WEATHER], "max_tokens": 3}
    answer = generator.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "it does not render tools" in answer.json()["error"]["message"]
    broken = generator.client.post("/v1/chat/completions", json=body | {"messages": [USER, SAID]})
    assert broken.status_code == 400
    assert "no turn before it makes" in broken.json()["error"]["message"]
