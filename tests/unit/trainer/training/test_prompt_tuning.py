"""Learned vectors in front of every row: trained, judged and served as the same model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from oikyo.api.adapters import PromptTuning
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.evaluation.models import context_length, load_config
from oikyo_trainer.evaluation.prompted import put_before
from oikyo_trainer.training.methods.adapters import add_adapter
from oikyo_trainer.training.probe import choose
from unit.trainer.training.conftest import bert_base, llama_base
from unit.trainer.training.rounds import continued, judged, metric, served

pytestmark = pytest.mark.timeout(180)
PROMPT: dict[str, Any] = {
    "method": "PromptTuning",
    "merge": False,
    "prompt_tuning": {"virtual_tokens": 4},
    "learning_rate": "3e-2",
}


def causal(lab: Any) -> Any:
    from transformers import AutoModelForCausalLM

    from oikyo.api import workspace as layout

    folder = lab.workspace / layout.model(llama_base(lab.workspace))
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def prompted(lab: Any) -> Any:
    return add_adapter(causal(lab), "TextGeneration", TrainingSpec(**PROMPT), autocast=True).eval()


@pytest.fixture
def pair(lab: Any) -> tuple[Any, Any]:
    """The model as it is trained, and as it is served."""
    trained = prompted(lab)
    vectors = trained.prompt_encoder["default"].embedding.weight.detach()
    return trained, put_before(causal(lab), vectors)


def test_the_served_form_computes_what_was_trained(pair: Any) -> None:
    trained, base = pair
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    mask = torch.ones_like(tokens)
    expected = trained(input_ids=tokens, attention_mask=mask).logits
    assert expected.shape[1] == 5  # one answer for each of the row's own tokens
    assert torch.allclose(base(input_ids=tokens, attention_mask=mask).logits, expected, atol=1e-5)


def test_a_cache_and_padding_on_the_left_change_nothing(pair: Any) -> None:
    trained, base = pair
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    expected = trained(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    begun = base(input_ids=tokens[:, :3], use_cache=True)
    rest = base(input_ids=tokens[:, 3:], past_key_values=begun.past_key_values, use_cache=True)
    assert torch.allclose(rest.logits, expected[:, 3:], atol=1e-5)
    alone = base.generate(tokens, max_new_tokens=5, do_sample=False, eos_token_id=None)
    padded = torch.nn.functional.pad(tokens, (3, 0), value=0)
    mask = torch.nn.functional.pad(torch.ones_like(tokens), (3, 0))
    batch = base.generate(
        padded, attention_mask=mask, max_new_tokens=5, do_sample=False, eos_token_id=None
    )
    assert batch[0, 3:].tolist() == alone[0].tolist()


def test_greedy_generation_takes_the_likeliest_token_of_what_was_trained(pair: Any) -> None:
    trained, base = pair
    tokens = torch.tensor([[5, 6, 7]])
    said = base.generate(tokens, max_new_tokens=4, do_sample=False, eos_token_id=None)
    for end in range(3, 7):
        row = said[:, :end]
        logits = trained(input_ids=row, attention_mask=torch.ones_like(row)).logits
        assert int(logits[0, -1].argmax()) == int(said[0, end])


def test_rows_are_not_packed_behind_one_beginning(lab: Any) -> None:
    choice = choose(prompted(lab), 0, sharded=False)
    assert not choice.layout.packed
    assert not choice.fused
    assert choice.packing_reason.startswith("learned vectors stand before each row")


def test_a_decoder_that_finds_the_end_by_its_tokens_is_refused_as_a_classifier(lab: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    from oikyo.api import workspace as layout

    folder = lab.workspace / layout.model(llama_base(lab.workspace))
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    with pytest.raises(Refused, match="does not fit a llama classifier"):
        add_adapter(model, "TextClassification", TrainingSpec(**PROMPT), autocast=True)


def test_the_vectors_are_as_many_as_asked_for_and_all_that_learns(lab: Any) -> None:
    model = prompted(lab)
    learned = {name: w.shape for name, w in model.named_parameters() if w.requires_grad}
    assert list(learned.values()) == [(4, 32)]
    assert PromptTuning().virtual_tokens == 20


@pytest.mark.slow
@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_it_learns_and_the_version_is_the_adapter_alone(lab: Any, task: str) -> None:
    bert_base(lab.workspace)
    spec = lab.spec(task, epochs=4, **PROMPT)
    result = judged(lab, spec)
    folder = lab.workspace / result.path
    if task == "TextGeneration":
        base = next(float(m.value) for m in result.baseline if m.name == "loss")
        assert metric(result, "loss") < base
    assert (folder / "adapter_model.safetensors").exists()
    assert context_length(load_config(folder)) == 32 - 4
    assert served(lab, task, result.version) is not None
    with pytest.raises(Refused, match="cannot be worked into weights"):
        continued(lab, result.version)


@pytest.mark.slow
def test_noise_reaches_the_embeddings_behind_the_vectors(lab: Any) -> None:
    def vectors(run: str, **noise: str) -> Any:
        spec = lab.spec("TextClassification", run=run, max_steps=2, **PROMPT, **noise)
        return lab.weights(lab.train(spec))["prompt_embeddings"]

    assert not torch.equal(vectors("noisy", neftune_alpha="5"), vectors("quiet"))
