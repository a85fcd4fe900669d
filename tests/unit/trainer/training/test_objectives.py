"""Preferences move the model towards the chosen answers; the losses are TRL's on the same batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.training import loss
from oikyo_trainer.training.distributed import World
from oikyo_trainer.training.methods.adapters import add_adapter
from oikyo_trainer.training.microbatch import Layout, build
from oikyo_trainer.training.objectives import dpo_loss, kto_loss, orpo_loss
from oikyo_trainer.training.preferences import (
    ComparedRows,
    answer_log_probabilities,
    kind_of,
)
from oikyo_trainer.training.probe import Choice, choose
from oikyo_trainer.training.tokenfiles import IGNORED, TokenRows
from unit.trainer.training.conftest import WORDS, digest, write_dataset
from unit.trainer.training.processes import gang
from unit.trainer.training.rounds import judged, served

pytestmark = pytest.mark.timeout(120)


def turns(word: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": word}]


def pairs(number: int) -> list[dict[str, Any]]:
    """The chosen answer is the next word in WORDS, the rejected one the word before."""
    return [
        {
            "prompt": turns(WORDS[row % 9]),
            "chosen": WORDS[(row + 1) % 9],
            "rejected": WORDS[(row - 1) % 9],
        }
        for row in range(number)
    ]


def votes(number: int) -> list[dict[str, Any]]:
    rows = []
    for row in range(number):
        step = 1 if row // 9 % 2 else -1
        answer = WORDS[(row + step) % 9]
        rows.append({"prompt": turns(WORDS[row % 9]), "completion": answer, "desirable": step == 1})
    return rows


def spec(lab: Any, objective: str, *, run: str = "run-1", **training: Any) -> Any:
    shape = "unpaired" if objective == "KTO" else "preference"
    if not (lab.workspace / layout.dataset(digest(shape))).exists():
        rows = votes(117) if objective == "KTO" else pairs(117)
        write_dataset(lab.workspace, shape, shape, rows, validation=18)
    settings = {"objective": objective, "epochs": 4, "learning_rate": "5e-3", **training}
    made = lab.spec("TextGeneration", run=run, **settings)
    return made.model_copy(update={"dataset_digest": digest(shape)})


def values(metrics: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in metrics}


GATES: dict[str, Any] = {"gates": [{"metric": "preference_margin", "betterThan": "Base"}]}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["LoRA", "Full"])
@pytest.mark.parametrize("objective", ["DPO", "ORPO", "KTO"])
def test_the_margin_of_the_preferred_answers_rises_above_the_base(
    lab: Any, objective: str, method: str
) -> None:
    result = judged(lab, spec(lab, objective, method=method), **GATES)
    tuned, base = values(result.metrics), values(result.baseline)
    assert tuned["preference_margin"] > base["preference_margin"] + 0.5
    assert result.accepted
    if objective != "KTO":
        assert tuned["preference_accuracy"] == 1.0 > base["preference_accuracy"]
    assert served(lab, "TextGeneration", result.version) is not None


@pytest.mark.slow
def test_comparisons_accumulated_by_two_processes_learn_as_the_whole_batch_does(lab: Any) -> None:
    objective = "KTO"  # pairs are dealt by the same code, without an estimate over processes
    still = {"lora": {"dropout": "0"}, "epochs": 1}  # the 13th step has 3 rows for the two
    path = lab.workspace / layout.model(spec(lab, objective).model_digest) / "config.json"
    path.write_text(path.read_text().replace('"attention_dropout": 0.1', '"attention_dropout": 0'))
    whole = lab.train(spec(lab, objective, run="whole", **still))
    parts = gang(
        lab, spec(lab, objective, run="parts", micro_batch_size=2, strategy="DDP", **still)
    )
    wanted = values(whole.metrics)["eval_loss"]
    assert values(parts.metrics)["eval_loss"] == pytest.approx(wanted, abs=1e-4)
    left = lab.weights(whole)
    assert all(torch.allclose(w, left[name], atol=1e-4) for name, w in lab.weights(parts).items())
    chosen = {(one.name, one.value) for one in parts.resolved}
    assert {("training.loss", "LabelledTokens"), ("training.rows", "Packed")} <= chosen


@pytest.mark.parametrize("method", ["Full", "LoRA"])
@pytest.mark.parametrize("objective", ["DPO", "ORPO", "KTO"])
def test_packed_comparisons_have_the_losses_and_gradients_of_padded_ones_and_all_logits(
    lab: Any, objective: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(loss, "rows_at_once", lambda vocabulary: 3)  # several chunks
    folder = lab.workspace / layout.model(lab.spec("TextGeneration").model_digest)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attention_dropout=0)
    training = TrainingSpec(method=method, objective=objective, lora={"dropout": "0"})
    if method == "LoRA":
        model = add_adapter(model, "TextGeneration", training, autocast=True)
    rows = comparisons(6)
    trainer: Any = kind_of(training)()
    trainer.args = SimpleNamespace(device=torch.device("cpu"))
    trainer.training_spec, trainer.world = training, World()
    trainer.references = {True: -40 - 5 * torch.rand(6, 2)}  # a divergence above 0
    trainer.desirable = {True: torch.from_numpy(rows.desirable)}
    found = []
    # ~row is computed beside the others and changes nothing.
    for bin_ in ([5, 0, 3, 4, 2], [5, 0, ~1, 3, 4, 2]):
        trainer.choice = choose(model, 0, sharded=False) if ~1 in bin_ else PADDED
        part, *others = (
            build(rows, bin_, replace(trainer.choice.layout, sequences=2, sides=sides))
            for sides in (trainer.sides, trainer.others)
            if sides
        )
        model.train().zero_grad()
        if others:
            trainer._divergence = trainer._estimated(model, others)
        sums, tokens = answer_log_probabilities(model, part, fused=trainer.choice.fused)
        losses = trainer._losses(part, sums, tokens, learned=True)[part.numbers >= 0]
        total = trainer._summed(model, part)
        total.backward()
        grads = {name: w.grad for name, w in model.named_parameters() if w.requires_grad}
        found.append({"losses": losses.detach(), "total": total.detach(), **grads})
    assert part.slots == part.tokens, trainer.choice.packing_reason
    assert trainer.choice.fused, trainer.choice.loss_reason
    for name, wanted in found[0].items():
        torch.testing.assert_close(found[1][name], wanted, rtol=1e-5, atol=1e-5, msg=name)


PADDED = Choice(Layout(packed=False, pad_token_id=0), False, "", "")


def comparisons(number: int) -> ComparedRows:
    """Sequences of random tokens and lengths, of which the last ones are the answer's; votes in turn."""
    dice = np.random.default_rng(4)
    lengths = dice.integers(1, 6, (2 * number, 2))  # of prompts and answers
    marks = np.concatenate([np.arange(sum(both)) >= both[0] for both in lengths])
    tokens = dice.integers(4, 13, len(marks))
    sequences = TokenRows(tokens, marks, lengths.sum(axis=1).cumsum(), lengths[:, 1])
    return ComparedRows(sequences, np.arange(number) % 2 == 0)


