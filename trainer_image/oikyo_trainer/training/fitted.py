"""A new head that begins as a linear probe instead of at random (Kumar et al. 2022).

A random head sends gradients through the base that spoil what it knows, and methods that move a row's features
little would spend most of their steps on it. `begin` is called once, before the first step and on every rank: the
pooler passes on what it reads, standardised, and the last layer is a logistic regression on it. Then both learn at
a share of the rate (`headrate`).
"""

from __future__ import annotations

import logging
import time
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from oikyo.api.jobstatus import Resolved
from oikyo.api.training import TrainingSpec

from .batches import Collator
from .distributed import World, from_first
from .headrate import SHARE
from .heads import Head
from .model import Base, innermost
from .rate import peaks_of
from .setting import Setting
from .trainers import batches_of_like_length

log = logging.getLogger("oikyo.train")

METHODS = ("Full", "LoRA", "OFT", "LayerNorm", "IA3", "PromptTuning")
"""Those it was measured with (docs/reference/methods.md); QLoRA's base in few bits was not."""
MOST_ROWS = 2000
"""Training rows that a head is fitted on at most."""
STRENGTH = 0.12
"""Inverse of the probe's L2 penalty (scikit-learn's C); measured on validation rows (docs/reference/methods.md)."""
SLOPE = 0.5
"""Of a pooler's tanh in standard deviations of what it reads: nearly linear for most rows."""

Floats = npt.NDArray[np.float64]


def begins_fitted(training: TrainingSpec, head: Head | None, base: Base, world: World) -> bool:
    """Whether the head is new and of one class for a row, and what it reads through is a pooler with tanh.

    The same on every attempt. In tensor groups it stays as it was drawn.
    """
    if training.method not in METHODS or world.tensor > 1 or head is None:
        return False
    if head.problem != "single_label_classification" or len(head.names) < 2:
        return False
    return not _knows(base, head.names) and _layers(_outline(base)) is not None


def _outline(base: Base) -> Any:
    """The classifier that the base becomes, without weights; None: its architecture has none."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    made: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(base.config), None)
    # Not from_config: behind a training under ZeRO-3 (of a fold) that would part this model as well.
    with torch.device("meta"):
        return None if made is None else made(copy(base.config))


def began_fitted(checkpoint: Path) -> bool:
    """Whether the head of this checkpoint has a rate of its own; one of an older version has not."""
    if len(set(peaks_of(checkpoint))) > 1:
        return True
    log.info(
        "the head of %s did not begin fitted, and goes on with the rate of the others",
        checkpoint.name,
    )
    return False


def _knows(base: Base, names: tuple[str, ...]) -> bool:
    """Whether the base has a head for these classes, which is not new."""
    had_head = any("SequenceClassification" in name for name in base.config.architectures or ())
    return had_head and base.config.id2label == dict(enumerate(names))


def begin(setting: Setting, model: Any, rows: Any, device: torch.device) -> Resolved:
    """Fit the head of `model`, on `device`, to training rows; returns what was chosen."""
    begun = time.monotonic()
    model.to(device)
    if setting.spec.training.method == "PromptTuning":
        quiet_vectors(model, setting.base.tokenizer)
    order = np.random.default_rng(setting.spec.training.seed).permutation(len(rows))
    rows = rows.take(np.sort(order[:MOST_ROWS]))
    pad = Collator(setting.base.tokenizer.pad_token_id)
    features, classes = read(
        model, rows, pad, micro=setting.plan.micro_batch, bf16=setting.plan.bf16
    )
    head = setting.source.head
    assert head is not None
    # Ranks of different processors may differ in the last bit.
    put(model, from_first(setting.world, fit(features, classes, len(head.names))))
    log.info("head fitted on %d rows in %.1f s", len(rows), time.monotonic() - begun)
    return told(len(order))


def told(rows: int) -> Resolved:
    """How the head begins with so many training rows, as a person reads it."""
    reason = (
        f"a logistic regression on {min(MOST_ROWS, rows)} training rows, which then learns at {SHARE:g} of the rate: "
        "a random one would spoil what the base knows"
    )
    return Resolved(name="training.head", value="Fitted", reason=reason)


def quiet_vectors(model: Any, tokenizer: Any) -> None:
    """Let the vectors begin as the encoder's own first token and then its separator.

    The pooler reads the place of the first vector, and an encoder's heads attend to separators where they have
    nothing to do (Clark et al. 2019): a row's features stay what they were without vectors.
    """
    first, separator = tokenizer.cls_token_id, tokenizer.sep_token_id
    if first is None or separator is None:
        return
    vectors = model.prompt_encoder["default"].embedding.weight
    known = innermost(model).get_input_embeddings().weight
    with torch.no_grad():
        vectors.copy_(known[[first, *[separator] * (len(vectors) - 1)]])


def trained_layers(model: Any) -> list[torch.nn.Parameter]:
    """Weights of the fitted head and its pooler."""
    layers = _layers(model)
    return [weight for layer in layers or () for weight in layer.parameters()]


def _layers(model: Any) -> tuple[torch.nn.Linear, torch.nn.Linear] | None:
    """The linear layer of the pooler and that of the head, the ones that are trained; None: other parts."""
    if model is None:
        return None
    inner = innermost(model)
    poolers = [m for name, m in inner.named_modules() if name.rpartition(".")[2] == "pooler"]
    pooler, head = _active(next(iter(poolers), None)), _active(getattr(inner, "classifier", None))
    dense = getattr(pooler, "dense", None)
    if not isinstance(getattr(pooler, "activation", None), torch.nn.Tanh):
        return None
    if not isinstance(dense, torch.nn.Linear) or not isinstance(head, torch.nn.Linear):
        return None
    square = dense.in_features == dense.out_features == head.in_features
    return (dense, head) if square and dense.bias is not None and head.bias is not None else None


def _active(layer: Any) -> Any:
    """peft's copy of a layer that is trained, or the layer itself."""
    return layer.modules_to_save["default"] if hasattr(layer, "modules_to_save") else layer


