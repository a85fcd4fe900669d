"""Chats as their model's template writes them, with the tools that they declare and call.

No torch in here: the server renders chats with the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from ..errors import Refused
from .rows import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""For a model without a chat template: the contents, line by line. A single user message is then
exactly the prompt of a model that was trained on prompts and completions."""

Messages = Sequence[dict[str, Any]]  # {role, content}, as chat templates take them
Tools = list[dict[str, Any]]  # OpenAI's definitions, as chat templates take them


@dataclass(frozen=True)
class Chat:
    """What a chat template renders."""

    messages: Messages
    tools: Tools | None = None
    begin: int = 0
    """Turns before this one are examples: nothing of them is learned or scored."""

    def upto(self, turn: int) -> Chat:
        """The same chat before this turn."""
        return Chat(self.messages[:turn], self.tools)


def chat_of(row: Row) -> Chat:
    """A row of the dataset as templates take it: calls and tools are JSON there."""
    turns = [
        {**turn, "tool_calls": json.loads(turn["tool_calls"])} if turn.get("tool_calls") else turn
        for turn in row["messages"]
    ]
    tools = row.get("tools")
    return Chat(turns, json.loads(tools) if tools else None, row.get("from", 0))


def chat_text(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, open_answer: bool) -> str:
    template = PLAIN_TEMPLATE
    if tokenizer.chat_template:
        template = str(tokenizer.get_chat_template(tools=chat.tools))
    calling = any(turn.get("tool_calls") for turn in chat.messages)
    for wanted, there in (("tools", chat.tools), ("tool_calls", calling)):
        if there and wanted not in template:
            raise TemplateError(f"it does not render {wanted}, which would be lost")
    return str(
        tokenizer.apply_chat_template(
            list(chat.messages),
            tools=chat.tools,
            chat_template=template,
            add_generation_prompt=open_answer,
            tokenize=False,
        )
    )


class TemplateRefuses(Refused):
    """The model's chat template does not take these turns."""

    def __init__(self, messages: Messages, why: str) -> None:
        roles = ", ".join(str(message["role"]) for message in messages[:8])
        super().__init__(
            "ChatTemplateRefuses",
            f"the chat template of the base model does not take a chat of the turns {roles}: {why}",
            next_step="Drop or rewrite such chats, or choose a base model whose template knows them.",
        )
