"""Calls that a model writes come back as OpenAI's tool_calls; what is no call stays text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from oikyo_trainer.serving.tool_calls import CallReader, Style, style_of
from unit.trainer.serving.harness import ServerProcess, released

NAMES = {"weather", "time"}
ROME = '{"name": "weather", "arguments": {"city": "Rome"}}'
LLAMA = '{"name": "weather", "parameters": {"city": "Rome"}}'


def read(style: Style, text: str, size: int) -> tuple[str, list[tuple[str, Any]]]:
    """Text and calls of an answer that comes in pieces of `size` characters."""
    reader = CallReader(style, NAMES)
    told = "".join(reader.push(text[at : at + size]) for at in range(0, len(text), size))
    rest, calls = reader.end()
    return told + rest, [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("style", "text", "told", "called"),
    [
        ("Hermes", f"<tool_call>\n{ROME}\n</tool_call>", "", ["weather"]),
        ("Hermes", f"I look. <tool_call>{ROME}</tool_call>", "I look. ", ["weather"]),
        (
            "Hermes",
            f'<tool_call>{ROME}</tool_call>\n<tool_call>{{"name": "time"}}</tool_call>',
            "",
            ["weather", "time"],
        ),
        ("Llama3", LLAMA, "", ["weather"]),
        ("Llama3", f'\n{LLAMA}; {{"name": "time", "parameters": {{}}}}', "", ["weather", "time"]),
    ],
)
def test_calls_are_read_however_the_text_is_cut(
    style: Style, text: str, told: str, called: list[str], size: int
) -> None:
    said, calls = read(style, text, size)
    assert (said, [name for name, _ in calls]) == (told, called)
    assert calls[0][1] == {"city": "Rome"}


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("style", "text"),
    [
        ("Hermes", "It is sunny, 3 < 4 <tool"),
        ("Hermes", f"<tool_call>{ROME}"),
        ("Hermes", "<tool_call>{broken</tool_call>"),
        ("Hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        ("Hermes", '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>'),
        ("Hermes", f'<tool_call>{ROME}</tool_call><tool_call>{{"name": 3}}</tool_call>'),
        ("Llama3", "It is sunny: " + LLAMA),
        ("Llama3", '{"name": "unknown", "parameters": {}}'),
        ("Llama3", LLAMA[:-1]),
        ("Llama3", '{"answer": 42}'),
        ("Llama3", ""),
    ],
)
def test_what_is_no_whole_call_of_a_declared_tool_stays_text(
    style: Style, text: str, size: int
) -> None:
    assert read(style, text, size) == (text, [])


def test_text_before_a_call_is_told_at_once() -> None:
    reader = CallReader("Hermes", NAMES)
    assert reader.push("I look") == "I look"
    assert reader.push(" <tool") == " "
    assert reader.push("box") == "<toolbox"


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("<tool_call>{{ c | tojson }}</tool_call>", "Hermes"),
        ("<tool_call><function={{ c.name }}>", None),
        ("{% if role == 'ipython' %}{{ '\"parameters\": ' }}", "Llama3"),
        ("[TOOL_CALLS]{{ c }}", None),
    ],
)
def test_the_template_says_which_form_the_model_writes(template: str, style: str | None) -> None:
    assert style_of(template) == style


TEMPLATE = (
    "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}"
    "{% for m in messages %}{{ m.role }} {{ m.content }} "
    "{% for c in m.tool_calls or [] %}<tool_call> {{ c.function.name }} </tool_call> {% endfor %}"
    "{% endfor %}"
)
CALL_WORD = ROME.replace(" ", "")
LESSONS = (
    f"weather user Rome? I look <tool_call> {CALL_WORD} </tool_call>",
    "weather user hello good day",
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def taught(folder: Path, template: str) -> None:
    """A tiny model that has learned LESSONS by heart."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(" ".join(LESSONS).split())]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, eos_token_id=1, pad_token_id=0,
        bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [torch.tensor([[*tokenizer(text)["input_ids"], 1]]) for text in LESSONS]
    for _ in range(60):
        loss = sum(model(input_ids=row, labels=row).loss for row in rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model, workspace = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("workspace")
    taught(model, TEMPLATE)
    server = ServerProcess(workspace, released(workspace, model, "TextGeneration"))
    yield server.wait_ready()
    server.stop()


def chat(server: ServerProcess, text: str, **more: Any) -> Any:
    body = {"model": "words", "messages": [{"role": "user", "content": text}], "temperature": 0}
    return server.client.post(
        "/v1/chat/completions", json=body | {"tools": [WEATHER], "max_tokens": 16} | more
    )


def test_a_model_that_calls_a_tool_is_answered_for_as_openai_does(caller: ServerProcess) -> None:
    (choice,) = chat(caller, "Rome?").json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "I look"
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    said = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    turns = [{"role": "user", "content": "Rome?"}, choice["message"], said]
    assert chat(caller, "", messages=turns).status_code == 200, "the answer can be sent back"


def test_an_answer_without_a_call_is_text(caller: ServerProcess) -> None:
    (choice,) = chat(caller, "hello").json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"].keys() == {"role", "content"}
    assert choice["message"]["content"].strip() == "good day"


def test_a_stream_tells_text_first_and_each_call_whole(caller: ServerProcess) -> None:
    lines = chat(caller, "Rome?", stream=True).text.splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content") or "" for delta in deltas).strip() == "I look"
    (call,) = next(delta["tool_calls"] for delta in deltas if "tool_calls" in delta)
    assert (call["index"], call["function"]["name"]) == (0, "weather")
    assert [event["choices"][0]["finish_reason"] for event in events][-1] == "tool_calls"


def test_without_a_choice_of_tools_a_call_is_told_as_text(caller: ServerProcess) -> None:
    (choice,) = chat(caller, "Rome?", tool_choice="none").json()["choices"]
    assert "<tool_call>" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tool_choice": "required"}, "cannot make the model call a tool"),
        ({"tool_choice": {"type": "function"}}, "cannot make the model call a tool"),
        ({"parallel_tool_calls": False}, "cannot hold the model to one call"),
    ],
)
def test_what_cannot_be_promised_is_refused(
    caller: ServerProcess, more: dict[str, Any], words: str
) -> None:
    answer = chat(caller, "Rome?", **more)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_form_that_is_not_read_is_refused_and_told_as_text_on_request(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    taught(tmp_path, TEMPLATE.replace("tool_call> ", "function=x> "))
    workspace = tmp_path_factory.mktemp("workspace")
    server = ServerProcess(workspace, released(workspace, tmp_path, "TextGeneration")).wait_ready()
    try:
        answer = chat(server, "Rome?")
        assert answer.status_code == 400
        assert "in a form that this server does not read" in answer.json()["error"]["message"]
        assert chat(server, "Rome?", tool_choice="none").status_code == 200
    finally:
        server.stop()
