"""From rows to tokens, for training and evaluation alike: which tokens are learned, what precedes them.

prompt-completion: the texts are joined as they stand and the end token is added, as TRL's SFTTrainer
does; the answer begins where the tokens of prompt and of prompt + completion diverge. messages: the
tokenizer's chat template; every assistant turn is an answer, and the last one is generated. text: all of
it is learned.
Many rows go through the Rust tokenizer at once, which uses all cores, and stay one array until they are
written (`Batch`); evaluation takes them one by one (`Encoded`). No torch in here: the server renders
chats with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import TemplateError

from ..data.columns import Shape
from .cut import Reading, kept
from .encoder import Encoder, around, token_ids
from .ragged import Ids, Marks, Places, Ragged, common_prefix, joined, marked
from .rendering import PLAIN_TEMPLATE, Chat, Messages, TemplateRefuses, chat_of, chat_text
from .rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Column = Any  # of texts; pyarrow is untyped
Answer = tuple[Messages, str]  # the turns of a prompt, and what is said to them


@dataclass(frozen=True)
class Encoded:
    """One row as tokens."""

    tokens: Ids
    """Empty for a row that is too long and dropped."""
    answer: Marks
    """Which tokens are labelled: the answer's, its end token included."""
    prompt: list[int]
    """What the model is given when it is to generate the (last) answer."""
    reference: str
    """The (last) answer as text."""
    length: int
    """Tokens of the row before it was cut."""


@dataclass(frozen=True)
class Batch:
    """Many rows as tokens, cut."""

    tokens: Ragged
    """No token of a row that is too long and dropped."""
    answer: Marks
    """Beside the tokens: which are labelled."""
    lengths: Places
    """Tokens of each row before it was cut."""


@dataclass(frozen=True)
class _Read:
    """Rows before they are cut, the spans of their answers, and what stands before the last answer."""

    tokens: Ragged
    owner: Places
    begins: Places
    ends: Places
    asked: Ragged
    last: Places
    """Of each row, where its last span stands among the spans."""


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], shape: Shape, reading: Reading
) -> list[Encoded]:
    """The rows as tokens, cut as `reading` says."""
    encoder = Encoder(tokenizer)
    if shape == "messages":
        chats = [chat_of(row) for row in rows]
        read = _chats(encoder, chats, reading)
        said = [_said(tokenizer, chat, read, row) for row, chat in enumerate(chats)]
        return _each(encoder, read, read.asked, said, reading)
    said = [row["text" if shape == "text" else "completion"] for row in rows]
    asked = ["" if shape == "text" else row["prompt"] for row in rows]
    read = _pairs(encoder, pa.array(asked, pa.string()), pa.array(said, pa.string()), reading)
    opened = [_open_end(tokenizer, tokens.tolist()) for tokens in read.asked]
    return _each(encoder, read, opened, said, reading)


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Answer], reading: Reading
) -> list[Encoded]:
    """Answers to the turns of a prompt; of all tokens only those of the answer are labelled."""
    encoder = Encoder(tokenizer)
    read = _answered(encoder, pairs)
    return _each(encoder, read, read.asked, [said for _, said in pairs], reading)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], reading: Reading
) -> list[tuple[Ids, int]]:
    """Tokens of texts to classify, cut within the special tokens around them; and their lengths."""
    tokens, lengths = plain(Encoder(tokenizer), texts, reading)
    return list(zip(tokens, lengths.tolist(), strict=True))


def plain(
    encoder: Encoder, texts: Sequence[str] | Column, reading: Reading
) -> tuple[Ragged, Places]:
    """`encode_texts` of many rows as one array."""
    head, tail = around(encoder.tokenizer)
    tokens = encoder.encode(texts)
    heads = np.full(len(tokens), head, dtype=np.int64)
    lengths = tokens.lengths
    return tokens.select(kept(lengths, reading, heads=heads, tail=tail)), lengths


def pairs(encoder: Encoder, prompts: Column, completions: Column, reading: Reading) -> Batch:
    """Prompts with their completions, as one array."""
    return _cut(encoder, _pairs(encoder, prompts, completions, reading), reading)


def chats(encoder: Encoder, rows: Sequence[Row], reading: Reading) -> Batch:
    """Rows of turns, as one array."""
    return _cut(encoder, _chats(encoder, [chat_of(row) for row in rows], reading), reading)


def answers(encoder: Encoder, said: Sequence[Answer], reading: Reading) -> Batch:
    """`encode_answers` of many rows as one array."""
    return _cut(encoder, _answered(encoder, said), reading)


