"""From rows to tokens, for training and evaluation alike: which tokens are learned, what precedes them.

prompt-completion: the texts are joined as they stand and the end token is added, as TRL's SFTTrainer
does; the answer begins where the tokens of prompt and of prompt + completion diverge. messages: the
tokenizer's chat template; every assistant turn is an answer, and the last one is generated. text: all of
it is learned.
Many rows go through the Rust tokenizer at once, which uses all cores. No torch in here: the server
renders chats with the same functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from .cut import Reading, kept
from .rendering import PLAIN_TEMPLATE, Chat, Messages, TemplateRefuses, chat_of, chat_text
from .rows import Row, Shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = npt.NDArray[np.int32]
Marks = npt.NDArray[np.bool_]


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


def encode(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], shape: Shape, reading: Reading
) -> list[Encoded]:
    """The rows as tokens, cut as `reading` says."""
    if shape == "messages":
        return list(_chats(tokenizer, [chat_of(row) for row in rows], reading))
    if shape == "text":  # to go on with: the whole is the answer to nothing
        rows = [{"prompt": "", "completion": row["text"]} for row in rows]
    return list(_pairs(tokenizer, rows, reading))


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], reading: Reading
) -> list[tuple[Ids, int]]:
    """Tokens of texts to classify, cut within the special tokens around them; and their lengths."""
    if not tokenizer.is_fast:
        head = tail = 0
    else:
        # Not by the backend: it may pad as tokenizer.json says, and padding counts as special.
        around = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
        head, tail = _leading(around), _leading(around[::-1])
    encoded = []
    for ids in token_ids(tokenizer, texts):
        tokens = np.asarray(ids, dtype=np.int32)
        places = kept(len(tokens), reading, head=head, tail=tail)
        encoded.append((tokens[places], len(tokens)))
    return encoded


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[Messages, str]], reading: Reading
) -> list[Encoded]:
    """Answers to the turns of a prompt; of all tokens only those of the answer are labelled."""
    said = [Chat([*prompt, {"role": "assistant", "content": answer}]) for prompt, answer in pairs]
    asked = render_all(tokenizer, [Chat(prompt) for prompt, _ in pairs], open_answer=True)
    whole = render_all(tokenizer, said, open_answer=False)
    encoded = []
    for (_, answer), before, tokens in zip(pairs, asked, whole, strict=True):
        if _has_no_end(tokenizer):
            tokens.append(tokenizer.eos_token_id)
        spans = [(common_prefix(before, tokens), len(tokens))]
        encoded.append(_encoded(tokenizer, tokens, spans, before, answer, reading))
    return encoded


def render(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, open_answer: bool) -> list[int]:
    """Tokens of a chat by the tokenizer's own template, or by the plain one if it has none."""
    text = chat_text(tokenizer, chat, open_answer=open_answer)
    return token_ids(tokenizer, [text], special=False)[0]


