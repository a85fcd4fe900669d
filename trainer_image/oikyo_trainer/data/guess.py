"""Which task a file is for, told from its columns and said with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from oikyo.api.data import Fields
from oikyo.api.preferences import Objective
from oikyo.api.stages import Source
from oikyo.api.tasks import Task

from .columns import USUAL
from .intake import LOOK_AHEAD
from .readers import read
from .readers.row import Row
from .sources import data_files

PAIR = ("chosen", "rejected")
"""Columns that make preferences of rows."""


@dataclass(frozen=True)
class Guess:
    """A task and why it is that one."""

    task: Task
    reason: str
    fields: Fields
    objective: Objective = "Supervised"


def guess(
    source: Source, task: Task | None, fields: Fields, objective: Objective | None = None
) -> Guess:
    """The task of `source`: as given, else by the columns of its first rows."""
    if objective is not None and objective != "Supervised":
        return Guess("TextGeneration", "--objective says so", fields, objective)
    if task is not None:
        return Guess(task, "--task says so", fields)
    items = itertools.islice(read(data_files(source)[0]), LOOK_AHEAD)
    present = list(dict.fromkeys(n for row in items if isinstance(row, Row) for n in row.values))
    return by_columns(present, fields)


def by_columns(present: Sequence[str], fields: Fields) -> Guess:
    """The task for columns that are `present`; whatever has neither is taken for classification.

    A chat, or a prompt with its answer, beats text and label: such files often carry a category too.
    """

    def has(*roles: str) -> list[str]:
        found = [
            getattr(fields, role) or next((n for n in USUAL[role] if n in present), None)
            for role in roles
        ]
        return [name for name in found if name] if all(found) else []

    if all(name in present for name in PAIR):
        return Guess("TextGeneration", _reason(PAIR, present), fields, "DPO")
    for roles in (("messages",), ("prompt", "completion")):
        if columns := has(*roles):
            return Guess("TextGeneration", _reason(columns, present), fields)
    if columns := has("text", "label"):
        return Guess("TextClassification", _reason(columns, present), fields)
    if has("text") and not has("label"):
        return Guess("TextGeneration", "its only usual column is text", fields)
    return Guess("TextClassification", "no other task has its columns either", fields)


def _reason(columns: Sequence[str], present: Sequence[str]) -> str:
    many = "columns" if len(columns) > 1 else "column"
    has = "it has" if all(name in present for name in columns) else "--column names"
    return f"{has} the {many} {' and '.join(columns)}"
