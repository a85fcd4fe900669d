"""Which column carries what: the spec's word, else the usual names; the choice is told with its reason."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from oikyo.api.data import Fields
from oikyo.api.jobstatus import Resolved
from oikyo.api.preferences import Objective
from oikyo.api.tasks import Task

from ..errors import Refused
from .findings import excerpt

Shape = Literal[
    "classification",
    "regression",
    "prompt-completion",
    "messages",
    "preference",
    "unpaired",
    "text",
]
Role = Literal[
    "text",
    "label",
    "prompt",
    "completion",
    "messages",
    "input",
    "chosen",
    "rejected",
    "desirable",
]

TOOLS = ("tools", "functions")
"""Columns that declare the tools of a chat."""
USUAL: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "content", "input"),
    "label": ("label", "category", "intent", "class"),
    "prompt": ("prompt", "instruction", "question"),
    "completion": ("completion", "response", "output", "answer"),
    "messages": ("messages", "conversations"),
    "chosen": ("chosen", "preferred", "chosen_response"),
    "rejected": ("rejected", "dispreferred", "rejected_response"),
    "desirable": ("desirable", "label", "vote", "thumbs_up"),
}
NUMBERS = ("label", "score", "target", "rating", "value")
"""Usual names of a column with numbers to learn."""
SHOWN = 20
"""Columns that a message lists."""


def task_of(shape: Shape) -> Task:
    """The task that learns rows of this shape."""
    tasks: dict[Shape, Task] = {
        "classification": "TextClassification",
        "regression": "TextRegression",
    }
    return tasks.get(shape, "TextGeneration")


def usual(role: str, shape: Shape) -> tuple[str, ...]:
    """The names that the column of `role` usually has in rows of this shape."""
    return NUMBERS if (role, shape) == ("label", "regression") else USUAL[role]


@dataclass(frozen=True)
class Columns:
    """The columns of one file that are read."""

    shape: Shape
    names: dict[str, str]
    """Role -> column."""
    reasons: dict[str, str]
    """Role -> why this column."""
    separator: str = ""
    """What stands between the labels of a row that may have several; empty: each row has one."""

    def resolved(self) -> tuple[Resolved, ...]:
        return tuple(
            Resolved(name=f"data.fields.{role}", value=column[:256], reason=self.reasons[role])
            for role, column in self.names.items()
        )


def choose(
    task: Task,
    fields: Fields,
    present: Sequence[str],
    file: str,
    objective: Objective = "Supervised",
) -> Columns:
    """The columns for `task` among those `present` in `file`; Refused when one is missing."""
    if task == "TextClassification":
        columns = _columns("classification", ("text", "label"), fields, present, file)
        return replace(columns, separator=fields.label_separator or "")
    if task == "TextRegression":
        return _columns("regression", ("text", "label"), fields, present, file)
    if objective != "Supervised":
        return _preferences(objective, fields, present, file)
    chat = fields.messages is not None or (
        fields.prompt is None
        and fields.completion is None
        and any(name in present for name in USUAL["messages"])
    )
    if chat:
        return _with_tools(_columns("messages", ("messages",), fields, present, file), present)
    if _text_alone(fields, present):
        return _columns("text", ("text",), fields, present, file)
    columns = _columns("prompt-completion", ("prompt", "completion"), fields, present, file)
    return _with_alpaca_input(columns, present)


def _preferences(
    objective: Objective, fields: Fields, present: Sequence[str], file: str
) -> Columns:
    """Pairs for DPO and ORPO, votes for KTO; whole chats as answers need no column for the prompt."""
    shape: Shape = "unpaired" if objective == "KTO" else "preference"
    roles: tuple[str, ...] = (
        ("completion", "desirable") if objective == "KTO" else ("chosen", "rejected")
    )
    if fields.prompt is not None or any(name in present for name in USUAL["prompt"]):
        roles = ("prompt", *roles)
    return _columns(shape, roles, fields, present, file)


def _text_alone(fields: Fields, present: Sequence[str]) -> bool:
    """Whether the rows are texts to go on with, and nothing looks like a question or a label."""
    if fields.prompt is not None or fields.completion is not None:
        return False
    if fields.text is not None:
        return True
    others = (*USUAL["prompt"], *USUAL["completion"], *USUAL["label"])
    return "text" in present and not any(name in present for name in others)


def _columns(
    shape: Shape, roles: tuple[str, ...], fields: Fields, present: Sequence[str], file: str
) -> Columns:
    names: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for role in roles:
        given: str | None = getattr(fields, role)
        if given is not None:
            names[role], reasons[role] = given, f"data.fields.{role} says so"
            if given not in present:
                raise _missing(role, shape, given, present, file)
            continue
        taken = set(names.values())
        tried = usual(role, shape)
        found = [name for name in tried if name in present and name not in taken]
        if not found:
            raise _missing(role, shape, None, present, file)
        names[role] = found[0]
        reasons[role] = f"the first of {', '.join(tried)} that {file} has"
    return Columns(shape, names, reasons)


def _with_alpaca_input(columns: Columns, present: Sequence[str]) -> Columns:
    if columns.names["prompt"] != "instruction" or "input" not in present:
        return columns
    if "input" in columns.names.values():
        return columns
    why = "Alpaca's layout: `input` is appended to `instruction` where it is not empty"
    return Columns(
        columns.shape, {**columns.names, "input": "input"}, {**columns.reasons, "input": why}
    )


def _with_tools(columns: Columns, present: Sequence[str]) -> Columns:
    """Chats whose rows declare the tools that may be called."""
    found = next((name for name in TOOLS if name in present), None)
    if found is None or found in columns.names.values():
        return columns
    why = f"the first of {', '.join(TOOLS)} that is there"
    return Columns(
        columns.shape, {**columns.names, "tools": found}, {**columns.reasons, "tools": why}
    )


def _missing(
    role: str, shape: Shape, given: str | None, present: Sequence[str], file: str
) -> Refused:
    called = "number" if (role, shape) == ("label", "regression") else role
    wanted = f"column {given!r} (data.fields.{role})" if given else f"column for the {called}"
    names = usual(role, shape)
    tried = "" if given else f"; tried {', '.join(names)}"
    there = ", ".join(excerpt(name) for name in present[:SHOWN]) or "none"
    more = f" and {len(present) - SHOWN} more" if len(present) > SHOWN else ""
    step = _suggestion(role, (given,) if given else names, present)
    return Refused(
        "MissingColumn",
        f"{file} has no {wanted}{tried}; its columns are {there}{more}",
        evidence=file,
        next_step=step,
    )


def _suggestion(role: str, names: Sequence[str], present: Sequence[str]) -> str:
    folded = {name.casefold().strip(): name for name in reversed(present)}
    for wanted in names:
        near = difflib.get_close_matches(str(wanted).casefold(), folded, n=1, cutoff=0.7)
        if near:
            return f"Did you mean {excerpt(folded[near[0]])!r}? Set data.fields.{role} to it"
    return f"Set data.fields.{role} to the column that carries it"
