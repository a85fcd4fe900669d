"""Which of two answers a language model finds likelier: for results of DPO, ORPO and KTO.

Both models read the same tokens. A pair counts as right when the chosen answer's log-probability is
above the rejected one's; the margin is the mean difference, in nats. Votes have no pairs: their margin
is the mean log-probability of a wanted answer's token less that of an unwanted one's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ..data.columns import Shape
from .cut import Reading
from .generation import LARGEST_EXPONENT, LOGITS_AT_ONCE
from .models import load_model
from .prompts import Encoded, encode_answers
from .rows import Row, by_length

Tell = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""


@dataclass(frozen=True)
class Answers:
    """All answers of all rows, in order: chosen and rejected in turn, or one for each row."""

    encoded: Sequence[Encoded]
    wanted: Sequence[bool]
    paired: bool


def read_answers(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], shape: Shape, reading: Reading
) -> Answers:
    """The rows as tokens."""
    paired = shape == "preference"
    columns = (("chosen", True), ("rejected", False)) if paired else (("completion", None),)
    asked = [(row, column, liked) for row in rows for column, liked in columns]
    encoded = encode_answers(
        tokenizer, [(row["prompt"], row[column]) for row, column, _ in asked], reading
    )
    wanted = [bool(row["desirable"]) if liked is None else liked for row, _, liked in asked]
    return Answers(encoded, wanted, paired)


def measure_preferences(folder: Path, answers: Answers, tell: Tell) -> dict[str, float]:
    """loss and perplexity of wanted answers; preference_margin; of pairs also preference_accuracy."""
    model = load_model(AutoModelForCausalLM, folder)
    sums, tokens = answer_log_probabilities(model, answers.encoded, tell)
    wanted = np.array(answers.wanted)
    loss = -float(sums[wanted].sum() / max(1, tokens[wanted].sum()))
    metrics = {"loss": loss, "perplexity": math.exp(min(loss, LARGEST_EXPONENT))}
    if answers.paired:
        gaps = sums[0::2] - sums[1::2]
        return metrics | {
            "preference_accuracy": float((gaps > 0).mean()),
            "preference_margin": float(gaps.mean()),
        }
    means = sums / np.maximum(tokens, 1)
    margin = float(means[wanted].mean() - means[~wanted].mean()) if any(~wanted) else math.nan
    return metrics | {"preference_margin": margin}


def answer_log_probabilities(
    model: PreTrainedModel, rows: Sequence[Encoded], tell: Tell
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of each answer's log-probabilities and the number of its tokens: (rows,) float64, int64."""
    sums, tokens = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    done = 0
    lengths = [len(row.tokens) for row in rows]
    for batch in by_length(lengths, most_tokens=max(1, LOGITS_AT_ONCE // vocabulary)):
        for place, (total, number) in zip(
            batch, _score(model, [rows[index] for index in batch]), strict=True
        ):
            sums[place], tokens[place] = total, number
        done += len(batch)
        tell(done / len(rows))
    return sums, tokens


def _score(model: PreTrainedModel, rows: Sequence[Encoded]) -> list[tuple[float, int]]:
    """Sum and number for each row of a batch; ids: (B, T)."""
    width = max(len(row.tokens) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, answer = torch.zeros_like(ids), torch.zeros(len(rows), width, dtype=torch.bool)
    for place, row in enumerate(rows):
        length = len(row.tokens)
        ids[place, :length], mask[place, :length] = torch.tensor(row.tokens), 1
        answer[place, :length] = torch.tensor(row.answer)
    ids, mask, wanted = (x.to(model.device) for x in (ids, mask, answer[:, 1:]))
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
        likely = torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None])[:, :, 0]
    sums = (likely.double() * wanted).sum(1).tolist()
    return list(zip(sums, wanted.sum(1).tolist(), strict=True))
