"""The evaluate stage on tiny real models: metrics, verdict, version, and running it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from oikyo.api import workspace as layout
from oikyo.api.stages import TERMINATION_LIMIT, LastWords
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.classification import Question, ask_base, ask_classifier, score
from oikyo_trainer.evaluation.cut import Reading
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.evaluation.generation import Losses, answer_losses
from oikyo_trainer.evaluation.prompts import encode, encode_texts
from oikyo_trainer.evaluation.record import read_record, verify
from oikyo_trainer.evaluation.slices import slice_losses
from unit.trainer.evaluation.tiny import (
    LABELS,
    Bench,
    chat_rows,
    classification_rows,
    pair_rows,
    save_causal,
    save_classifier,
    tokenizer,
)

GENERATION = {"loss", "perplexity", "bleu", "rouge_l", "exact_match"}


def values(metrics: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in metrics}


def test_a_trained_classifier_beats_its_base_and_is_accepted(bench: Bench) -> None:
    result = evaluate(bench.spec(), bench.context)
    tuned, base = values(result.metrics), values(result.baseline)
    assert set(tuned) == set(base) == {"accuracy", "f1_macro", "loss"}
    assert tuned["f1_macro"] > base["f1_macro"]
    assert result.accepted
    assert (result.rows, result.version) == (30, 1)


def test_a_classifier_with_the_same_labels_is_its_own_baseline(bench: Bench) -> None:
    question = Question(classification_rows("test"), LABELS, Reading(64))
    said, method = ask_base(bench.tuned, [], question, lambda _: None)
    assert (said == ask_classifier(bench.tuned, question, lambda _: None)).all()
    assert "own classification head" in method


def test_the_order_of_the_models_labels_does_not_matter(bench: Bench, tmp_path: Any) -> None:
    turned = tmp_path / "turned"
    save_classifier(turned, LABELS[::-1])
    question = Question(classification_rows("train"), LABELS, Reading(64))
    said = ask_classifier(turned, question, lambda _: None)
    assert score(said, question)["accuracy"] == 1.0


def test_each_slice_is_scored_and_the_same_rows_are_chosen_with_and_without(bench: Bench) -> None:
    plain = evaluate(bench.spec(evaluation={"maxRows": 20}), bench.context)
    path = bench.context.workspace / layout.dataset(bench.spec().dataset_digest) / "test.parquet"
    table = pq.read_table(path)
    country = pa.array([["de", "fr", None][n % 3] for n in range(len(table))])
    each = pa.array([str(n) for n in range(len(table))])
    table = table.append_column("meta.country", country).append_column("meta.many", each)
    pq.write_table(table, path)
    result = evaluate(bench.spec(evaluation={"maxRows": 20}, image="another"), bench.context)
    assert result.metrics == plain.metrics
    record = json.loads((bench.context.workspace / result.path / "record.json").read_text())
    slices = [one for one in record["slices"] if one["column"] == "country"]
    assert {one["value"] for one in slices} == {"de", "fr", "(none)"}
    assert sum(one["rows"] for one in slices) == 20
    right = sum(one["rows"] * float(one["accuracy"]) for one in slices)
    assert right == pytest.approx(20 * values(result.metrics)["accuracy"], abs=0.01)
    assert all(float(one["low"]) <= float(one["accuracy"]) <= float(one["high"]) for one in slices)
    card = (bench.context.workspace / result.path / "README.md").read_text()
    assert "country = fr" in card


def test_a_tokenizer_that_pads_by_itself_cuts_a_long_row_all_the_same() -> None:
    made = tokenizer()
    plain = encode_texts(made, ["the cat " * 40], Reading(16))
    made.backend_tokenizer.enable_padding(length=128)
    padded = encode_texts(made, ["the cat " * 40], Reading(16))
    assert [ids.tolist() for ids, _ in padded] == [ids.tolist() for ids, _ in plain]


def test_a_model_without_one_of_the_labels_is_refused(bench: Bench) -> None:
    question = Question(classification_rows("test"), (*LABELS, "cloud"), Reading(64))
    with pytest.raises(Refused, match="no output for the label 'cloud'"):
        ask_classifier(bench.tuned, question, lambda _: None)


@pytest.mark.parametrize("bench", ["prompt-completion", "messages"], indirect=True)
def test_both_language_models_are_measured_on_every_metric(bench: Bench) -> None:
    result = evaluate(bench.spec(evaluation={"max_rows": 12, "max_new_tokens": 4}), bench.context)
    assert set(values(result.metrics)) == set(values(result.baseline)) == GENERATION
    record = read_record(bench.workspace / result.path)
    assert record is not None
    assert (record.rows, record.generated_rows) == (12, 12)


@pytest.mark.parametrize("bench", ["text"], indirect=True)
def test_plain_texts_have_no_answers_to_compare(bench: Bench) -> None:
    result = evaluate(bench.spec(evaluation={"max_rows": 6}), bench.context)
    assert set(values(result.metrics)) == set(values(result.baseline)) == {"loss", "perplexity"}


@pytest.mark.parametrize("bench", ["prompt-completion"], indirect=True)
def test_a_model_compared_with_itself_is_equal_and_rejected(bench: Bench) -> None:
    bench.base.joinpath("model.safetensors").unlink()
    bench.base.joinpath("model.safetensors").write_bytes(
        bench.tuned.joinpath("model.safetensors").read_bytes()
    )
    result = evaluate(bench.spec(), bench.context)
    assert result.metrics == result.baseline
    assert not result.accepted
    assert (bench.workspace / result.path / "record.json").is_file()


def test_batched_loss_equals_the_loss_row_by_row(tmp_path: Any) -> None:
    save_causal(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    rows = encode(tokenizer, pair_rows("test"), "prompt-completion", Reading(64))
    total, count = 0.0, 0
    for row in rows:
        labels = [t if a else -100 for t, a in zip(row.tokens, row.answer, strict=True)]
        with torch.inference_mode():
            loss = model(
                torch.tensor(row.tokens.tolist())[None], labels=torch.tensor([labels])
            ).loss
        total, count = total + float(loss) * sum(row.answer), count + sum(row.answer)
    assert answer_losses(model, rows, lambda _: None).mean() == pytest.approx(
        total / count, rel=1e-5
    )


def test_each_slice_of_generated_text_has_its_loss_beside_that_of_the_base(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "prompt-completion")
    save_causal(bench.base)
    save_causal(bench.tuned, seed=1)
    path = bench.context.workspace / layout.dataset(bench.spec().dataset_digest) / "test.parquet"
    table = pq.read_table(path)
    country = pa.array(["de" if n % 4 else "fr" for n in range(len(table))])
    pq.write_table(table.append_column("meta.country", country), path)
    result = evaluate(bench.spec(), bench.context)
    folder = bench.context.workspace / result.path
    slices = json.loads((folder / "record.json").read_text())["slices"]
    assert {one["value"]: one["rows"] for one in slices} == {
        "de": len(table) - -(-len(table) // 4), "fr": -(-len(table) // 4)
    }  # fmt: skip
    assert float(slices[0]["loss"]) >= float(slices[1]["loss"])
    for measured, name in ((result.metrics, "loss"), (result.baseline, "baseline")):
        parts = [float(one[name]) for one in slices]
        assert min(parts) - 1e-4 <= values(measured)["loss"] <= max(parts) + 1e-4
    assert all(float(one["low"]) <= float(one["loss"]) <= float(one["high"]) for one in slices)
    assert "the highest loss first" in (folder / "README.md").read_text()


def test_the_interval_of_a_loss_is_that_of_rows_drawn_anew() -> None:
    draw = np.random.default_rng(3)
    tokens = draw.integers(5, 40, 300)
    losses = Losses(tokens * draw.normal(2.0, 0.5, 300), tokens)
    (told,) = slice_losses([{"meta.a": "x"}] * 300, losses, losses)
    drawn = [draw.integers(0, 300, 300) for _ in range(4000)]
    means = [losses.sums[rows].sum() / tokens[rows].sum() for rows in drawn]
    low, high = np.quantile(means, [0.025, 0.975])
    assert float(told.low) == pytest.approx(low, abs=0.01)
    assert float(told.high) == pytest.approx(high, abs=0.01)
    one = Losses(losses.sums[:1], tokens[:1])
    assert slice_losses([{"meta.a": "x"}], one, one)[0].low == ""


def test_the_answer_of_a_pair_is_the_completion_and_the_end_token(tmp_path: Any) -> None:
    save_causal(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    (row,) = encode(tokenizer, pair_rows("test")[:1], "prompt-completion", Reading(64))
    answer = [t for t, labelled in zip(row.tokens, row.answer, strict=True) if labelled]
    assert tokenizer.decode(answer) == " animal</s>"
    assert tokenizer.decode(row.prompt) == "some cat is a"


def test_every_assistant_turn_is_an_answer(tmp_path: Any) -> None:
    save_causal(tmp_path, chat=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    first, second = chat_rows("test")[0]["messages"], chat_rows("test")[5]["messages"]
    (row,) = encode(tokenizer, [{"messages": first + second}], "messages", Reading(64))
    answer = [t for t, labelled in zip(row.tokens, row.answer, strict=True) if labelled]
    assert tokenizer.decode(answer) == "animal</s>fruit</s>"
    assert tokenizer.decode(row.prompt).endswith("<assistant>")
    assert row.reference == "fruit"


def test_the_card_carries_the_metadata_that_the_hub_reads(bench: Bench) -> None:
    result = evaluate(bench.spec(), bench.context)
    card = ModelCard.load(bench.workspace / result.path / "README.md")
    assert card.data.base_model == "org/base"
    assert card.data.pipeline_tag == "text-classification"
    scores = {entry.metric_type: entry.metric_value for entry in card.data.eval_results}
    assert scores == values(result.metrics)
    for section in ("Data", "Training", "Evaluation", "Verdict", "Lineage", "Limits"):
        assert f"## {section}" in card.text


def test_the_worst_last_words_stay_under_the_limit(bench: Bench) -> None:
    gate = {"metric": "f1_macro", "better_than": "Base"}
    result = evaluate(bench.spec(evaluation={"gates": [gate] * 16}), bench.context)
    words = LastWords(stage="evaluate", input_digest="sha256:" + "0" * 64, result=result)
    assert len(words.json_line().encode()) < TERMINATION_LIMIT


def test_the_same_evaluation_gives_the_same_numbers(bench: Bench) -> None:
    first = evaluate(bench.spec(), bench.context)
    again = evaluate(bench.spec(run="job-12345678", job_uid="another"), bench.context)
    assert (first.version, again.version) == (1, 2)
    assert first.metrics == again.metrics
    assert first.baseline == again.baseline
    assert first.digest == again.digest


def test_a_second_attempt_finds_the_version_of_the_first(bench: Bench) -> None:
    first = evaluate(bench.spec(), bench.context)
    assert evaluate(bench.spec(attempt=2), bench.context) == first
    assert not (bench.workspace / "versions/words/2").exists()


def test_a_run_without_training_is_refused_by_name(bench: Bench) -> None:
    (bench.tuned.parent / "result.json").unlink()
    with pytest.raises(Refused, match="run job-12345678 has no finished training"):
        evaluate(bench.spec(), bench.context)


def test_the_record_tells_the_lineage(bench: Bench) -> None:
    result = evaluate(bench.spec(), bench.context)
    raw = json.loads((bench.workspace / result.path / "record.json").read_text())
    assert raw["lineage"]["base"] == "hf://org/base@main"
    assert raw["lineage"]["seeds"] == {"training": 42}
    settings = {item["name"]: item["value"] for item in raw["lineage"]["hyperparameters"]}
    assert settings["learningRate"] == "0.0002"
    assert verify(bench.workspace / result.path).digest == result.digest
