"""Generating text for many requests at once, one token of each in turn.

Each request keeps its own key-value cache, so an answer never depends on what else is computed, and
a long answer never makes a short one wait. A cancelled request costs at most the token under way.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..evaluation.models import context_length, greedy_config
from ..planning.latency import PREFILL_TOKENS
from .metrics import ModelMetrics
from .step import last_logits_only, read_on
from .text_stream import StopScanner, TextStream
from .turns import Turns

log = logging.getLogger("oikyo.serve")

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Settings:
    """How to continue a prompt."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True)
class Piece:
    """Some text of the answer; the last piece says why it ended."""

    text: str
    finish: Finish | None = None
    failed: bool = False


@dataclass
class Job:
    """One answer under way. The compute thread alone changes it, but for `cancelled`."""

    engine: Generator
    prompt: Sequence[int]
    settings: Settings
    text: TextStream
    stops: StopScanner
    random: torch.Generator
    loop: asyncio.AbstractEventLoop
    pieces: asyncio.Queue[Piece]
    cancelled: threading.Event = field(default_factory=threading.Event)
    read: int = 0
    """Tokens of the prompt that the cache holds."""
    generated: int = 0
    last: int = -1
    cache: Any = None  # the model's own kind of key-value cache

    def begin(self) -> None:
        self.engine.metrics.queued.dec()

    def turn(self) -> bool:
        return not self.cancelled.is_set() and self.engine.turn(self)

    def tell(self, piece: Piece) -> None:
        self.loop.call_soon_threadsafe(self.pieces.put_nowait, piece)


class Generator:
    """Owns a language model; `turns` computes."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        metrics: ModelMetrics,
        turns: Turns,
    ) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length(model.config)
        self._model = model
        self.metrics = metrics
        ends = greedy_config(model, tokenizer, 1).eos_token_id or []
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._options = last_logits_only(model)
        self._turns = turns

    def submit(self, prompt: Sequence[int], settings: Settings) -> Job:
        """Begin an answer; called on the event loop that will read it."""
        random = torch.Generator()
        if settings.seed is None:
            random.seed()
        else:
            random.manual_seed(settings.seed)
        job = Job(
            engine=self,
            prompt=prompt,
            settings=settings,
            text=TextStream(self.tokenizer, prompt),
            stops=StopScanner(settings.stop),
            random=random,
            loop=asyncio.get_running_loop(),
            pieces=asyncio.Queue(),
        )
        self.metrics.queued.inc()
        self._turns.add(job)
        return job

    @staticmethod
    async def answer(job: Job) -> AsyncIterator[Piece]:
        """The pieces of an answer, up to and including the last."""
        while True:
            piece = await job.pieces.get()
            yield piece
            if piece.finish or piece.failed:
                return

    def warm_up(self) -> None:
        """One forward pass, so that the first request does not pay for lazy set-up."""
        start = min(self._ends, default=0)
        with torch.inference_mode():
            self._model(input_ids=torch.tensor([[start]], device=self._model.device))

    def turn(self, job: Job) -> bool:
        """One step of one answer; whether there is more to do."""
        try:
            with torch.inference_mode():
                return self._step(job)
        except Exception as error:
            # The text of the error may quote the prompt: only its kind is logged.
            log.error("generation failed: %s", type(error).__name__)
            job.tell(Piece("", failed=True))
            return False

    def _step(self, job: Job) -> bool:
        reading = job.read < len(job.prompt)
        tokens = job.prompt[job.read : job.read + PREFILL_TOKENS] if reading else [job.last]
        logits, job.cache = read_on(self._model, tokens, job.cache, self._options)
        if reading:
            job.read += len(tokens)
            self.metrics.prompt_tokens.inc(len(tokens))
            if job.read < len(job.prompt):
                return True
        return self._take(job, choose(logits, job.settings, job.random))

    def _take(self, job: Job, token: int) -> bool:
        """Add a token to the answer; whether the answer goes on."""
        job.last = token
        job.generated += 1
        self.metrics.generated_tokens.inc()
        ended = token in self._ends
        text = job.stops.push("" if ended else job.text.push(token))
        full = job.generated >= job.settings.max_tokens
        if not (ended or full or job.stops.stopped):
            if text:
                job.tell(Piece(text))
            return True
        if not job.stops.stopped:
            text += job.stops.push(job.text.flush())
        finish: Finish = "stop" if ended or job.stops.stopped else "length"
        job.tell(Piece(text + job.stops.flush(), finish))
        return False


def choose(logits: torch.Tensor, settings: Settings, random: torch.Generator) -> int:
    """The next token: the likeliest at temperature 0, else drawn from the nucleus; logits: (V,)."""
    if settings.temperature == 0:
        return int(logits.argmax())
    scaled = logits.double().cpu() / settings.temperature
    odds = (scaled - scaled.max()).softmax(dim=-1)
    if settings.top_p < 1:
        ordered, index = odds.sort(descending=True, stable=True)
        # A token stays while those before it hold less than top_p: the likeliest always stays.
        ordered[ordered.cumsum(0) - ordered >= settings.top_p] = 0
        odds = torch.zeros_like(odds).scatter(0, index, ordered)
    return int(torch.multinomial(odds, 1, generator=random))