def test_rows_of_another_shape_are_refused(lab: Any) -> None:
    wrong = spec(lab, "DPO").model_copy(update={"dataset_digest": digest("pairs")})
    with pytest.raises(Refused, match="learns from rows of shape preference"):
        lab.train(wrong)


def test_an_untouched_model_has_the_loss_of_a_coin() -> None:
    reference = torch.tensor([[-3.0, -5.0]])
    loss = dpo_loss(reference[:, 0], reference[:, 1], reference, beta=0.1)
    assert loss.item() == pytest.approx(0.693147, abs=1e-5)
    even = kto_loss(torch.zeros(2), torch.tensor([True, False]), torch.tensor(0.0), beta=0.1)
    assert even.tolist() == [0.5, 0.5]


def test_a_vote_pulls_its_answer_to_its_side() -> None:
    gain = torch.zeros(2, requires_grad=True)
    loss = kto_loss(gain, torch.tensor([True, False]), torch.tensor(0.3), beta=0.1)
    loss.sum().backward()
    assert gain.grad is not None
    assert gain.grad[0] < 0 < gain.grad[1]


def test_the_odds_are_those_of_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOTrainer

    chosen, rejected = torch.tensor([-0.5, -2.0]), torch.tensor([-1.5, -0.2])
    gather = SimpleNamespace(gather_for_metrics=lambda value: value, device="cpu")
    theirs = ORPOTrainer.odds_ratio_loss(
        SimpleNamespace(beta=0.2, accelerator=gather), chosen, rejected
    )[0]
    assert torch.allclose(orpo_loss(chosen, rejected, 0.2) + chosen, -theirs, atol=1e-5)


def test_the_loss_of_a_batch_is_that_of_trls_trainer(lab: Any, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    folder = lab.workspace / layout.model(lab.spec("TextGeneration").model_digest)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder).eval()
    tuned = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    rows = [
        {"prompt": f"{WORDS[i]} ", "chosen": f"{WORDS[i + 1]} sun", "rejected": WORDS[i + 2]}
        for i in range(4)
    ]
    theirs = DPOTrainer(
        model=tuned, ref_model=base, processing_class=tokenizer,
        args=DPOConfig(str(tmp_path), beta=0.3, use_cpu=True, report_to="none", bf16=False),
        train_dataset=Dataset.from_list(rows),
    )  # fmt: skip
    items = [theirs.train_dataset[i] for i in range(len(rows))]
    batch = theirs.data_collator(items)
    tuned.eval()
    with torch.no_grad():
        expected = theirs.compute_loss(tuned, batch)
        sequences = [_sequence(item, side) for item in items for side in ("chosen", "rejected")]
        ours = build(sequences, range(4), Layout(False, tokenizer.pad_token_id, 2, (0, 1)))
        sums, _ = answer_log_probabilities(tuned, ours, fused=False)
        known, _ = answer_log_probabilities(base, ours, fused=False)
    found = dpo_loss(sums[0], sums[1], known.T, 0.3)
    assert found.mean().item() == pytest.approx(expected.item(), abs=1e-5)


def _sequence(item: dict[str, Any], side: str) -> dict[str, Any]:
    prompt, answer = item["prompt_ids"], item[f"{side}_ids"]
    return {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
