"""From a row of a file to an example of the task, or to the reason why it is none.

An example has an input and an answer. The input alone decides its side of the split and whether it
leaks into the test set; input and answer together decide whether it is a duplicate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from .. import labelset, numbers
from .chat import turns
from .columns import Columns, Shape
from .findings import BadRow, RowFault, excerpt
from .keys import normalise
from .preferences import pair, vote
from .readers.row import LONGEST_ROW, Row
from .text import MISSING, printable, text_of
from .tools import Turn, definitions
from .tools import said as parts

Payload = dict[str, Any]  # the columns of the dataset: text, or a list of turns
LONGEST_LABEL = 256


class Example(NamedTuple):
    """One usable row."""

    line: int
    input: tuple[str, ...]
    """The parts of the input: a text, a prompt, or role and content of every turn but the last."""
    answer: str
    payload: Payload
    length: int
    """Characters of all texts."""
    question: tuple[str, ...] | None = None
    """What has one answer only; None: the input."""


Convert = Callable[[Row], Example | BadRow]


def converter(columns: Columns) -> Convert:
    """The function that turns rows of one file into examples."""
    kind = _KINDS[columns.shape]
    if columns.separator:
        kind = partial(_several, separator=columns.separator)

    def convert(row: Row) -> Example | BadRow:
        try:
            example = kind(row, columns.names)
            if example.length > LONGEST_ROW:
                raise RowFault("too-long", f"the row is longer than {LONGEST_ROW >> 20} MiB")
            return example
        except RowFault as fault:
            return BadRow(row.line, fault.code, str(fault), _shown(row.values, columns))

    return convert


def _shown(values: Mapping[str, Any], columns: Columns) -> str:
    found = {name: values[name] for name in columns.names.values() if name in values}
    return excerpt(", ".join(f"{name}: {str(value)[:200]}" for name, value in found.items()))


def _classification(row: Row, names: Mapping[str, str]) -> Example:
    text = text_of(row.values, names["text"])
    label = label_of(row.values, names["label"])
    return Example(row.line, (text,), label, {"text": text, "label": label}, len(text))


def _regression(row: Row, names: Mapping[str, str]) -> Example:
    text = text_of(row.values, names["text"])
    number = _number(row.values, names["label"])
    payload = {"text": text, "label": number}
    return Example(row.line, (text,), numbers.text_of(number), payload, len(text))


def _several(row: Row, names: Mapping[str, str], *, separator: str) -> Example:
    text = text_of(row.values, names["text"])
    column = names["label"]
    value = row.values.get(column, MISSING)
    if value is MISSING or value is None:
        raise RowFault("missing-label", f"the labels {column!r} are missing")
    if isinstance(value, str):
        value = [part for part in value.split(separator) if part.strip()]
    every = value if isinstance(value, list | tuple) else [value]
    label = labelset.text_of(label_of({column: one}, column) for one in every)
    return Example(row.line, (text,), label, {"text": text, "label": label}, len(text))


def _prompt_completion(row: Row, names: Mapping[str, str]) -> Example:
    prompt = text_of(row.values, names["prompt"])
    completion = text_of(row.values, names["completion"])
    if "input" in names and (extra := row.values.get(names["input"])):
        prompt = f"{prompt}\n\n{text_of(row.values, names['input'])}" if _filled(extra) else prompt
    payload = {"prompt": prompt, "completion": completion}
    return Example(row.line, (prompt,), completion, payload, len(prompt) + len(completion))


def _messages(row: Row, names: Mapping[str, str]) -> Example:
    column = names["messages"]
    value = row.values.get(column, MISSING)
    if value is MISSING or value is None:
        raise RowFault("missing-field", f"the field {column!r} is missing")
    tools = names.get("tools", "")
    declared = definitions(row.values.get(tools), tools)
    chat = turns(value, column, declared)
    said = _said(chat[:-1]) if declared is None else ("tools", declared, *_said(chat[:-1]))
    answer = "\0".join(parts(chat[-1])[1:])
    payload: Payload = {"messages": chat}
    if declared is not None:
        payload["tools"] = declared
    return Example(row.line, said, answer, payload, _length(chat) + len(declared or ""))


def _preference(row: Row, names: Mapping[str, str]) -> Example:
    found = pair(row.values, names)
    said, length = _said(found.prompt), _length(found.prompt)
    # The same two answers in the other order are another answer to the same question.
    question = (*said, *sorted((found.chosen, found.rejected)))
    answer = f"{found.chosen}\0{found.rejected}"
    length += len(found.chosen) + len(found.rejected)
    return Example(row.line, said, answer, found._asdict(), length, question)


def _unpaired(row: Row, names: Mapping[str, str]) -> Example:
    found = vote(row.values, names)
    said, length = _said(found.prompt), _length(found.prompt) + len(found.completion)
    answer = f"{found.completion}\0{int(found.desirable)}"
    return Example(row.line, said, answer, found._asdict(), length, (*said, found.completion))


def _plain_text(row: Row, names: Mapping[str, str]) -> Example:
    text = text_of(row.values, names["text"])
    return Example(row.line, (text,), "", {"text": text}, len(text))


def _said(chat: Sequence[Turn]) -> tuple[str, ...]:
    return tuple(part for turn in chat for part in parts(turn))


def _length(chat: Sequence[Turn]) -> int:
    return sum(len(part) for turn in chat for part in parts(turn)[1:])


_KINDS: dict[Shape, Callable[[Row, Mapping[str, str]], Example]] = {
    "classification": _classification,
    "regression": _regression,
    "prompt-completion": _prompt_completion,
    "messages": _messages,
    "preference": _preference,
    "unpaired": _unpaired,
    "text": _plain_text,
}


def _filled(value: Any) -> bool:
    return not isinstance(value, str) or bool(value.strip())


def label_of(values: Mapping[str, Any], column: str) -> str:
    """The class of a row; RowFault when it is missing, too long or no label."""
    value = values.get(column, MISSING)
    if value is MISSING or value is None or value == "":
        raise RowFault("missing-label", f"the label {column!r} is missing")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of integers with gaps comes as floats
    if not isinstance(value, str | int):
        kind = type(value).__name__
        raise RowFault(
            "wrong-type", f"the label {column!r} is of type {kind}; expected text or an integer"
        )
    label = normalise(value) if isinstance(value, str) else _digits(value, column)
    if not label:
        raise RowFault("missing-label", f"the label {column!r} is empty")
    printable(label, column)
    if len(label) > LONGEST_LABEL:
        raise RowFault(
            "long-label",
            f"the label {column!r} has {len(label)} characters, at most {LONGEST_LABEL} are a class",
        )
    return label


def _number(values: Mapping[str, Any], column: str) -> float:
    value = values.get(column, MISSING)
    if value is MISSING or value is None or value == "":
        raise RowFault("missing-label", f"the number {column!r} is missing")
    try:
        return numbers.number_in(value)
    except ValueError as error:
        raise RowFault("no-number", f"the field {column!r} {error}") from None


def _digits(value: int, column: str) -> str:
    if abs(value) >= 10**LONGEST_LABEL:
        raise RowFault("long-label", f"the label {column!r} is too large a number")
    return str(value)
