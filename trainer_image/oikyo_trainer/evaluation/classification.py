"""Accuracy, macro F1 and loss of a text classifier; the base model by its own head or by a linear probe.

A base encoder has no head for the job's labels. "Base" then means: its frozen features, mean pooled,
under a multinomial logistic regression fitted on the training split. It is what the base model
already knows, measured without fine-tuning it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..errors import Refused
from .class_scores import class_scores
from .cut import Reading
from .models import context_length, load_config, load_model, load_tokenizer
from .prompts import encode_texts
from .rows import Row, by_length, choose

Floats = npt.NDArray[np.float64]
Tell = Callable[[float], None]
"""Told the share of the work that is done, 0 to 1."""
TOKENS_AT_ONCE = 8192
PROBE_ROWS = 5000
"""Training rows that the linear probe is fitted on at most."""
PROBE_STRENGTH = 0.1
"""Inverse of the probe's L2 penalty (scikit-learn's C), over standardised features."""


@dataclass(frozen=True)
class Question:
    """What both models are asked: the same rows in the same order."""

    rows: Sequence[Row]
    labels: tuple[str, ...]
    reading: Reading
    seed: int = 42


def ask_classifier(folder: Path, question: Question, tell: Tell) -> Floats:
    """Log-probabilities of the classifier in `folder`: (rows, labels)."""
    model = load_model(AutoModelForSequenceClassification, folder)
    columns = columns_of(model.config.id2label, question.labels, folder)
    logits = forward(model, load_tokenizer(folder), question, logits_of, tell)
    return _log_softmax(logits[:, columns])


def ask_base(
    folder: Path, train: Sequence[Row], question: Question, tell: Tell
) -> tuple[Floats, str]:
    """Log-probabilities of the base model, and in a sentence how they came about."""
    if has_same_labels(folder, question.labels):
        said = ask_classifier(folder, question, tell)
        return said, "the base model's own classification head, which has the same labels"
    fit = probe_rows(train, PROBE_ROWS)
    model, tokenizer = load_model(AutoModel, folder), load_tokenizer(folder)
    lesson = Question(fit, question.labels, question.reading)
    known = forward(model, tokenizer, lesson, pooled, lambda share: tell(share * 0.7))
    asked = forward(model, tokenizer, question, pooled, lambda share: tell(0.7 + share * 0.3))
    return _probe(known, [row["label"] for row in fit], asked, question), (
        "the base model's frozen features, mean pooled, under a multinomial logistic regression "
        f"fitted on {len(fit)} rows of the training split"
    )


def has_same_labels(folder: Path, labels: tuple[str, ...]) -> bool:
    """Whether the base model is already a classifier for exactly these labels."""
    config = load_config(folder)
    heads = config.architectures or ()
    is_classifier = any(name.endswith("ForSequenceClassification") for name in heads)
    return is_classifier and set(config.id2label.values()) == set(labels)


def score(log_probabilities: Floats, question: Question) -> dict[str, float]:
    """accuracy, f1_macro over the classes that the rows hold, and loss = mean cross-entropy."""
    index = {label: column for column, label in enumerate(question.labels)}
    truth = np.array([index[row["label"]] for row in question.rows])
    loss = float(-log_probabilities[np.arange(len(truth)), truth].mean())
    return {**class_scores(log_probabilities, truth), "loss": loss}


def right(log_probabilities: Floats, question: Question) -> npt.NDArray[np.bool_]:
    """Of each row, whether the most likely label is the true one."""
    guess = [question.labels[column] for column in log_probabilities.argmax(axis=1)]
    return np.array([a == row["label"] for a, row in zip(guess, question.rows, strict=True)])


def probe_rows(train: Sequence[Row], limit: int) -> list[Row]:
    """At most `limit` training rows by content, and one more of each class they would miss."""
    ordered = choose(train, None)
    chosen = ordered[:limit]
    seen = {row["label"] for row in chosen}
    for row in ordered[limit:]:
        if row["label"] not in seen:
            seen.add(row["label"])
            chosen.append(row)
    return chosen


def columns_of(id2label: dict[int, str], labels: tuple[str, ...], folder: Path) -> list[int]:
    """The model's output column of each of the dataset's labels."""
    column = {str(name): int(index) for index, name in id2label.items()}
    missing = [label for label in labels if label not in column]
    if missing:
        raise Refused(
            "LabelsDiffer",
            f"the model in {folder.name} has no output for the label {missing[0]!r}",
            evidence=f"config.json names {len(column)} labels, the dataset has {len(labels)}",
            next_step="Train the model on this dataset again under a new job name.",
        )
    return [column[label] for label in labels]


def forward(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: Question,
    read: Callable[[PreTrainedModel, dict[str, torch.Tensor]], torch.Tensor],
    tell: Tell,
) -> Floats:
    """One row of numbers for each row of text, in the order given: (rows, width) float64."""
    reading = question.reading.for_all(context_length(model.config, tokenizer))
    texts = [row["text"] for row in question.rows]
    ids = [tokens for tokens, _ in encode_texts(tokenizer, texts, reading)]
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    found: dict[int, Floats] = {}
    for batch in by_length([len(row) for row in ids], most_tokens=TOKENS_AT_ONCE):
        inputs = tokenizer.pad(
            {"input_ids": [ids[i] for i in batch]}, padding_side="right", return_tensors="pt"
        )
        with torch.inference_mode():
            output = read(model, {key: value.to(model.device) for key, value in inputs.items()})
        found.update(zip(batch, output.double().cpu().numpy(), strict=True))
        tell(len(found) / len(ids))
    return np.stack([found[index] for index in range(len(ids))])


def logits_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = model(**inputs).logits
    return logits


def pooled(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean over a row's real tokens of the last hidden state: (B, D)."""
    hidden = model(**inputs).last_hidden_state.float()
    mask = inputs["attention_mask"].unsqueeze(-1).float()
    pooled: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
    return pooled


def _probe(known: Floats, truth: list[str], asked: Floats, question: Question) -> Floats:
    """Log-probabilities by the probe; a class that training never saw gets the least there is."""
    scaler = StandardScaler().fit(known)
    probe = LogisticRegression(C=PROBE_STRENGTH, max_iter=500, random_state=question.seed)
    probe.fit(scaler.transform(known), truth)
    least = np.log(np.finfo(np.float64).tiny)
    answer = np.full((len(asked), len(question.labels)), least)
    column = {label: index for index, label in enumerate(question.labels)}
    known_columns = [column[label] for label in probe.classes_]
    answer[:, known_columns] = probe.predict_log_proba(scaler.transform(asked))
    return answer


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
