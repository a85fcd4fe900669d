"""Both tasks learn with both methods, and what they leave is loadable by transformers alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from oikyo.api import workspace as layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
RATES = {"Full": "3e-3", "LoRA": "1e-2"}


def values(result: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in result.metrics}


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_a_classifier_learns_and_is_loadable_with_its_labels(lab: Any, method: str) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    result = lab.train(
        lab.spec("TextClassification", method=method, epochs=6, learning_rate=RATES[method])
    )
    assert values(result)["best_eval_loss"] < 0.3 * math.log(3)
    folder = lab.workspace / result.model_path
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = model(
        **tokenizer(["red green", "two one three", "moon"], return_tensors="pt", padding=True)
    )
    assert [model.config.id2label[int(i)] for i in answers.logits.argmax(-1)] == [
        "colour",
        "number",
        "sky",
    ]


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_a_generator_learns_to_answer_and_to_stop(lab: Any, method: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = lab.spec("TextGeneration", method=method, epochs=8, learning_rate=RATES[method])
    result = lab.train(spec)
    assert values(result)["best_eval_loss"] < 1.0
    folder = lab.workspace / result.model_path
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("red ", return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0, 1:]
    assert tokenizer.decode(answer[:1]) == "green"
    assert tokenizer.eos_token_id in answer.tolist()
    assert tokenizer.chat_template is not None


def test_lora_leaves_the_adapter_and_merged_weights_that_compute_the_same(lab: Any) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    spec = lab.spec("TextGeneration", method="LoRA", epochs=2)
    folder = lab.workspace / lab.train(spec).model_path
    base = AutoModelForCausalLM.from_pretrained(lab.workspace / layout.model(spec.model_digest))
    adapted = PeftModel.from_pretrained(base, str(folder.parent / "adapter")).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokens = torch.tensor([[4, 5, 6, 7]])
    assert torch.allclose(adapted(tokens).logits, merged(tokens).logits, atol=1e-5)
    config = json.loads((folder.parent / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == spec.model_digest


def test_early_stopping_ends_the_run_and_the_best_weights_are_released(lab: Any) -> None:
    result = lab.train(
        lab.spec(
            "TextGeneration",
            method="Full",
            epochs=60,
            learning_rate="2e-2",
            scheduler="Constant",
            early_stopping={"patience": 2},
            checkpoints={"every_steps": 6},
        )
    )
    assert result.steps < result.total_steps
    assert result.best_step < result.steps
    assert result.notes[0].startswith(f"stopped early at step {result.steps}: the validation loss")


def test_bfloat16_reaches_the_loss_of_float32_within_a_few_percent(lab: Any) -> None:
    settings: dict[str, Any] = {"method": "Full", "epochs": 3, "learning_rate": "3e-3"}
    exact = lab.train(lab.spec("TextClassification", run="exact", **settings))
    rounded = lab.train(
        lab.spec("TextClassification", run="rounded", **{**settings, "precision": "BFloat16"})
    )
    assert values(rounded)["eval_loss"] == pytest.approx(
        values(exact)["eval_loss"], rel=0.2, abs=0.05
    )


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_accumulated_micro_batches_learn_as_the_whole_batch_does(lab: Any, task: str) -> None:
    spec = lab.spec(task)
    path = lab.workspace / layout.model(spec.model_digest) / "config.json"
    config = json.loads(path.read_text())
    dropouts = [name for name in config if name.endswith(("dropout", "dropout_prob"))]
    path.write_text(json.dumps(config | dict.fromkeys(dropouts, 0.0)))
    settings: dict[str, Any] = {"method": "Full", "epochs": 1, "learning_rate": "3e-3"}
    whole = lab.train(lab.spec(task, run="whole", **settings))
    parts = lab.train(lab.spec(task, run="parts", micro_batch_size=2, **settings))
    for name in ("eval_loss", "train_loss"):
        assert values(parts)[name] == pytest.approx(values(whole)[name], abs=1e-4)
