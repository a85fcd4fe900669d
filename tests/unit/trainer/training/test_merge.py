"""A merged model answers as its adapter does; an unmerged one is judged, served and continued as well."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oikyo.api import workspace as layout
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.models import base_folder, load_model
from oikyo_trainer.training.methods.merge import Parity, answer, merge
from unit.trainer.training.rounds import continued, files, judged, metric, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
LORA: dict[str, Any] = {"epochs": 2, "learning_rate": "1e-2"}


def test_the_difference_of_a_merge_is_measured_and_recorded(lab: Any) -> None:
    result = lab.train(lab.spec("TextGeneration", **LORA))
    assert 0 < metric(result, "merge_logit_difference") < 1e-4


@pytest.mark.parametrize("gap", [0.2, float("nan")])
def test_a_merge_that_changes_the_answers_is_refused(gap: float) -> None:
    with pytest.raises(Refused, match="logits differ by") as no:
        Parity(difference=gap, largest=10.0).check(torch.float32)
    assert "merge: false" in no.value.next_step
    Parity(difference=0.2, largest=10.0).check(torch.bfloat16)


def test_a_wrong_merge_is_found_by_the_rows(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    delta = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: -delta(self, name))
    with pytest.raises(Refused) as no:
        lab.train(lab.spec("TextGeneration", **LORA))
    assert no.value.reason == "MergeDiffers"


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
@pytest.mark.parametrize("method", ["LoRA", "IA3"])
def test_an_unmerged_adapter_is_judged_served_and_continued(
    lab: Any, task: str, method: str
) -> None:
    # IA3 scales all layers beside a head, and a few of its own else.
    rate = "1e-1" if (method, task) == ("IA3", "TextGeneration") else "1e-2"
    settings = {"epochs": 3, "learning_rate": rate, "method": method}
    whole = judged(lab, lab.spec(task, run="whole", **settings))
    alone = judged(lab, lab.spec(task, run="alone", merge=False, **settings))
    assert metric(alone, "loss") == pytest.approx(metric(whole, "loss"), abs=1e-4)

    folder = lab.workspace / layout.version("tiny", alone.version)
    assert {"adapter_model.safetensors", "config.json", "tokenizer.json"} <= files(folder)
    assert "model.safetensors" not in files(folder)
    assert served(lab, task, alone.version) is not None

    again = lab.spec(task, run="again", **settings).model_copy(
        update={"model_digest": continued(lab, alone.version)}
    )
    # Where it went on from: the start of a new training would be near the logarithm of the answers.
    assert metric(judged(lab, again), "loss") < metric(alone, "loss") + 0.1


def test_a_whole_version_is_continued_without_its_record(lab: Any) -> None:
    first = judged(lab, lab.spec("TextGeneration", run="one", method="Full", **LORA))
    digest = continued(lab, first.version)
    names = files(lab.workspace / layout.model(digest))
    assert "model.safetensors" in names
    assert "record.json" not in names
    spec = lab.spec("TextGeneration", run="two", method="Full", **LORA)
    second = judged(lab, spec.model_copy(update={"model_digest": digest}))
    assert metric(second, "loss") < metric(first, "loss")


def test_an_adapter_whose_base_is_gone_says_which(lab: Any) -> None:
    import shutil

    from transformers import AutoModelForCausalLM

    spec = lab.spec("TextGeneration", merge=False, **LORA)
    folder = lab.workspace / lab.train(spec).model_path
    assert base_folder(folder) == (lab.workspace / layout.model(spec.model_digest)).resolve()
    shutil.rmtree(base_folder(folder))
    with pytest.raises(Refused, match=f"does not hold its base {spec.model_digest}"):
        load_model(AutoModelForCausalLM, folder)


def test_rounding_to_the_type_of_the_base_is_part_of_the_difference(lab: Any) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    spec = lab.spec("TextGeneration")
    base = AutoModelForCausalLM.from_pretrained(lab.workspace / layout.model(spec.model_digest))
    adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    whole, parity = merge(adapted, torch.bfloat16, [[4, 5, 6], [7, 8]])
    assert whole.dtype == torch.bfloat16
    assert parity.difference > 1e-4
    assert answer(whole, [4, 5]).shape == (1, 2, 13)
