"""Which task a file is for, told from its columns and said with the reason."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from oikyo.api.data import Fields
from oikyo.api.preferences import Objective
from oikyo.api.sources import GivenFormat
from oikyo.api.stages import Source
from oikyo.api.tasks import Task

from ..numbers import number_in
from .columns import NUMBERS, USUAL
from .intake import LOOK_AHEAD
from .readers import read
from .readers.row import Row
from .sources import data_files

MOST = 0.9
"""Share of the values of a column that must be numbers for it to be one of numbers."""
ONLY_TEXT = "its only usual column is text"


@dataclass(frozen=True)
class Said:
    """What a person says of data files; the rest is told from them."""

    task: Task | None = None
    objective: Objective | None = None
    fields: Fields = field(default_factory=Fields)
    format: GivenFormat = "Auto"


@dataclass(frozen=True)
class Guess:
    """A task and why it is that one."""

    task: Task
    reason: str
    fields: Fields
    objective: Objective = "Supervised"


def guess(source: Source, said: Said) -> Guess:
    """The task of `source`: as said, else by the columns of its first rows."""
    fields = said.fields
    if said.objective is not None and said.objective != "Supervised":
        return Guess("TextGeneration", "--objective says so", fields, said.objective)
    if said.task is not None:
        return Guess(said.task, "--task says so", fields)
    items = itertools.islice(read(data_files(source)[0]), LOOK_AHEAD)
    rows = [row for row in items if isinstance(row, Row)]
    return of_rows(rows, fields)


def of_rows(rows: Sequence[Row], fields: Fields) -> Guess:
    """The task that the first rows of a file are for."""
    present = list(dict.fromkeys(name for row in rows for name in row.values))
    guessed = by_columns(present, fields)
    why = _numbers(rows, present, fields) if _may_be_numbers(guessed) else ""
    return Guess("TextRegression", why, fields) if why else guessed


def by_columns(present: Sequence[str], fields: Fields) -> Guess:
    """The task for columns that are `present`; whatever has neither is taken for classification.

    A chat, or a prompt with its answer, beats text and label: such files often carry a category too,
    so `label` alone makes no vote of it either.
    """
    usual = {**USUAL, "desirable": tuple(name for name in USUAL["desirable"] if name != "label")}

    def has(*roles: str) -> list[str]:
        found = [
            getattr(fields, role) or next((n for n in usual[role] if n in present), None)
            for role in roles
        ]
        return [name for name in found if name] if all(found) else []

    if columns := has("chosen", "rejected"):
        return Guess("TextGeneration", _reason(columns, present), fields, "DPO")
    if columns := has("completion", "desirable"):
        return Guess("TextGeneration", _reason(columns, present), fields, "KTO")
    for roles in (("messages",), ("prompt", "completion")):
        if columns := has(*roles):
            return Guess("TextGeneration", _reason(columns, present), fields)
    if columns := has("text", "label"):
        return Guess("TextClassification", _reason(columns, present), fields)
    if has("text") and not has("label"):
        return Guess("TextGeneration", ONLY_TEXT, fields)
    return Guess("TextClassification", "no other task has its columns either", fields)


def _may_be_numbers(guessed: Guess) -> bool:
    return guessed.task == "TextClassification" or guessed.reason == ONLY_TEXT


def _numbers(rows: Sequence[Row], present: Sequence[str], fields: Fields) -> str:
    """Why the rows teach numbers; empty: they do not.

    A label that is a number is a class as long as it is a whole one; a score is a number always.
    """
    names = [fields.label] if fields.label else [n for n in NUMBERS if n in present]
    has_class = any(name in present for name in USUAL["label"])
    for name in names[:1]:
        found = [row.values[name] for row in rows if row.values.get(name) not in (None, "")]
        numbers = [number for value in found if (number := _number(value)) is not None]
        if len(numbers) < MOST * len(found):
            return ""
        part = next((n for n in numbers if not n.is_integer()), None)
        if part is not None:
            return f"its column {name} has numbers such as {part:g}"
        if numbers and not has_class and not fields.label:
            return f"its column {name} has numbers alone"
    return ""


def _number(value: object) -> float | None:
    try:
        return number_in(value)
    except ValueError:
        return None


def _reason(columns: Sequence[str], present: Sequence[str]) -> str:
    many = "columns" if len(columns) > 1 else "column"
    has = "it has" if all(name in present for name in columns) else "--column names"
    return f"{has} the {many} {' and '.join(columns)}"
