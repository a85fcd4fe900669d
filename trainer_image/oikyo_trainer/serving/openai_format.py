"""Answers in the form of OpenAI's chat completions and completions, whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .generator import Finish, Job
from .tool_calls import Call

Ending = Finish | Literal["tool_calls"]

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Form:
    """The envelope of one answer: the same id on every chunk."""

    chat: bool
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(
        self, text: str, finish: Ending | None, job: Job, calls: Sequence[Call] = ()
    ) -> dict[str, object]:
        choice: dict[str, object] = {"text": text}
        if self.chat:
            message: dict[str, object] = {"role": "assistant", "content": text}
            if calls:
                told = [call.wire() for call in calls]
                message |= {"content": text.strip() or None, "tool_calls": told}
            choice = {"message": message}
        return self._envelope(chunk=False, choice=choice, finish=finish) | {"usage": usage(job)}

    def opening(self) -> str:
        """The first event of a streamed chat names the role."""
        return self._event({"delta": {"role": "assistant", "content": ""}}, None)

    def calls(self, calls: Sequence[Call]) -> str:
        """The event with every call of a streamed chat, each in one piece."""
        told = [{"index": place, **call.wire()} for place, call in enumerate(calls)]
        return self._event({"delta": {"tool_calls": told}}, None)

    def piece(self, text: str, finish: Ending | None) -> str:
        if not self.chat:
            return self._event({"text": text}, finish)
        return self._event({"delta": {"content": text} if text else {}}, finish)

    def usage_event(self, job: Job) -> str:
        """The last event before [DONE], when the client asked for it: no choices, only usage."""
        envelope = self._envelope(chunk=True, choice={}, finish=None)
        return event(envelope | {"choices": [], "usage": usage(job)})

    def _event(self, choice: Mapping[str, object], finish: Ending | None) -> str:
        return event(self._envelope(chunk=True, choice=choice, finish=finish))

    def _envelope(
        self, *, chunk: bool, choice: Mapping[str, object], finish: Ending | None
    ) -> dict[str, object]:
        kind = "chat.completion" if self.chat else "text_completion"
        return {
            "id": ("chatcmpl-" if self.chat else "cmpl-") + self.id,
            "object": kind + (".chunk" if chunk and self.chat else ""),
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, **choice, "logprobs": None, "finish_reason": finish}],
        }


def usage(job: Job) -> dict[str, int]:
    prompt, generated = len(job.prompt), job.generated
    return {
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
    }


def event(content: Mapping[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
