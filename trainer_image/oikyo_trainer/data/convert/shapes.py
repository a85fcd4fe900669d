"""From a row of one shape to rows of another, where both mean the same; else a refusal that says why.

Rows are read as the prepare stage reads them, so what is converted is what would be learnt. Columns
that belong to no shape are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from oikyo.api.data import Fields
from oikyo.api.preferences import Objective
from oikyo.api.tasks import Task

from ...errors import Refused
from ...numbers import number_in, text_of
from ..columns import Columns, choose
from ..example import Payload, converter
from ..findings import BadRow
from ..guess import of_rows
from ..readers.row import Row
from ..tools import Turn

Target = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt-completion",
    "text-label",
    "text-number",
    "preference",
    "unpaired",
    "text",
]
TARGETS: tuple[Target, ...] = get_args(Target)
Values = dict[str, Any]  # a row: any JSON or Arrow value by column

SPEAKERS = {"user": "human", "assistant": "gpt"}
"""Roles by ShareGPT's names; others are called the same."""
TURN_KEYS = {"role", "content", "from", "value", "tool_calls", "function_call", "tool_call_id"}
TASKS: dict[Target, tuple[Task, Objective]] = {
    "text-label": ("TextClassification", "Supervised"),
    "text-number": ("TextRegression", "Supervised"),
    "preference": ("TextGeneration", "DPO"),
    "unpaired": ("TextGeneration", "KTO"),
}
SHAPES = {
    "messages": "messages",
    "sharegpt": "messages",
    "alpaca": "prompt-completion",
    "prompt-completion": "prompt-completion",
    "text-label": "classification",
    "text-number": "regression",
    "preference": "preference",
    "unpaired": "unpaired",
    "text": "text",
}
"""Name on the command line -> shape under which it is read."""


class Unlike(ValueError):
    """Why a row cannot be said in the other shape."""


def columns_of(first: Sequence[Row], fields: Fields, given: Target | None, file: str) -> Columns:
    """The columns of a file that begins with the rows `first`, of the shape `given` or as they tell."""
    present = list(dict.fromkeys(name for row in first for name in row.values))
    guessed = of_rows(first, fields)
    task, objective = guessed.task, guessed.objective
    if given:
        task, objective = TASKS.get(given, ("TextGeneration", "Supervised"))
    columns = choose(task, fields, present, file, objective)
    if given and columns.shape != SHAPES[given]:
        raise Refused(
            "MixedShapes",
            f"{file} holds {columns.shape} rows, and --from says {given}",
            next_step="Leave --from out, or name the shape that it has",
        )
    return columns


def reshaper(columns: Columns, target: Target) -> Callable[[Row], Iterator[Values]]:
    """The function that says rows of `columns` in the shape `target`; raises Unlike."""
    read, own = converter(columns), set(columns.names.values())

    def reshape(row: Row) -> Iterator[Values]:
        example = read(row)
        if isinstance(example, BadRow):
            raise Unlike(example.message)
        _check_turns(row.values, own - {columns.names.get("tools", "")})
        rest = {name: value for name, value in row.values.items() if name not in own}
        for values in say(example.payload, columns.shape, target):
            if taken := sorted(rest.keys() & values.keys()):
                raise Unlike(
                    f"its column {taken[0]!r} is in the way: {target} has one of that name"
                )
            yield {**values, **rest}

    return reshape


def _check_turns(values: Mapping[str, Any], own: set[str]) -> None:
    for name in own:
        turns = values.get(name)
        for turn in turns if isinstance(turns, list) else ():
            known = TURN_KEYS | ({"name"} if turn.get("role") in ("tool", "function") else set())
            if more := sorted(key for key in turn.keys() - known if turn[key] is not None):
                raise Unlike(f"a turn of {name!r} has {more[0]!r}, which would be lost")


def say(payload: Payload, shape: str, target: Target) -> Iterator[Values]:
    """The row or rows of the shape `target` that mean what `payload` means; raises Unlike."""
    if shape == "messages":
        yield _chats(payload, target)
    elif shape == SHAPES[target] and target != "alpaca":
        yield _plain(payload) if shape in ("preference", "unpaired") else dict(payload)
    elif shape == "preference" and target == "unpaired":
        for answer, wanted in ((payload["chosen"], True), (payload["rejected"], False)):
            yield _plain({"prompt": payload["prompt"], "completion": answer, "desirable": wanted})
    elif shape == "classification" and target == "text-number":
        yield _numbered(payload)
    elif (shape, target) == ("regression", "text-label"):
        raise Unlike("a number is no class")
    elif shape in ("prompt-completion", "classification", "regression"):
        yield _dialogue(_chat(payload, shape), target)
    else:
        raise Unlike(_why(shape, target))


