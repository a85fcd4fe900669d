"""Each method changes what it says, learns, resumes, and leaves weights that transformers loads."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from oikyo.api import workspace as layout
from oikyo.api.training import TrainingSpec
from oikyo_trainer.errors import Refused
from oikyo_trainer.training.methods.adapters import add_adapter, ia3_config, linear_names
from oikyo_trainer.training.methods.merge import merge
from oikyo_trainer.training.methods.quantized import quantization, settings

pytestmark = pytest.mark.timeout(120)


def values(result: Any) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in result.metrics}


def causal(lab: Any) -> Any:
    from transformers import AutoModelForCausalLM

    spec = lab.spec("TextGeneration")
    return AutoModelForCausalLM.from_pretrained(lab.workspace / layout.model(spec.model_digest))


def adapted(lab: Any, **training: Any) -> Any:
    spec = TrainingSpec.model_validate(training)
    return add_adapter(causal(lab), "TextGeneration", spec, autocast=True)


def trained(model: Any) -> list[str]:
    return [name for name, weight in model.named_parameters() if weight.requires_grad]


def test_rslora_scales_by_the_root_of_the_rank(lab: Any) -> None:
    plain = adapted(lab, lora={"rank": 4, "alpha": 8})
    root = adapted(lab, lora={"rank": 4, "alpha": 8, "variant": "RsLoRA"})
    scale = {
        name: next(m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A"))
        for name, model in (("plain", plain), ("root", root))
    }
    assert scale == {"plain": 8 / 4, "root": 8 / math.sqrt(4)}


def test_dora_trains_a_magnitude_for_each_output(lab: Any) -> None:
    model = adapted(lab, lora={"rank": 4, "variant": "DoRA"})
    assert any("lora_magnitude_vector" in name for name in trained(model))


def test_only_the_named_layers_get_an_adapter(lab: Any) -> None:
    model = adapted(lab, lora={"rank": 4, "targetModules": ["q_proj", "v_proj"]})
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in trained(model)}
    assert layers == {"q_proj", "v_proj"}


def test_an_unknown_layer_is_refused_with_the_names_there_are(lab: Any) -> None:
    with pytest.raises(
        Refused, match=r"'query', and no linear layer .* down_proj, gate_proj"
    ) as no:
        adapted(lab, lora={"targetModules": ["q_proj", "query"]})
    assert no.value.reason == "UnknownModule"


def test_ia3_trains_factors_alone_and_far_fewer_than_lora(lab: Any) -> None:
    model = adapted(lab, method="IA3")
    assert trained(model)
    assert all("ia3_l" in name for name in trained(model))
    few = sum(w.numel() for w in model.parameters() if w.requires_grad)
    many = sum(w.numel() for w in adapted(lab).parameters() if w.requires_grad)
    assert few * 30 < many


def test_oft_turns_blocks_of_the_inputs_and_layer_norm_trains_the_norms_alone(lab: Any) -> None:
    turned = adapted(lab, method="OFT", oft={"blockSize": 8})
    assert all("oft_R" in name for name in trained(turned))
    # A block of 8 inputs turns by the 28 numbers of a skew matrix.
    shapes = {tuple(w.shape) for w in turned.parameters() if w.requires_grad}
    assert {shape[1] for shape in shapes} == {28}
    norms = adapted(lab, method="LayerNorm")
    assert all("norm" in name for name in trained(norms))
    assert sum(w.numel() for w in norms.parameters() if w.requires_grad) == 5 * 32


def classifier(family: str) -> Any:
    import transformers as t

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    common = {
        "vocab_size": 16,
        "intermediate_size": 32,
        "pad_token_id": 0,
        "num_labels": 3,
        **sizes,
    }
    if family == "bert":
        return t.BertForSequenceClassification(t.BertConfig(**common))
    if family == "roberta":
        return t.RobertaForSequenceClassification(t.RobertaConfig(**common))
    config = t.DistilBertConfig(
        vocab_size=16, dim=32, hidden_dim=32, n_layers=1, n_heads=2, num_labels=3
    )
    return t.DistilBertForSequenceClassification(config)


@pytest.mark.parametrize("method", ["LoRA", "OFT", "IA3", "LayerNorm", "PromptTuning"])
@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("bert", {"pooler.dense", "classifier"}),
        ("roberta", {"classifier.dense", "classifier.out_proj"}),
        ("distilbert", {"pre_classifier", "classifier"}),
    ],
)
def test_every_adapter_trains_all_that_lies_behind_the_layers_and_gives_it_back(
    family: str, head: set[str], method: str
) -> None:
    model = classifier(family)
    spec = TrainingSpec(method=method, oft={"block_size": 8})
    both = add_adapter(model, "TextClassification", spec, autocast=True)
    wanted = {f"{name}.weight" for name in head}
    whole = [name.replace("modules_to_save.default.", "") for name in trained(both)]
    assert {end for end in wanted if any(name.endswith(end) for name in whole)} == wanted
    if method == "PromptTuning":
        return  # it cannot be merged
    for name, weight in both.named_parameters():
        if "modules_to_save" in name:
            weight.data.add_(0.5)
    merged, parity = merge(both, torch.float32, [[3, 4, 5], [6, 7]])
    assert parity.difference <= 1e-4
    assert "modules_to_save" not in "".join(name for name, _ in merged.named_parameters())


def test_a_method_that_fits_no_layer_is_refused(lab: Any) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=32, n_layer=1, n_head=2))
    with pytest.raises(Refused, match="OFT does not fit a gpt2 model"):
        add_adapter(model, "TextGeneration", TrainingSpec(method="OFT"), autocast=True)


def test_ia3_of_an_unknown_architecture_scales_every_linear_layer(lab: Any) -> None:
    model = causal(lab)
    model.config.model_type = "unheard-of"
    assert set(ia3_config("CAUSAL_LM", model, headed=False).target_modules) == set(
        linear_names(model)
    )
    assert "lm_head" not in linear_names(model)


def test_ia3_beside_a_head_scales_every_linear_layer_of_the_body(lab: Any) -> None:
    config = ia3_config("SEQ_CLS", classifier("bert"), headed=True)
    opening = ["intermediate.dense", "output.dense", "self.key", "self.query", "self.value"]
    assert sorted(config.target_modules) == opening
    assert config.feedforward_modules == {"output.dense"}


def test_ia3_goes_on_with_the_layers_that_it_began_with(lab: Any, tmp_path: Path) -> None:
    model, spec = classifier("bert"), TrainingSpec(method="IA3")
    config = ia3_config("SEQ_CLS", model, headed=False)
    get_peft_model(model, config).save_pretrained(tmp_path)
    again = add_adapter(
        classifier("bert"), "TextClassification", spec, autocast=True, resume=tmp_path
    )
    scaled = {name.rsplit(".ia3_l")[0] for name in trained(again) if "ia3_l" in name}
    assert len(scaled) == 4 * len(again.get_base_model().bert.encoder.layer)


def test_qlora_without_a_gpu_is_refused_with_what_to_write() -> None:
    spec = TrainingSpec(method="QLoRA")
    with pytest.raises(Refused, match="this worker sees no GPU"):
        quantization(spec, cuda=False, compute=torch.bfloat16)
    assert quantization(TrainingSpec(), cuda=False, compute=torch.bfloat16) is None


@pytest.mark.gpu
@pytest.mark.skipif(not find_spec("bitsandbytes"), reason="needs oikyo[qlora]")
@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_holds_the_base_in_few_bits_and_leaves_the_head_alone(bits: int) -> None:
    made = settings(bits, torch.bfloat16)
    assert (made.load_in_4bit, made.load_in_8bit) == (bits == 4, bits == 8)
    assert "lm_head" in made.llm_int8_skip_modules
    if bits == 4:
        assert made.bnb_4bit_quant_type == "nf4"
        assert made.bnb_4bit_use_double_quant
        assert made.bnb_4bit_compute_dtype == torch.bfloat16


METHODS: dict[str, dict[str, Any]] = {
    "RsLoRA": {"lora": {"variant": "RsLoRA"}, "learning_rate": "5e-3"},
    "DoRA": {"lora": {"variant": "DoRA"}, "learning_rate": "1e-2"},
    "IA3": {"method": "IA3", "learning_rate": "1e-1"},
    "OFT": {"method": "OFT", "oft": {"block_size": 8}, "learning_rate": "1e-2"},
    "LayerNorm": {"method": "LayerNorm", "learning_rate": "5e-2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
@pytest.mark.parametrize("name", METHODS)
def test_every_adapter_learns_is_released_and_loads(lab: Any, task: str, name: str) -> None:
    result = lab.train(lab.spec(task, epochs=6, **METHODS[name]))
    chance = math.log(3) if task == "TextClassification" else math.log(9)
    assert values(result)["best_eval_loss"] < 0.8 * chance
    folder = lab.workspace / result.model_path
    assert (folder.parent / "adapter" / "adapter_model.safetensors").exists()
    assert all(weight.isfinite().all() for weight in lab.weights(result).values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:inner dimension:UserWarning")  # of a model as narrow as this
@pytest.mark.parametrize("bits", [4, 8])
def test_qlora_learns_on_a_gpu(lab: Any, bits: int) -> None:
    spec = lab.spec(
        "TextGeneration", method="QLoRA", quantization={"bits": bits}, epochs=6,
        learning_rate="1e-2", precision="BFloat16", resources={"gpus": 1},
    )  # fmt: skip
    assert values(lab.train(spec))["best_eval_loss"] < 1.2
