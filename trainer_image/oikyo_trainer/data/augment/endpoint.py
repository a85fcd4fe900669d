"""A language model behind an OpenAI-compatible API, asked for other words: a few at once, each answer kept.

What passes (429, 5xx, a hang, no connection) is tried again here and then by the stage; what a person must
change (address, model, token) refuses the job; an answer that is none drops its row and is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from oikyo.api.augment import Endpoint

from ...errors import Refused, Retry
from ..findings import excerpt
from .cache import Answer, Cache

log = logging.getLogger("oikyo.data")

TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
LARGEST_ANSWER = 1 << 20
UNREADABLE = "unreadable-answer"
REFUSAL = re.compile(
    r"(?i)\s*(?:i['\u2019]?m sorry|i am sorry|sorry, (?:but )?i|i can(?:not|['\u2019]?t)\b|as an ai\b)"
)
REWORD = (
    "Rewrite the text between the lines in other words. Keep its meaning, its language and its tone. "
    "Answer with the rewritten text alone.\n---\n{text}\n---"
)
THERE = "Translate the text between the lines into {language}. Answer with the translation alone.\n---\n{text}\n---"
ROW = {400, 413, 422}
"""Statuses that speak about one request, not about the endpoint."""
PASSING = {408, 425, 429}


class Reply(NamedTuple):
    """An HTTP answer, as far as it is read."""

    status: int
    content: bytes
    retry_after: str = ""

    @property
    def text(self) -> str:
        return self.content[:400].decode(errors="replace")


@dataclass
class Asked:
    """Counts of one run, for the log: they differ between runs, so they stand in no file."""

    sent: int = 0
    cached: int = 0
    retried: int = 0
    answered: bool = False
    """Whether any answer could be read."""


class Paraphraser:
    """Asks one endpoint; the budget of requests is over its whole life."""

    def __init__(self, how: Endpoint, seed: int, workspace: Path, secret: str | None) -> None:
        self._how, self._seed = how, seed
        self._token = _token(secret)
        self._cache = Cache(workspace, how.url, how.model)
        self._left = how.max_requests
        self.asked = Asked()

    def close(self) -> None:
        self._cache.close()
        told = self.asked
        log.info("endpoint: %d sent, %d cached, %d retried", told.sent, told.cached, told.retried)

    def answers(self, texts: Sequence[str], copies: Sequence[int]) -> list[Answer]:
        """For each text another wording, in this order; Retry when the endpoint is away."""
        steps = self._how.requests_a_row
        count = min(len(texts), self._left // steps)
        self._left -= count * steps
        found: list[Answer] = [Answer("", "over-budget")] * len(texts)
        if count:
            asyncio.run(self._ask_all(found, texts[:count], copies[:count]))
            if all(answer.fault == UNREADABLE for answer in found[:count]):
                raise Refused(
                    "EndpointRefused",
                    f"{self._how.url} (data.augment.endpoint) answers with no chat completion",
                    next_step="Write the address before /chat/completions of an OpenAI-compatible API",
                )
        return found

    async def _ask_all(
        self, found: list[Answer], texts: Sequence[str], copies: Sequence[int]
    ) -> None:
        import httpx2  # imported late: only an endpoint pays for it

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        waiting = iter(range(len(texts)))
        async with httpx2.AsyncClient(headers=headers, timeout=self._how.timeout_seconds) as client:
            tasks = [
                asyncio.create_task(self._work(client, found, texts, copies, waiting))
                for _ in range(min(self._how.concurrency, len(texts)))
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(
        self,
        client: Any,
        found: list[Answer],
        texts: Sequence[str],
        copies: Sequence[int],
        waiting: Iterator[int],
    ) -> None:
        for place in waiting:
            found[place] = await self._reworded(client, texts[place], copies[place])

    async def _reworded(self, client: Any, text: str, copy: int) -> Answer:
        if not self._how.through:
            return await self._ask(
                client, (self._how.prompt or REWORD).replace("{text}", text), copy
            )
        language = self._how.through[copy % len(self._how.through)]
        answer = Answer(text)
        for target in (language, self._how.language):
            prompt = THERE.replace("{language}", target).replace("{text}", answer.text)
            answer = await self._ask(client, prompt, copy)
            if answer.fault:
                break
        return answer

    async def _ask(self, client: Any, prompt: str, copy: int) -> Answer:
        body = {
            "model": self._how.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": float(self._how.temperature),
            "max_tokens": self._how.max_tokens,
            "seed": self._seed + copy,
        }
        if (known := self._cache.get(body)) is not None:
            self.asked.cached += 1
            return known
        answer = await self._send(client, body)
        if answer.fault != UNREADABLE:
            self.asked.answered = True
            self._cache.put(body, answer)
        return answer

    async def _send(self, client: Any, body: dict[str, Any]) -> Answer:
        why, answer = "", None
        for attempt in range(TRIES):
            if attempt:
                self.asked.retried += 1
            self.asked.sent += 1
            pause = _pause(attempt)
            try:
                reply = await self._post(client, body)
            except Exception as error:
                # The client lets errors of its transport through, each version under another name.
                if not isinstance(error, OSError) and not type(error).__module__.startswith("http"):
                    raise
                why = f"{type(error).__name__} {self._shown(str(error))}"
            else:
                answer = self._read(reply)
                if answer is not None and answer.fault != UNREADABLE:
                    return answer
                why = f"HTTP {reply.status}: {self._shown(reply.text)}"
                pause = _pause(attempt, reply.retry_after)
            if attempt + 1 < TRIES:
                await asyncio.sleep(pause)
        if answer is not None:
            return answer
        raise Retry(
            "EndpointUnavailable",
            f"{self._how.url} (data.augment.endpoint) does not answer",
            evidence=why,
            next_step="The stage is tried again and keeps the answers it has; check the server, and the "
            "way to it (networkPolicy.prepareEgress)",
        )

    async def _post(self, client: Any, body: dict[str, Any]) -> Reply:
        url = f"{self._how.url.rstrip('/')}/chat/completions"
        content = bytearray()
        # Over the whole answer: one that drips for ever is a hang as well.
        async with (
            asyncio.timeout(self._how.timeout_seconds),
            client.stream("POST", url, json=body) as response,
        ):
            async for part in response.aiter_bytes():
                content += part
                if len(content) > LARGEST_ANSWER:
                    break
        told = response.headers.get("retry-after", "")
        return Reply(int(response.status_code), bytes(content), told)

    def _read(self, reply: Reply) -> Answer | None:
        """The answer in a reply; None when another try may help."""
        if reply.status in PASSING or reply.status >= 500:
            return None
        if reply.status in ROW and (self.asked.answered or b"model" not in reply.content.lower()):
            return Answer("", "refused-answer")
        if reply.status != 200:
            raise self._refused(reply)
        return _content(reply.content)

    def _refused(self, reply: Reply) -> Refused:
        secret = reply.status in (401, 403)
        what = "the key `token` of the Secret" if secret else "url and model"
        return Refused(
            "EndpointRefused",
            f"{self._how.url} (data.augment.endpoint) answers HTTP {reply.status} for model "
            f"{excerpt(self._how.model)}",
            evidence=self._shown(reply.text),
            next_step=f"Correct {what} of data.augment.endpoint",
        )

    def _shown(self, text: str) -> str:
        return excerpt(text.replace(self._token, "***") if self._token else text, 240)


def _content(content: bytes) -> Answer:
    """The answer in a chat completion."""
    try:
        choice = json.loads(content)["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content")
        refused = bool(message.get("refusal")) or finish == "content_filter"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Answer("", UNREADABLE)
    if refused:
        return Answer("", "refused-answer")
    if not isinstance(text, str | None):
        return Answer("", UNREADABLE)
    text = _bare(text or "")
    if not text:
        return Answer("", "empty-answer")
    if REFUSAL.match(text):
        return Answer("", "refused-answer")
    return Answer("", "truncated-answer") if finish == "length" else Answer(text)


def _bare(text: str) -> str:
    """Without the lines and quotes that models put around an answer."""
    text = text.strip().strip("-").strip()
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        text = text[1:-1].strip()
    return text


def _pause(attempt: int, told: str = "") -> float:
    if told.isdecimal():
        return min(float(told), LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)


def _token(secret: str | None) -> str:
    """The key `token` of the Secret, else what every client of such an API reads."""
    path = Path(secret) / "token" if secret else None
    if path is not None and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    if path is not None and path.parent.is_dir():
        raise Refused(
            "InvalidSecret",
            f"the Secret {path.parent.name} of data.augment.endpoint has no key token",
            next_step=f"kubectl create secret generic {path.parent.name} --from-literal=token=...",
        )
    return os.environ.get("OPENAI_API_KEY", "")