def _numbered(payload: Payload) -> Values:
    try:
        return {**payload, "label": number_in(payload["label"])}
    except ValueError as error:
        raise Unlike(f"its label {payload['label']!r} {error}") from None


def _chats(payload: Payload, target: Target) -> Values:
    """A chat, with its tools in the form that the target has for them."""
    tools = json.loads(payload["tools"]) if "tools" in payload else None
    calling = any("tool_calls" in turn or "tool_call_id" in turn for turn in payload["messages"])
    if target == "messages":
        more = {"tools": tools} if tools else {}
        return {"messages": [_openai(turn) for turn in payload["messages"]], **more}
    if not calling and not tools:
        return _dialogue(_chat(payload, "messages"), target)
    if target != "sharegpt":
        raise Unlike(f"it has tools, which {target} cannot hold")
    said = [_sharegpt(turn) for turn in payload["messages"]]
    more = {"tools": json.dumps(tools, ensure_ascii=False)} if tools else {}
    return {"conversations": said, **more}


def _openai(turn: Turn) -> Values:
    """The turn as OpenAI's API has it: arguments are JSON text."""
    if "tool_calls" not in turn:
        return dict(turn)
    calls = json.loads(turn["tool_calls"])
    for call in calls:
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return {**turn, "tool_calls": calls}


def _sharegpt(turn: Turn) -> Values:
    """The turn under ShareGPT's names; calls and answers belong together by their order there."""
    if turn["role"] == "tool":
        return {"from": "observation", "value": turn["content"]}
    if "tool_calls" not in turn:
        return {"from": SPEAKERS.get(turn["role"], turn["role"]), "value": turn["content"]}
    calls = json.loads(turn["tool_calls"])
    if len(calls) > 1 or turn["content"]:
        raise Unlike("a turn makes several calls, or says something beside one; ShareGPT has one")
    function = calls[0]["function"]
    value = {"name": function["name"], "arguments": function["arguments"]}
    return {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}


def _plain(payload: Payload) -> Values:
    """A prompt of one user's turn as text, as most data sets write it."""
    turns = payload["prompt"]
    alone = len(turns) == 1 and turns[0]["role"] == "user"
    return {**payload, "prompt": turns[0]["content"] if alone else turns}


def _chat(payload: Payload, shape: str) -> list[dict[str, str]]:
    if shape == "messages":
        return [dict(turn) for turn in payload["messages"]]
    asked, answer = ("prompt", "completion") if shape == "prompt-completion" else ("text", "label")
    said = payload[answer]
    return [
        {"role": "user", "content": payload[asked]},
        {"role": "assistant", "content": text_of(said) if shape == "regression" else said},
    ]


def _dialogue(chat: list[dict[str, str]], target: Target) -> Values:
    if target == "messages":
        return {"messages": chat}
    if target == "sharegpt":
        said = [{"from": SPEAKERS.get(t["role"], t["role"]), "value": t["content"]} for t in chat]
        return {"conversations": said}
    if target not in ("alpaca", "prompt-completion"):
        raise Unlike(_why("dialogue", target))
    if [turn["role"] for turn in chat] != ["user", "assistant"]:
        roles = ", ".join(turn["role"] for turn in chat[:6])
        raise Unlike(f"it has the turns {roles}; {target} holds one question and one answer")
    asked, answer = chat[0]["content"], chat[1]["content"]
    if target == "alpaca":
        return {"instruction": asked, "input": "", "output": answer}
    return {"prompt": asked, "completion": answer}


def _why(shape: str, target: Target) -> str:
    if target == "text-number":
        return "an answer in free text is no number"
    if target == "text-label":
        return "an answer in free text is no class"
    if target == "text":
        return "only the chat template of a model makes one text of it; training applies it"
    if target in ("preference", "unpaired"):
        return f"it has no {'rejected answer' if target == 'preference' else 'vote'}"
    if shape == "text":
        return "plain text has no answer"
    return f"{target} would lose that one answer is worse than another"
