"""Test rows with examples before the question: what the base model does without being trained.

The same answers are scored as without examples. An example is turns of the chat before the last question,
or prompt and completion in front of the prompt. Of examples that do not fit the model's context those
farthest from the question go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from oikyo.api.training import LossOn

from ..data.columns import Shape
from ..data.fewshot import Choice
from .cut import Reading
from .prompts import Encoded, encode
from .rows import Row, content_key

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BETWEEN = "\n\n"


def encode_with_examples(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    shape: Shape,
    reading: Reading,
    choice: Choice,
    *,
    context: int,
    room: int,
) -> list[Encoded]:
    """The rows as tokens, each with its examples; `room`: tokens of the context kept for the answer."""
    examples = [_of(choice, row) for row in rows]
    # Of the examples nothing is scored, also where a training learns all.
    loss_on: LossOn = "LastAnswer" if reading.loss_on == "LastAnswer" else "Answers"
    wide = replace(reading, max_length=context, loss_on=loss_on)
    found: dict[int, Encoded] = {}
    while len(found) < len(rows):
        left = [place for place in range(len(rows)) if place not in found]
        shown = [_shown(rows[place], examples[place], shape) for place in left]
        for place, encoded in zip(left, encode(tokenizer, shown, shape, wide), strict=True):
            if encoded.length <= context and len(encoded.prompt) + room <= context:
                found[place] = encoded
            elif not examples[place]:  # the row alone is too long: as without examples
                (found[place],) = encode(tokenizer, [rows[place]], shape, reading)
            else:
                examples[place] = examples[place][1:]
    return [found[place] for place in range(len(rows))]


def _of(choice: Choice, row: Row) -> list[Row]:
    places = choice.fixed or choice.by_row.get(content_key(row), [])
    return [choice.examples[place] for place in places]


def _shown(row: Row, examples: Sequence[Row], shape: Shape) -> Row:
    if shape != "messages":
        said = "".join(f"{one['prompt']}{one['completion']}{BETWEEN}" for one in examples)
        return {"prompt": said + row["prompt"], "completion": row["completion"]}
    turns = list(row["messages"])
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    before = [turn for one in examples for turn in one["messages"] if turn["role"] != "system"]
    # Only the row's own answers are scored.
    learned_from = len(system) + len(before)
    own = {name: value for name, value in row.items() if name != "messages"}
    return {**own, "messages": [*system, *before, *turns[len(system) :]], "from": learned_from}
