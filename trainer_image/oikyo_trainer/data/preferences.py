"""Rows of preference learning: a prompt with a better and a worse answer, or an answer with a vote.

Answers come as text, or as whole chats whose common beginning is the prompt, as TRL and UltraFeedback
write them; either way a row is kept as the turns of the prompt and the texts of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .chat import check_prompt, read_turns
from .findings import RowFault
from .text import MISSING, text_of
from .tools import Turn


class Pair(NamedTuple):
    """A prompt and two answers to it."""

    prompt: list[Turn]
    chosen: str
    rejected: str


class Vote(NamedTuple):
    """A prompt, an answer to it, and whether the answer is wanted."""

    prompt: list[Turn]
    completion: str
    desirable: bool


def pair(values: Mapping[str, Any], names: Mapping[str, str]) -> Pair:
    """A preference pair; RowFault when the row is none."""
    prompt = _prompt(values, names)
    chosen, rejected = _answer(values, names["chosen"]), _answer(values, names["rejected"])
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowFault(
            "wrong-type",
            f"one of {names['chosen']!r} and {names['rejected']!r} is text, one a chat",
        )
    if isinstance(chosen, str) or isinstance(rejected, str):
        found = Pair(_asked(prompt, names), str(chosen), str(rejected))
    else:
        shared = _shared(chosen, rejected)
        asked = _joined(prompt, chosen[:shared], names)
        found = Pair(
            asked,
            _last(chosen[shared:], names["chosen"]),
            _last(rejected[shared:], names["rejected"]),
        )
    if found.chosen == found.rejected:
        raise RowFault("same-answers", "the chosen and the rejected answer are the same")
    return found


def vote(values: Mapping[str, Any], names: Mapping[str, str]) -> Vote:
    """An answer with a vote; RowFault when the row is none."""
    prompt, answer = _prompt(values, names), _answer(values, names["completion"])
    desirable = _desirable(values, names["desirable"])
    if isinstance(answer, str):
        return Vote(_asked(prompt, names), answer, desirable)
    asked = _joined(prompt, answer[:-1], names)
    return Vote(asked, _last(answer[-1:], names["completion"]), desirable)


def _prompt(values: Mapping[str, Any], names: Mapping[str, str]) -> list[Turn]:
    """The turns of the prompt column; none where the file has no such column."""
    if "prompt" not in names:
        return []
    column = names["prompt"]
    value = values.get(column)
    if isinstance(value, list):
        turns = _texts(read_turns(value, column), column)
        check_prompt(turns, column)
        return turns
    return [Turn(role="user", content=text_of(values, column))]


def _asked(prompt: list[Turn], names: Mapping[str, str]) -> list[Turn]:
    if not prompt:
        raise RowFault(
            "missing-field", "the row has no prompt; write one, or whole chats as answers"
        )
    return prompt


def _answer(values: Mapping[str, Any], column: str) -> str | list[Turn]:
    value = values.get(column, MISSING)
    if isinstance(value, list):
        return _texts(read_turns(value, column), column)
    return text_of(values, column)


def _texts(turns: list[Turn], column: str) -> list[Turn]:
    """The turns, of which none calls a tool: preferences compare texts."""
    if any("tool_calls" in turn or "tool_call_id" in turn for turn in turns):
        raise RowFault(
            "tool-calls", f"{column!r} calls a tool; preferences compare texts: write it as text"
        )
    return turns


def _shared(left: list[Turn], right: list[Turn]) -> int:
    """How many leading turns both chats have; the last turn of either is never shared."""
    most = min(len(left), len(right)) - 1
    return next((at for at in range(most) if left[at] != right[at]), most)


def _joined(prompt: list[Turn], start: list[Turn], names: Mapping[str, str]) -> list[Turn]:
    """The prompt column and the beginning of the chats, which may repeat it."""
    if start[: len(prompt)] == prompt or (len(prompt) == 1 and prompt[0] in start):
        turns = start
    else:
        turns = prompt + start
    if not turns:
        return _asked(turns, names)
    check_prompt(turns, names.get("prompt", names.get("chosen", names.get("completion", ""))))
    return turns


def _last(turns: list[Turn], column: str) -> str:
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise RowFault(
            "no-answer",
            f"{column!r} has {len(turns)} turns behind what is shared; expected one, the assistant's",
        )
    return turns[0]["content"]


def _desirable(values: Mapping[str, Any], column: str) -> bool:
    value = values.get(column, MISSING)
    if value is MISSING or value is None:
        raise RowFault("missing-field", f"the field {column!r} is missing")
    word = value.strip().casefold() if isinstance(value, str) else value
    for wanted, words in ((True, ("true", "1", "yes")), (False, ("false", "0", "no"))):
        if word in words or (not isinstance(word, str) and word in (wanted, int(wanted))):
            return wanted
    raise RowFault("wrong-type", f"the field {column!r} is neither true nor false")