def render(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, open_answer: bool) -> list[int]:
    """Tokens of a chat by the tokenizer's own template, or by the plain one if it has none."""
    text = chat_text(tokenizer, chat, open_answer=open_answer)
    return token_ids(tokenizer, [text], special=False)[0]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a prompt that is to be continued: an end token that the tokenizer adds is taken off."""
    return _open_end(tokenizer, token_ids(tokenizer, [text])[0])


def _open_end(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    while len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id:
        tokens = tokens[:-1]
    return tokens


def _rendered(encoder: Encoder, every: Sequence[Chat], *, open_answer: bool) -> Ragged:
    """Chats of the data as tokens; TemplateRefuses for one that the template does not take."""
    texts = []
    for chat in every:
        try:
            texts.append(chat_text(encoder.tokenizer, chat, open_answer=open_answer))
        except (TemplateError, TypeError) as error:
            raise TemplateRefuses(chat.messages, str(error)) from None
    return encoder.encode(texts, special=False)


def _pairs(encoder: Encoder, prompts: Column, completions: Column, reading: Reading) -> _Read:
    end = encoder.tokenizer.eos_token or ""
    missing = pc.if_else(pc.ends_with(completions, pattern=end), "", end)
    tokens = encoder.encode(pc.binary_join_element_wise(prompts, completions, missing, ""))
    asked = encoder.encode(prompts)
    begins = common_prefix(asked, tokens)
    return _one_span(tokens, 0 * begins if reading.loss_on == "All" else begins, asked)


def _one_span(tokens: Ragged, begins: Places, asked: Ragged) -> _Read:
    rows = np.arange(len(tokens))
    return _Read(tokens, rows, begins, tokens.lengths, asked, rows)


def _answered(encoder: Encoder, said: Sequence[Answer]) -> _Read:
    whole = [Chat([*turns, {"role": "assistant", "content": answer}]) for turns, answer in said]
    asked = _rendered(encoder, [Chat(turns) for turns, _ in said], open_answer=True)
    tokens = _rendered(encoder, whole, open_answer=False)
    if _has_no_end(encoder.tokenizer):
        every = np.ones(len(tokens), dtype=np.bool_)
        tokens = tokens.append(encoder.tokenizer.eos_token_id, every)
    return _one_span(tokens, common_prefix(asked, tokens), asked)


def _chats(encoder: Encoder, every: Sequence[Chat], reading: Reading) -> _Read:
    turns = [_turns(chat, reading) for chat in every]
    spoken = [(chat, turn) for chat, own in zip(every, turns, strict=True) for turn in own]
    before = _rendered(encoder, [chat.upto(turn) for chat, turn in spoken], open_answer=True)
    after = _rendered(encoder, [chat.upto(turn + 1) for chat, turn in spoken], open_answer=False)
    counts = np.array([len(own) for own in turns], dtype=np.int64)
    owner, last = np.repeat(np.arange(len(every)), counts), np.cumsum(counts) - 1
    # The chat itself is what stands after its last answer, most often.
    ended = np.array(
        [own[-1] == len(chat.messages) - 1 for chat, own in zip(every, turns, strict=True)],
        dtype=np.bool_,
    )
    others = [every[place] for place in np.flatnonzero(~ended).tolist()]
    more = _rendered(encoder, others, open_answer=False)
    source = np.where(ended, last, len(after) + np.cumsum(~ended) - 1)
    tokens = joined([after, more]).take(source)
    each = tokens.take(owner)
    begins, ends = common_prefix(before, each), common_prefix(after, each)
    asked = before.take(last)
    if reading.loss_on == "All":
        owner = last = np.arange(len(every))
        begins, ends = 0 * owner, tokens.lengths
    if not _has_no_end(encoder.tokenizer):
        return _Read(tokens, owner, begins, ends, asked, last)
    closed = ended & (begins[last] < ends[last]) & (ends[last] == tokens.lengths)
    tokens = tokens.append(encoder.tokenizer.eos_token_id, closed)
    ends[last] += closed  # the end token goes with the answer before it
    return _Read(tokens, owner, begins, ends, asked, last)


def _turns(chat: Chat, reading: Reading) -> list[int]:
    """Positions of the turns to learn; the last one at least."""
    said = enumerate(chat.messages)
    turns = [n for n, turn in said if turn["role"] == "assistant" and n >= chat.begin]
    return turns if reading.loss_on == "Answers" else turns[-1:]


def _said(tokenizer: PreTrainedTokenizerBase, chat: Chat, read: _Read, row: int) -> str:
    """The last answer as text: what the template makes of it where it calls a tool."""
    turn = next(one for one in reversed(chat.messages) if one["role"] == "assistant")
    if not turn.get("tool_calls"):
        return str(turn["content"])
    span = slice(read.begins[read.last[row]], read.ends[read.last[row]])
    return str(tokenizer.decode(read.tokens[row][span].tolist(), skip_special_tokens=True))


def _has_no_end(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a turn by the template has no end: without one the model would never learn to stop."""
    return tokenizer.chat_template in (None, PLAIN_TEMPLATE) and tokenizer.eos_token_id is not None


def _cut(encoder: Encoder, read: _Read, reading: Reading) -> Batch:
    marks = marked(read.tokens, read.owner, read.begins, read.ends)
    start = encoder.tokenizer.bos_token_id
    heads = (read.tokens.first() == (-2 if start is None else start)).astype(np.int64)
    lengths = read.tokens.lengths
    stay = kept(lengths, reading, heads=heads)
    if not stay.all():
        return Batch(read.tokens.select(stay), marks[stay], lengths)
    return Batch(read.tokens, marks, lengths)


def _each(
    encoder: Encoder,
    read: _Read,
    asked: Iterable[Any],
    references: Sequence[str],
    reading: Reading,
) -> list[Encoded]:
    """The rows one by one."""
    batch = _cut(encoder, read, reading)
    marks = np.split(batch.answer, batch.tokens.ends[:-1]) if len(batch.tokens) else []
    prompts = [tokens if isinstance(tokens, list) else tokens.tolist() for tokens in asked]
    rows = zip(batch.tokens, marks, prompts, references, batch.lengths.tolist(), strict=True)
    return [Encoded(*row) for row in rows]
