"""Which texts of a row are cleaned, and as what; the other values of it stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from ..chat import OTHER_NAMES
from ..columns import Columns

Kind = Literal["Input", "System", "Answer"]
Change = Callable[[str, Kind, str], str]
"""(text, kind, column) -> the text to put in its place."""

KINDS: dict[str, Kind] = {
    "text": "Input",
    "prompt": "Input",
    "input": "Input",
    "messages": "Input",
    "completion": "Answer",
    "chosen": "Answer",
    "rejected": "Answer",
}
"""Role of a column -> what its text is. Labels and votes are not in it: they are never changed."""


def rewritten(values: Mapping[str, Any], columns: Columns, change: Change) -> Mapping[str, Any]:
    """The row with `change` made to each text of it; the same object when nothing changed."""
    new: dict[str, Any] = {}
    for role, column in columns.names.items():
        kind, value = KINDS.get(role), values.get(column)
        if kind is None or value is None:
            continue
        if isinstance(value, str):
            after: Any = change(value, kind, column)
        elif isinstance(value, list):
            after = _turns(value, column, change)
        else:
            continue
        if after is not value:
            new[column] = after
    return {**values, **new} if new else values


def _turns(chat: list[Any], column: str, change: Change) -> list[Any]:
    after = [_turn(item, column, change) for item in chat]
    return chat if all(a is b for a, b in zip(after, chat, strict=True)) else after


def _turn(item: Any, column: str, change: Change) -> Any:  # Any: whatever the file holds
    if not isinstance(item, dict):
        return item
    key = "content" if "content" in item else "value"
    role, text = item.get("role", item.get("from")), item.get(key)
    if not isinstance(role, str) or not isinstance(text, str):
        return item
    after = change(text, _said_by(role), column)
    return item if after is text else {**item, key: after}


def _said_by(role: str) -> Kind:
    name = OTHER_NAMES.get(role.casefold(), role.casefold())
    return "Answer" if name == "assistant" else "System" if name in ("system", "tool") else "Input"
