"""The last layer of a classifier, put on a base that has none: its outputs, and how they are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

HEADS = ("classifier", "score")
"""Names that transformers gives to the head of a sequence classifier."""

Problem = Literal["single_label_classification", "multi_label_classification"]
"""transformers' words for what the outputs of a head are."""


@dataclass(frozen=True)
class Head:
    """What the outputs of a classifier's last layer stand for."""

    names: tuple[str, ...]
    problem: Problem = "single_label_classification"


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
        for name in HEADS:
            if (layer := getattr(model, name, None)) is not None:
                layer.apply(model._init_weights)
    return model
