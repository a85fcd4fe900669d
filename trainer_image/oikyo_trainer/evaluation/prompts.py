"""From a row to tokens, the way training does it: which tokens are the answer, and what precedes it.

prompt-completion: the texts are joined as they stand and the end token is added, as TRL's SFTTrainer
does; the answer begins where the tokens of prompt and of prompt + completion diverge. messages: the
tokenizer's chat template; every assistant turn is an answer, and the last one is generated.
No torch in here: the server renders chats with the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from .rows import Row, Shape

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""For a model without a chat template: the contents, line by line. A single user message is then
exactly the prompt of a model that was trained on prompts and completions."""

Messages = Sequence[dict[str, Any]]  # {role, content}, as chat templates take them


@dataclass(frozen=True)
class Encoded:
    """One row as tokens."""

    tokens: list[int]
    answer: list[bool]
    """Which tokens are labelled: the answer's, its end token included."""
    prompt: list[int]
    """What the model is given when it is to generate the (last) answer."""
    reference: str
    """The (last) answer as text."""


def encode(tokenizer: PreTrainedTokenizerBase, row: Row, shape: Shape, max_length: int) -> Encoded:
    """Tokens of a row; cut at `max_length` from the right, as in training."""
    encoded = _chat(tokenizer, row["messages"]) if shape == "messages" else _pair(tokenizer, row)
    return Encoded(
        tokens=encoded.tokens[:max_length],
        answer=encoded.answer[:max_length],
        prompt=encoded.prompt,
        reference=encoded.reference,
    )


def encode_answer(
    tokenizer: PreTrainedTokenizerBase, prompt: Messages, answer: str, max_length: int
) -> Encoded:
    """One answer to the turns of a prompt; of all tokens only those of this answer are labelled."""
    asked = render(tokenizer, prompt, open_answer=True)
    said = [*prompt, {"role": "assistant", "content": answer}]
    tokens = render(tokenizer, said, open_answer=False)
    if tokenizer.chat_template in (None, PLAIN_TEMPLATE) and tokenizer.eos_token_id is not None:
        tokens.append(tokenizer.eos_token_id)  # the plain template has no end of turn
    begin = common_prefix(asked, tokens)
    marks = [position >= begin for position in range(len(tokens))]
    return Encoded(tokens[:max_length], marks[:max_length], asked, answer)


def render(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, *, open_answer: bool
) -> list[int]:
    """Tokens of a chat by the tokenizer's own template, or by the plain one if it has none."""
    template = None if tokenizer.chat_template else PLAIN_TEMPLATE
    tokens = tokenizer.apply_chat_template(
        list(messages),
        chat_template=template,
        add_generation_prompt=open_answer,
        tokenize=True,
        return_dict=False,
    )
    return [int(token) for token in tokens]


def prompt_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokens of a prompt that is to be continued: an end token that the tokenizer adds is taken off."""
    tokens: list[int] = tokenizer(text)["input_ids"]
    while len(tokens) > 1 and tokens[-1] == tokenizer.eos_token_id:
        tokens = tokens[:-1]
    return tokens


def _pair(tokenizer: PreTrainedTokenizerBase, row: Row) -> Encoded:
    prompt, completion = row["prompt"], row["completion"]
    end = tokenizer.eos_token or ""
    closed = completion if end and completion.endswith(end) else completion + end
    start: list[int] = tokenizer(prompt)["input_ids"]
    tokens: list[int] = tokenizer(prompt + closed)["input_ids"]
    begin = common_prefix(start, tokens)
    answer = [position >= begin for position in range(len(tokens))]
    return Encoded(tokens, answer, prompt_tokens(tokenizer, prompt), completion)


def _chat(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> Encoded:
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    tokens = render(tokenizer, messages, open_answer=False)
    answer = [False] * len(tokens)
    for turn in turns:
        before = render(tokenizer, messages[:turn], open_answer=True)
        after = render(tokenizer, messages[: turn + 1], open_answer=False)
        begin, end = common_prefix(before, tokens), common_prefix(after, tokens)
        answer[begin:end] = [True] * max(0, end - begin)
    last = turns[-1]
    prompt = render(tokenizer, messages[:last], open_answer=True)
    return Encoded(tokens, answer, prompt, messages[last]["content"])


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of leading tokens that both have in common."""
    length = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        length += 1
    return length
