"""Loss on the answers' tokens, and greedy answers against their references, for a language model.

The rows are turned into tokens once; the tuned and the base model read the same tokens in the same
batches, so the two are paired. Everything is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .models import context_length, greedy_config, load_model
from .prompts import Encoded
from .rows import by_length
from .text_scores import bleu, exact_match, rouge_l

Tell = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""
LOGITS_AT_ONCE = 1 << 27
"""Numbers of one batch's logit matrix at most: 512 MiB in float32."""
ROWS_AT_ONCE = 16
GENERATED_ROWS = 200
"""Rows for which an answer is generated when evaluation.maxRows does not say."""
LARGEST_EXPONENT = 700.0


class Losses(NamedTuple):
    """Of each row the summed negative log-likelihood of its answer's tokens, and their number."""

    sums: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.int64]

    def mean(self) -> float:
        """Of an answer token, over all answer tokens of all rows."""
        count = int(self.tokens.sum())
        return float(self.sums.sum() / count) if count else math.nan


class Found(NamedTuple):
    """What a model reached on some rows."""

    metrics: dict[str, float]
    losses: Losses


def measure_generator(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    *,
    generate: Sequence[Encoded],
    max_new_tokens: int,
    tell: Tell,
) -> Found:
    """loss and perplexity over `rows`; bleu, rouge_l and exact_match over answers to `generate`."""
    model = load_model(AutoModelForCausalLM, folder)
    losses = answer_losses(model, rows, lambda share: tell(share * 0.4))
    loss = losses.mean()
    found = {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
    if not generate:
        return Found(found, losses)
    answers = greedy_answers(
        model, tokenizer, generate, max_new_tokens, lambda share: tell(0.4 + share * 0.6)
    )
    references = [row.reference for row in generate]
    scores = {
        "bleu": bleu(answers, references),
        "rouge_l": rouge_l(answers, references),
        "exact_match": exact_match(answers, references),
    }
    return Found({**found, **scores}, losses)


def answer_losses(model: PreTrainedModel, rows: Sequence[Encoded], tell: Tell) -> Losses:
    """The loss on the answer of each row."""
    limit = context_length(model.config)
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    done = 0
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    lengths = [min(len(row.tokens), limit) for row in rows]
    for batch in by_length(lengths, most_tokens=max(1, LOGITS_AT_ONCE // vocabulary)):
        sums[batch], counts[batch] = _batch_loss(model, [rows[i] for i in batch], lengths[batch[0]])
        done += len(batch)
        tell(done / len(rows))
    return Losses(sums, counts)


def row_losses(model: PreTrainedModel, rows: Sequence[Encoded]) -> Losses:
    """As `answer_losses`, each row by itself."""
    limit = context_length(model.config)
    found = [_batch_loss(model, [row], min(len(row.tokens), limit)) for row in rows]
    return Losses(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _batch_loss(
    model: PreTrainedModel, rows: Sequence[Encoded], width: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """As in Losses, of the rows of a batch; ids: (B, T)."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    answer = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        length = min(len(row.tokens), width)
        ids[index, :length] = torch.tensor(row.tokens[:length])
        mask[index, :length] = 1
        answer[index, :length] = torch.tensor(row.answer[:length])
    answer[:, 0] = False  # nothing precedes the first token, so nothing predicts it
    ids, mask, answer = (x.to(model.device) for x in (ids, mask, answer))
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        wanted = answer[:, 1:]
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1][wanted].float(), ids[:, 1:][wanted], reduction="none"
        )
    sums = torch.zeros(len(rows), dtype=torch.float64)
    sums.index_add_(0, wanted.nonzero()[:, 0].cpu(), loss.double().cpu())
    return sums.numpy(), wanted.sum(dim=1).cpu().numpy()


def greedy_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    max_new_tokens: int,
    tell: Tell,
) -> list[str]:
    """The likeliest continuation, token by token, of each prompt, in the order given."""
    room = max(1, context_length(model.config) - max_new_tokens)
    prompts = [row.prompt[-room:] for row in rows]
    config = greedy_config(model, tokenizer, max_new_tokens)
    answers: dict[int, str] = {}
    lengths = [len(prompt) for prompt in prompts]
    for batch in by_length(lengths, most_tokens=1 << 15, most_rows=ROWS_AT_ONCE):
        inputs = tokenizer.pad(
            {"input_ids": [prompts[i] for i in batch]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        with torch.inference_mode():
            output = model.generate(**inputs, generation_config=config)
        new = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        answers.update(zip(batch, texts, strict=True))
        tell(len(answers) / len(rows))
    return [answers[index] for index in range(len(rows))]
