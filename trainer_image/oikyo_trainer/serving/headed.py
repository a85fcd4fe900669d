"""Classes or a number for a text: requests that arrive within a few milliseconds share one forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import Refused
from ..evaluation.cut import Reading
from ..evaluation.models import context_length
from ..evaluation.prompts import encode_texts
from ..evaluation.rows import by_length
from ..numbers import scale_in
from .metrics import ModelMetrics

WINDOW_SECONDS = 0.003
"""How long a request waits for company."""
MOST_TEXTS = 64
TOKENS_AT_ONCE = 8192


@dataclass(frozen=True)
class Answered:
    """What the model says of one text, one value for each output of its head."""

    values: tuple[float, ...]
    tokens: int


@dataclass(frozen=True)
class Ask:
    texts: Sequence[str]
    answer: asyncio.Future[list[Answered]]


class Headed:
    """Owns a model with a head; computes on the one thread of all of the server's, off the event loop."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        reading: Reading,
        metrics: ModelMetrics,
        thread: ThreadPoolExecutor,
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._reading = reading.for_all(context_length(model.config, tokenizer))
        self._metrics = metrics
        self._asks: asyncio.Queue[Ask] = asyncio.Queue()
        self._thread = thread
        self._task: asyncio.Task[None] | None = None
        if model.config.pad_token_id is None:
            model.config.pad_token_id = tokenizer.pad_token_id

    def _told(self, logits: torch.Tensor) -> torch.Tensor:
        """What is told of the outputs: (texts, outputs), float64."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to answer; called on the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._serve())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def warm_up(self) -> None:
        self.compute(["warm"])

    async def ask(self, texts: Sequence[str]) -> list[Answered]:
        """What the model says of each text, in order."""
        ask = Ask(texts, asyncio.get_running_loop().create_future())
        self._metrics.queued.inc()
        await self._asks.put(ask)
        return await ask.answer

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            texts = [text for ask in batch for text in ask.texts]
            try:
                found = await loop.run_in_executor(self._thread, self.compute, texts)
            except Exception as error:
                for ask in batch:
                    if not ask.answer.done():
                        ask.answer.set_exception(error)
                continue
            for ask in batch:
                mine, found = found[: len(ask.texts)], found[len(ask.texts) :]
                if not ask.answer.done():
                    ask.answer.set_result(mine)

    async def _collect(self) -> list[Ask]:
        """The next asks that nobody cancelled: those of one window, up to MOST_TEXTS texts."""
        batch: list[Ask] = []
        while not batch:
            self._take(await self._asks.get(), batch)
        await asyncio.sleep(WINDOW_SECONDS)
        while not self._asks.empty() and sum(len(ask.texts) for ask in batch) < MOST_TEXTS:
            self._take(self._asks.get_nowait(), batch)
        return batch

    def _take(self, ask: Ask, batch: list[Ask]) -> None:
        self._metrics.queued.dec()
        if not ask.answer.cancelled():
            batch.append(ask)

    def compute(self, texts: Sequence[str]) -> list[Answered]:
        """What the model says of each text; texts of like length share a forward pass."""
        ids = [tokens for tokens, _ in encode_texts(self._tokenizer, texts, self._reading)]
        found: dict[int, Answered] = {}
        for batch in by_length([len(row) for row in ids], most_tokens=TOKENS_AT_ONCE):
            inputs = self._tokenizer.pad(
                {"input_ids": [ids[i] for i in batch]}, padding_side="right", return_tensors="pt"
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(**inputs).logits.double()
            told = self._told(logits).cpu().tolist()
            for index, values in zip(batch, told, strict=True):
                found[index] = Answered(tuple(values), len(ids[index]))
        self._metrics.prompt_tokens.inc(sum(len(row) for row in ids))
        return [found[index] for index in range(len(texts))]


class Classifier(Headed):
    """Says how likely each label is."""

    def __init__(self, model: PreTrainedModel, *parts: Any) -> None:
        super().__init__(model, *parts)
        self.labels = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
        self.several = model.config.problem_type == "multi_label_classification"
        """Whether a text may have several labels, or none: scores are then told label by label."""

    def _told(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid() if self.several else logits.softmax(-1)


class Regressor(Headed):
    """Says a number, in the units of the data."""

    def __init__(self, model: PreTrainedModel, *parts: Any) -> None:
        super().__init__(model, *parts)
        scale = scale_in(model.config)
        if scale is None:
            raise Refused(
                "ScaleMissing",
                "the config.json of the version does not say on which scale the model learned",
                next_step="Serve a version that oikyo trained for TextRegression.",
            )
        self._scale = scale

    def _told(self, logits: torch.Tensor) -> torch.Tensor:
        return logits * self._scale.std + self._scale.mean
