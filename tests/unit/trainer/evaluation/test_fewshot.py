"""Examples before the question: chosen the same everywhere, never scored, compared with training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from oikyo.api import workspace as layout
from oikyo.api.evaluation import Gate
from oikyo.api.fewshot import FewShot
from oikyo_trainer.data.fewshot import answer, choose, question, store
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.evaluation.fewshot import encode_with_examples
from oikyo_trainer.evaluation.gates import judge
from oikyo_trainer.evaluation.prompts import encode
from oikyo_trainer.evaluation.rows import content_key, open_dataset
from unit.trainer.evaluation.tiny import LABELS, Bench, chat_rows, pair_rows, tokenizer

SHAPES = pytest.mark.parametrize("bench", ["prompt-completion", "messages"], indirect=True)


def dataset(bench: Bench) -> Any:
    return open_dataset(bench.workspace, bench.dataset)


@SHAPES
def test_the_nearest_rows_share_words_with_the_question(bench: Bench) -> None:
    choice = choose(dataset(bench), FewShot(examples=2))
    for row in dataset(bench).rows("test"):
        places = choice.by_row[content_key(row)]
        assert len(set(places)) == 2
        nearest = choice.examples[places[-1]]
        assert set(question(row).split()) & set(question(nearest).split()) - {"a", "is"}
        assert answer(nearest) == answer(row), "the words of a kind stand with their kind"


@SHAPES
def test_examples_of_each_answer_come_in_turn(bench: Bench) -> None:
    choice = choose(dataset(bench), FewShot(examples=4, choose_by="Class"))
    answers = [answer(choice.examples[place]).strip() for place in choice.fixed]
    assert sorted(answers[:3]) == sorted(LABELS)
    assert answers[3] == answers[0]
    other = choose(dataset(bench), FewShot(examples=4, choose_by="Class", seed=1))
    assert other.examples != choice.examples


@SHAPES
def test_diverse_examples_are_less_alike_than_random_ones(bench: Bench) -> None:
    def shared(rows: list[Any]) -> int:
        words = [set(question(row).split()) for row in rows]
        return sum(len(a & b) for n, a in enumerate(words) for b in words[:n])

    data = dataset(bench)
    diverse = choose(data, FewShot(examples=5, choose_by="Diversity")).examples
    assert len({question(row) for row in diverse}) == 5
    dice, rows = np.random.default_rng(0), data.rows("train")
    random = [shared([rows[n] for n in dice.permutation(len(rows))[:5]]) for _ in range(20)]
    assert shared(diverse) < np.mean(random)


@pytest.mark.parametrize("bench", ["prompt-completion"], indirect=True)
def test_a_choice_is_made_once_and_is_the_same_bytes(bench: Bench) -> None:
    asked = FewShot(examples=3)
    first = store(bench.workspace, bench.dataset, asked)
    path = bench.workspace / layout.few_shot(bench.dataset, asked)
    body = path.read_bytes()
    path.unlink()
    assert store(bench.workspace, bench.dataset, asked) == first
    assert path.read_bytes() == body
    assert store(bench.workspace, bench.dataset, asked) == first


@pytest.mark.parametrize("bench", ["prompt-completion", "text"], indirect=True)
def test_more_examples_than_rows_are_refused(bench: Bench, monkeypatch: Any) -> None:
    from oikyo_trainer.data import fewshot

    monkeypatch.setattr(fewshot, "CANDIDATES", 5)
    with pytest.raises(Refused, match=r"data\.fewShot\.examples is 9, and [05] training rows"):
        choose(dataset(bench), FewShot(examples=9))


def with_examples(bench: Bench, context: int) -> tuple[Any, Any, Any]:
    words = tokenizer(chat=bench.shape == "messages")
    data = dataset(bench)
    rows = data.rows("test")
    choice = choose(data, FewShot(examples=3))
    reading = Reading(64)
    plain = encode(words, rows, data.shape, reading)
    shown = encode_with_examples(words, rows, data.shape, reading, choice, context=context, room=4)
    return words, plain, shown


@SHAPES
def test_the_same_answers_are_scored_with_and_without_examples(bench: Bench) -> None:
    words, plain, shown = with_examples(bench, 400)
    for one, other in zip(plain, shown, strict=True):
        assert one.tokens[one.answer].tolist() == other.tokens[other.answer].tolist()
        assert other.length > 2 * one.length
        assert one.reference == other.reference
        assert words.decode(other.prompt).endswith(words.decode(one.prompt))


@SHAPES
def test_examples_that_do_not_fit_go_and_the_question_stays(bench: Bench) -> None:
    words, plain, shown = with_examples(bench, 64)
    for one, other in zip(plain, shown, strict=True):
        assert len(other.tokens) <= 64
        assert one.tokens[one.answer].tolist() == other.tokens[other.answer].tolist()
        assert words.decode(other.prompt).endswith(words.decode(one.prompt))
    assert any(other.length > one.length for one, other in zip(plain, shown, strict=True))


@SHAPES
def test_all_four_are_measured_and_recorded(bench: Bench) -> None:
    asked = FewShot(examples=2)
    with pytest.raises(Refused, match="no examples of this choice"):
        evaluate(bench.spec(few_shot=asked), bench.context)
    store(bench.workspace, bench.dataset, asked)
    gates = [{"metric": "loss", "better_than": "FewShot"}]
    spec = bench.spec(
        few_shot=asked, evaluation={"max_rows": 8, "max_new_tokens": 4, "gates": gates}
    )
    result = evaluate(spec, bench.context)
    tuned = {metric.name: float(metric.value) for metric in result.metrics}
    base = {metric.name: float(metric.value) for metric in result.baseline}
    assert set(tuned) == set(base) >= {"loss", "few_shot_loss", "few_shot_exact_match"}
    assert len({tuned["loss"], tuned["few_shot_loss"], base["loss"], base["few_shot_loss"]}) == 4
    (gate,) = result.gates
    assert float(gate.threshold) == base["few_shot_loss"]
    assert gate.passed == (tuned["loss"] < base["few_shot_loss"])
    card = (bench.workspace / result.path / "README.md").read_text()
    assert "few_shot_loss" in card
    assert "with 2 examples in the prompt" in card


def test_a_gate_against_examples_compares_with_the_base_that_has_them() -> None:
    gates = (Gate(metric="loss", better_than="FewShot"),)
    base = {"loss": 3.0, "few_shot_loss": 1.0}
    (lost,) = judge(gates, {"loss": 2.0}, base, "TextGeneration")
    (won,) = judge(gates, {"loss": 0.5}, base, "TextGeneration")
    assert (lost.passed, won.passed) == (False, True)
    assert lost.rule == "better than the base with examples"
    (unknown,) = judge(gates, {"loss": 0.5}, {"loss": 3.0}, "TextGeneration")
    assert not unknown.passed


def test_the_choice_of_a_row_follows_its_content_alone() -> None:
    assert [content_key(row) for row in pair_rows("test")] == [
        content_key(json.loads(json.dumps(row))) for row in pair_rows("test")
    ]
    assert question(chat_rows("test")[0]) == "some cat"