def render_all(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], *, open_answer: bool
) -> list[list[int]]:
    """`render` for chats of the data; TemplateRefuses for one that the template does not take."""
    texts = []
    for chat in chats:
        try:
            texts.append(chat_text(tokenizer, chat, open_answer=open_answer))
        except (TemplateError, TypeError) as error:
            raise TemplateRefuses(chat.messages, str(error)) from None
    return token_ids(tokenizer, texts, special=False)


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool = True
) -> list[list[int]]:
    """Tokens of each text, all at once; `special`: with the tokens that stand around a text."""
    if not texts:
        return []
    if not tokenizer.is_fast:
        ids: list[list[int]] = tokenizer(list(texts), add_special_tokens=special)["input_ids"]
        return ids
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    # No offsets, masks and type ids, of which transformers makes Python lists.
    return [one.ids for one in backend.encode_batch_fast(list(texts), add_special_tokens=special)]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a prompt that is to be continued: an end token that the tokenizer adds is taken off."""
    return _open_end(tokenizer, token_ids(tokenizer, [text])[0])


def _open_end(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    while len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id:
        tokens = tokens[:-1]
    return tokens


def _pairs(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], reading: Reading
) -> Iterator[Encoded]:
    end = tokenizer.eos_token or ""
    joined = []
    for row in rows:
        completion = row["completion"]
        closed = completion if end and completion.endswith(end) else completion + end
        joined.append(row["prompt"] + closed)
    starts = token_ids(tokenizer, [row["prompt"] for row in rows])
    for row, start, tokens in zip(rows, starts, token_ids(tokenizer, joined), strict=True):
        begin = 0 if reading.loss_on == "All" else common_prefix(start, tokens)
        prompt = _open_end(tokenizer, start)
        spans = [(begin, len(tokens))]
        yield _encoded(tokenizer, tokens, spans, prompt, row["completion"], reading)


def _chats(
    tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], reading: Reading
) -> Iterator[Encoded]:
    turns = [_answers(chat, reading) for chat in chats]
    before = render_all(
        tokenizer,
        [chat.upto(turn) for chat, own in zip(chats, turns, strict=True) for turn in own],
        open_answer=True,
    )
    # The chat itself is what stands after its last answer, most often.
    after = render_all(
        tokenizer,
        [chat.upto(turn + 1) for chat, own in zip(chats, turns, strict=True) for turn in own],
        open_answer=False,
    )
    place = 0
    for chat, own in zip(chats, turns, strict=True):
        prompts, upto = before[place : place + len(own)], after[place : place + len(own)]
        place += len(own)
        tokens = _whole(tokenizer, chat, own, upto)
        spans = [
            (common_prefix(start, tokens), common_prefix(end, tokens))
            for start, end in zip(prompts, upto, strict=True)
        ]
        if reading.loss_on == "All":
            spans = [(0, len(tokens))]
        begin, end = spans[-1]
        last = own[-1] == len(chat.messages) - 1
        if _has_no_end(tokenizer) and last and begin < end == len(tokens):
            tokens = [*tokens, tokenizer.eos_token_id]
            spans.append((len(tokens) - 1, len(tokens)))
        reference = _said(tokenizer, chat.messages[own[-1]], tokens[begin:end])
        yield _encoded(tokenizer, tokens, spans, prompts[-1], reference, reading)


def _answers(chat: Chat, reading: Reading) -> list[int]:
    """Positions of the turns to learn; the last one at least."""
    said = enumerate(chat.messages)
    turns = [n for n, turn in said if turn["role"] == "assistant" and n >= chat.begin]
    return turns if reading.loss_on == "Answers" else turns[-1:]


def _whole(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, turns: list[int], upto: list[list[int]]
) -> list[int]:
    if turns[-1] == len(chat.messages) - 1:
        return upto[-1]
    return render_all(tokenizer, [chat], open_answer=False)[0]


def _said(tokenizer: PreTrainedTokenizerBase, turn: dict[str, Any], tokens: list[int]) -> str:
    """An answer as text: what the template makes of it where it calls a tool."""
    if not turn.get("tool_calls"):
        return str(turn["content"])
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _has_no_end(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a turn by the template has no end: without one the model would never learn to stop."""
    return tokenizer.chat_template in (None, PLAIN_TEMPLATE) and tokenizer.eos_token_id is not None


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    tokens: list[int],
    spans: list[tuple[int, int]],
    prompt: list[int],
    reference: str,
    reading: Reading,
) -> Encoded:
    marks = np.zeros(len(tokens), dtype=np.bool_)
    for begin, end in spans:
        marks[begin:end] = True
    head = int(bool(tokens) and tokens[0] == tokenizer.bos_token_id)
    places = kept(len(tokens), reading, head=head)
    ids = np.asarray(tokens, dtype=np.int32)
    return Encoded(ids[places], marks[places], prompt, reference, len(tokens))


def _leading(mask: Sequence[int]) -> int:
    """Ones in front."""
    return next((place for place, one in enumerate(mask) if not one), len(mask))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of leading tokens that both have in common."""
    shorter = min(len(left), len(right))
    if left[:shorter] == right[:shorter]:
        return shorter
    for place in range(shorter):
        if left[place] != right[place]:
            return place
    return shorter
