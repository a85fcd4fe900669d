"""Answers in the form of OpenAI's chat completions and completions, whole or as server-sent events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from .generator import Finish, Job

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Form:
    """The envelope of one answer: the same id on every chunk."""

    chat: bool
    model: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: Finish | None, job: Job) -> dict[str, object]:
        choice = (
            {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        )
        return self._envelope(chunk=False, choice=choice, finish=finish) | {"usage": usage(job)}

    def opening(self) -> str:
        """The first event of a streamed chat names the role."""
        return self._event({"delta": {"role": "assistant", "content": ""}}, None)

    def piece(self, text: str, finish: Finish | None) -> str:
        if not self.chat:
            return self._event({"text": text}, finish)
        return self._event({"delta": {"content": text} if text else {}}, finish)

    def usage_event(self, job: Job) -> str:
        """The last event before [DONE], when the client asked for it: no choices, only usage."""
        envelope = self._envelope(chunk=True, choice={}, finish=None)
        return event(envelope | {"choices": [], "usage": usage(job)})

    def _event(self, choice: Mapping[str, object], finish: Finish | None) -> str:
        return event(self._envelope(chunk=True, choice=choice, finish=finish))

    def _envelope(
        self, *, chunk: bool, choice: Mapping[str, object], finish: Finish | None
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
