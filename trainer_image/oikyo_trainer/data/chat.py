"""Chats: OpenAI's {role, content} and ShareGPT's {from, value}, checked turn by turn.

The order is that of a chat template: at most one system turn, first; then the user; user and
assistant in turn, tool answers only behind the assistant; the assistant has the last word.
Calls of tools and their answers are checked in `tools`.
"""

from __future__ import annotations

from typing import Any

from . import tools
from .findings import RowFault
from .text import printable
from .tools import Turn

ROLES = ("system", "user", "assistant", "tool")
OTHER_NAMES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "developer": "system",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
CALLING = ("function_call", "tool_call")
"""Roles by which ShareGPT marks a turn whose text is a call."""
FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Role -> roles that may come next; "" is the beginning."""
LONGEST = 10_000


def turns(value: Any, column: str, declared: str | None = None) -> list[Turn]:
    """The turns of a chat that ends with an answer; raises RowFault when it is not one.

    `declared`: the tools that it may call, as `tools.definitions` gives them.
    """
    chat = read_turns(value, column)
    tools.check(chat, declared, column)
    if _check_order(chat, column) != "assistant":
        raise RowFault(
            "no-answer",
            f"the last turn of {column!r} is {chat[-1]['role']}; expected the assistant's answer",
        )
    return chat


def check_prompt(chat: list[Turn], column: str) -> None:
    """RowFault unless an answer may follow these turns."""
    last = _check_order(chat, column)
    if "assistant" not in FOLLOWS[last]:
        raise RowFault("role-order", f"the prompt {column!r} ends with {last}; expected user")


def read_turns(value: Any, column: str) -> list[Turn]:
    """The turns of any list of turns, whatever their order; raises RowFault when it is none."""
    if not isinstance(value, list):
        kind = type(value).__name__
        raise RowFault("wrong-type", f"{column!r} is of type {kind}; expected a list of turns")
    if not value or len(value) > LONGEST:
        raise RowFault("empty-chat", f"{column!r} has {len(value)} turns; expected 2 or more")
    return [_turn(item, f"{column}[{place}]") for place, item in enumerate(value)]


def _turn(item: Any, place: str) -> Turn:
    if not isinstance(item, dict):
        raise RowFault("wrong-type", f"{place} is no object; expected {{role, content}}")
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str):
        raise RowFault("missing-role", f"{place} has no role; expected one of {', '.join(ROLES)}")
    spoken = role.casefold()
    role = OTHER_NAMES.get(spoken, spoken)
    if role not in ROLES:
        raise RowFault("unknown-role", f"{place}.role is not one of {', '.join(ROLES)}")
    if spoken in CALLING:
        called, content = tools.spoken_call(content, place), ""
    else:
        called = tools.calls(item, place) or ""
    text = "" if called and content is None else _content(content, place)
    if not called and (not text or text.isspace()):
        raise RowFault("empty-text", f"{place}.content is empty")
    printable(text, f"{place}.content")
    turn = Turn(role=role, content=text)
    if called:
        printable(called, f"{place}.tool_calls")
        turn["tool_calls"] = called
    if role == "tool":
        turn |= tools.answers(item)
    return turn


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) == len(parts):
            return "".join(texts)
        raise RowFault("wrong-type", f"{place}.content has parts that are no text")
    if content is None:
        raise RowFault("missing-field", f"{place}.content is missing")
    raise RowFault(
        "wrong-type", f"{place}.content is of type {type(content).__name__}; expected text"
    )


def _check_order(chat: list[Turn], column: str) -> str:
    """The role of the last turn; RowFault when a turn stands where no template has it."""
    before = ""
    for place, turn in enumerate(chat):
        if turn["role"] not in FOLLOWS[before]:
            expected = " or ".join(FOLLOWS[before])
            after = f"after {before}" if before else "at the beginning"
            raise RowFault(
                "role-order",
                f"{column}[{place}].role is {turn['role']} {after}; expected {expected}",
            )
        before = turn["role"]
    return before
