"""The last layer for classes or a number, put on a base that has none: its outputs, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..numbers import Scale, put_in, scale_in

HEADS = ("classifier", "score")
"""Names that transformers gives to the head of a sequence classifier."""
BEFORE_HEADS = ("pooler", "pre_classifier")
"""Names of what such a head reads the row through: new where the base has none, and made for another end
where it has one (a sentence encoder averages its tokens and never uses the pooler that it was saved with)."""

NUMBER = ("number",)
"""Name of the one output of a head that says a number."""

Problem = Literal["single_label_classification", "multi_label_classification", "regression"]
"""transformers' words for what the outputs of a head are."""


@dataclass(frozen=True)
class Head:
    """What the outputs of the last layer stand for."""

    names: tuple[str, ...]
    problem: Problem = "single_label_classification"
    scale: Scale | None = None
    """On which a head learns numbers (regression)."""


def load_headed(base: Path, config: Any, head: Head, folder: Path | None, **options: Any) -> Any:
    """The base in `base` with the head, or both from a checkpoint `folder`; `config` is the base's.

    `options` are those of from_pretrained.
    """
    from transformers import AutoModelForSequenceClassification

    names = dict(enumerate(head.names))
    model = AutoModelForSequenceClassification.from_pretrained(
        folder or base,
        num_labels=len(names),
        id2label=names,
        label2id={label: index for index, label in names.items()},
        problem_type=head.problem,
        # A base that was a classifier of something else has a head of another size.
        ignore_mismatched_sizes=True,
        **options,
    )
    had_head = any("SequenceClassification" in name for name in config.architectures or ())
    if folder is None and had_head and config.id2label != names:
        # As many classes but other ones: what the old head knows would only mislead.
        for layer in _layers(model):
            layer.apply(model._init_weights)
    if head.scale is not None:
        if folder is None and had_head and (before := scale_in(config)) is not None:
            _rescale(model, before, head.scale)
        put_in(model.config, head.scale)
    return model


def _layers(model: Any) -> list[Any]:
    """The head's layers, which the architectures call by other names."""
    return [layer for name in HEADS if (layer := getattr(model, name, None)) is not None]


def _rescale(model: Any, before: Scale, after: Scale) -> None:
    """Let a head that learned numbers on one scale say the same numbers on another.

    A head without a bias (of a decoder) can only be stretched; the shift is learned.
    """
    import torch

    inside = (part for layer in _layers(model) for part in layer.modules())
    layer = [part for part in inside if isinstance(part, torch.nn.Linear)][-1]
    with torch.no_grad():
        layer.weight.mul_(before.std / after.std)
        if layer.bias is not None:
            layer.bias.mul_(before.std / after.std).add_((before.mean - after.mean) / after.std)
