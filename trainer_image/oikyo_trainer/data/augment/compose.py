"""The text of a row that augmentation changes: its input, never its answer."""

from __future__ import annotations

from typing import Any

from ...errors import Refused
from ..columns import Columns, Shape

Payload = dict[str, Any]  # the columns of the dataset: text, or a list of turns
INPUT: dict[Shape, str] = {
    "classification": "text",
    "regression": "text",
    "prompt-completion": "prompt",
    "messages": "messages",
}


def check(shape: Shape) -> None:
    """Refused for rows without an input that may be said in other words."""
    if shape not in INPUT:
        raise Refused(
            "CannotAugment",
            f"data.augment changes the input of a row and keeps its answer; {shape} rows are not that",
            next_step="Drop data.augment, or train on text and label, prompt and completion, or chats",
        )


def columns(shape: Shape) -> Columns:
    """The columns of a payload, read as those of a file are."""
    names = {
        "classification": ("text", "label"),
        "regression": ("text", "label"),
        "prompt-completion": ("prompt", "completion"),
        "messages": ("messages", "tools"),
    }[shape]
    return Columns(shape, {name: name for name in names}, {})


def text_of(shape: Shape, payload: Payload) -> str:
    """The input; of a chat what the user said last."""
    if shape == "messages":
        return str(payload["messages"][_asked(payload)]["content"])
    return str(payload[INPUT[shape]])


def with_text(shape: Shape, payload: Payload, text: str) -> Payload:
    """`payload` with another input."""
    if shape != "messages":
        return {**payload, INPUT[shape]: text}
    # A turn of the dataset has every field that a turn may have; what it does not say is null.
    turns = [{k: v for k, v in turn.items() if v is not None} for turn in payload["messages"]]
    turns[_asked(payload)]["content"] = text
    return {**payload, "messages": turns}


def _asked(payload: Payload) -> int:
    turns = payload["messages"]
    said = [n for n, turn in enumerate(turns[:-1]) if turn["role"] == "user"]
    return said[-1] if said else 0