@torch.no_grad()
def read(
    model: Any, rows: Any, pad: Collator, *, micro: int, bf16: bool
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """What the pooler reads of each row, without dropout (rows, width), and the rows' classes."""
    layers = _layers(model)
    assert layers is not None
    found = np.zeros((len(rows), layers[0].in_features))
    classes = np.zeros(len(rows), dtype=np.int64)
    seen: list[torch.Tensor] = []
    handle = layers[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    was_training = model.training
    model.eval()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
        for batch in batches_of_like_length(rows, micro):
            inputs = pad([rows[index] for index in batch])
            classes[batch] = inputs.pop("labels").numpy()
            model(**{name: values.to(model.device) for name, values in inputs.items()})
            found[batch] = seen.pop().double().cpu().numpy()
    model.train(was_training)
    handle.remove()
    return found, classes


def fit(
    features: Floats, classes: npt.NDArray[np.int64], outputs: int
) -> tuple[torch.Tensor, ...] | None:
    """Weights and biases of pooler and head; None where the rows are all of one class."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(classes)) < 2:
        return None
    scale = SLOPE / np.maximum(features.std(0), 1e-6)
    shift = -scale * features.mean(0)
    probe = LogisticRegression(C=STRENGTH, max_iter=500)
    probe.fit(np.tanh(features * scale + shift), classes)
    weights, bias = probe.coef_, probe.intercept_
    if len(bias) == 1:  # of two classes scikit-learn keeps the log-odds of the second
        weights, bias = (np.concatenate((-half, half)) for half in (weights / 2, bias / 2))
    every = np.zeros((outputs, features.shape[1]))
    begun = np.full(outputs, bias.min())  # a class that no row has is as rare as the rarest
    every[probe.classes_], begun[probe.classes_] = weights, bias
    return tuple(torch.from_numpy(part) for part in (np.diag(scale), shift, every, begun))


def put(model: Any, weights: tuple[torch.Tensor, ...] | None) -> None:
    """Put what was fitted into the pooler and the head."""
    if weights is None:
        return
    with torch.no_grad():
        for place, value in zip(trained_layers(model), weights, strict=True):
            place.copy_(value)
