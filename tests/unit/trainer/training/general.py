"""Trainings beside general rows, and a base that knows those."""

from __future__ import annotations

from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import GeneralRows, TrainSpec
from unit.trainer.training.conftest import WORDS, Lab, digest, write_dataset

FORGETFUL: dict[str, Any] = {
    "method": "Full",
    "epochs": 4,
    "learning_rate": "5e-3",
    "scheduler": "Constant",
    "checkpoints": {"every_steps": 6, "keep": 20},
}


def backwards(number: int) -> list[dict[str, Any]]:
    """Texts that count the words down: another language than that of the pairs, which count up."""
    return [
        {"text": " ".join(WORDS[(row - i) % len(WORDS)] for i in range(4 + row % 5)) + " "}
        for row in range(number)
    ]


def a_base_that_knows(lab: Lab) -> str:
    """The tiny base after a training on the general texts, as a base of its own; returns its digest."""
    write_dataset(lab.workspace, "knowledge", "text", backwards(200))
    spec = lab.spec("TextGeneration", run="school", method="Full", epochs=6, learning_rate="5e-3")
    result = lab.train(spec.model_copy(update={"dataset_digest": digest("knowledge")}))
    (lab.workspace / result.model_path).rename(lab.workspace / layout.model(digest("knowing")))
    return digest("knowing")


def with_general(lab: Lab, run: str, *, base: str = "", **more: Any) -> TrainSpec:
    """A training on the pairs with general texts beside them."""
    from oikyo_trainer.data.tokenise import Request, tokenise

    general = {"sources": [{"uri": "file:///general.jsonl"}], **more.pop("general", {})}
    spec = lab.spec("TextGeneration", run=run, **{**FORGETFUL, "general": general, **more})
    if base:
        spec = spec.model_copy(update={"model_digest": base})
    if not (lab.workspace / layout.dataset(digest("general"))).exists():
        write_dataset(lab.workspace, "general", "text", backwards(60), validation=20)
    asked = Request(spec.task, digest("general"), spec.model_digest, spec.training)
    tokens = tokenise(lab.workspace, asked, lab.workspace / f".general-{run}", lambda _: None)
    rows = GeneralRows(dataset_digest=digest("general"), tokens_digest=tokens.digest)
    return lab.tokenised(spec.model_copy(update={"general": rows}))
