"""What fits, what is refused, and what would have to change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec
from oikyo_trainer.planning.activations import layer_bytes
from oikyo_trainer.planning.choose import HEADROOM, choose, most_rows, setup_of, smallest_change
from oikyo_trainer.planning.predict import HOLES, HOLES_OFT, predict
from oikyo_trainer.planning.road import quantity
from oikyo_trainer.planning.serving import (
    SERVER_BASE,
    adapter_bytes,
    serving_bytes,
    serving_need,
)
from oikyo_trainer.planning.setup import Setup
from oikyo_trainer.planning.shape import ModelShape, shape_of

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 1408,
    "vocab_size": 8000,
    "max_position_embeddings": 1024,
}


def a_shape() -> ModelShape:
    tensors = {
        "model.embed_tokens.weight": ("F32", (8000, 512)),
        "model.norm.weight": ("F32", (512,)),
    }
    for layer in range(2):
        name = f"model.layers.{layer}."
        for part, out, into in (
            ("self_attn.q_proj", 512, 512),
            ("self_attn.k_proj", 256, 512),
            ("mlp.gate_proj", 1408, 512),
            ("mlp.down_proj", 512, 1408),
        ):
            tensors[f"{name}{part}.weight"] = ("F32", (out, into))
    return shape_of(CONFIG, tensors)


def terms(setup: Setup, shape: ModelShape | None = None) -> dict[str, int]:
    return {term.name: term.size for term in predict(shape or a_shape(), setup).terms}


def test_the_shape_is_read_from_config_and_headers_alone() -> None:
    shape = a_shape()
    assert shape.parameters == 8000 * 512 + 512 + 2 * 512 * (512 + 256 + 2 * 1408)
    assert (shape.gated, shape.kv_heads, shape.head_dim, len(shape.linears)) == (True, 4, 64, 8)


@pytest.mark.parametrize(
    ("strategy", "weights", "moments", "gradients"),
    [("ZeRO1", 1, 4, 1), ("ZeRO2", 1, 4, 4), ("ZeRO3", 4, 4, 4)],
)
def test_each_zero_stage_shares_what_the_paper_says(
    strategy: str, weights: int, moments: int, gradients: int
) -> None:
    alone = terms(Setup("Full", 1, 8))
    shared = terms(replace(Setup("Full", 1, 8), strategy=strategy, processes=4))  # type: ignore[arg-type]
    assert shared["weights"] == alone["weights"] // weights
    assert shared["optimizer state"] == alone["optimizer state"] // moments
    assert shared["gradients"] == alone["gradients"] // gradients


def test_fsdp_shares_what_zero_3_does_and_gathers_two_layers_and_what_is_in_none() -> None:
    shape, alone = a_shape(), terms(Setup("Full", 1, 8))
    parted = terms(replace(Setup("Full", 1, 8), strategy="FSDP", processes=4))
    around = shape.parameters - shape.linear_parameters
    gathered = 4 * (shape.linear_parameters + around)  # of two layers both
    assert parted["weights"] == alone["weights"] // 4 + gathered
    assert parted["optimizer state"] == alone["optimizer state"] // 4


def test_a_tensor_group_shares_a_layer_and_deals_its_labels() -> None:
    alone = Setup("Full", rows=2, length=64, strategy="FSDP", processes=4, cuda=True)
    group = replace(alone, tensor=2)
    shape, own = a_shape(), replace(a_shape(), heads=4, kv_heads=2, feed_forward=704)
    gathered = 4 * shape.linear_parameters / shape.layers  # half of each of two layers, float32
    assert terms(alone)["weights"] - terms(group)["weights"] == gathered
    assert terms(group)["optimizer state"] == terms(alone)["optimizer state"]
    per_token = layer_bytes(
        own, length=64, half=4, frozen=False, fused_attention=True, shared_keys=True
    )
    around = 3 * shape.width * 4 * group.tokens
    assert terms(group)["activations"] == shape.layers * per_token * group.tokens + around
    assert terms(group)["activations"] < terms(alone)["activations"]
    assert terms(group)["loss"] < terms(alone)["loss"]


def test_rows_are_shared_by_groups_and_no_change_breaks_them_up() -> None:
    asked = TrainingSpec(
        method="Full", strategy="FSDP", tensor_parallel_size=2, batch_size=8, processes_per_node=4
    )
    setup = setup_of(asked, "TextGeneration", a_shape(), processes=4, bf16=False)
    assert (setup.groups, setup.rows) == (2, 4)
    assert choose(a_shape(), setup, asked, 1 << 40).accumulation == 1
    change = choose(a_shape(), setup, asked, 1 << 30).change
    assert "strategy" not in change
    assert "method" not in change


def test_a_model_is_loaded_whole_before_fsdp_parts_it() -> None:
    shape = a_shape()
    setup = replace(Setup("LoRA", 1, 8), strategy="FSDP", processes=64)
    assert predict(shape, setup).above_base >= 4 * shape.parameters


def test_what_a_gpu_leaves_to_its_host_is_not_counted_on_it() -> None:
    zero = replace(Setup("Full", 1, 8, cuda=True), strategy="ZeRO3", processes=4)
    assert terms(replace(zero, offload="Optimizer"))["optimizer state"] == 0
    assert terms(replace(zero, offload="Optimizer"))["weights"] == terms(zero)["weights"]
    assert terms(replace(zero, offload="Parameters"))["weights"] == 0
    asked = TrainingSpec(
        method="Full", strategy="ZeRO3", offload="Parameters", resources={"gpus": 1}
    )
    alone = setup_of(asked, "TextGeneration", a_shape(), processes=1, bf16=False)
    assert terms(alone)["weights"] == 0, "one GPU has a host to leave them to as well"


def test_full_training_holds_four_numbers_for_each_weight_and_adapters_about_one() -> None:
    full, lora = terms(Setup("Full", 1, 8)), terms(Setup("LoRA", 1, 8))
    weights = 4 * a_shape().parameters
    assert (full["weights"], full["optimizer state"], full["gradients"]) == (
        weights,
        2 * weights,
        weights,
    )
    assert lora["optimizer state"] < weights / 5


def test_a_heap_adds_holes_that_a_gpu_does_not_have_and_checkpointing_fewer() -> None:
    shape, setup = replace(a_shape(), layers=12), Setup("Full", 4, 128)

    def held(setup: Setup) -> int:
        found = {term.name: term.size for term in predict(shape, setup).terms}
        return found["activations"]

    holes = held(setup) - held(replace(setup, cuda=True))
    assert 0 < holes < held(replace(setup, cuda=True))
    assert held(setup) == pytest.approx(2 * held(replace(setup, rows=2)), rel=1e-6)
    checkpointed = replace(setup, checkpointing=True)
    assert held(replace(checkpointed, cuda=True)) < held(checkpointed) < held(setup)


def test_oft_leaves_larger_holes_in_float32_than_in_halves() -> None:
    setup = Setup("OFT", 4, 128)
    in_halves = replace(setup, bf16=True)
    plain = replace(a_shape(), kv_heads=8)  # keys of its own: a GPU keeps no more than a CPU
    freed = [
        terms(each, plain)["activations"] - terms(replace(each, cuda=True), plain)["activations"]
        for each in (setup, in_halves)
    ]
    assert freed[0] / freed[1] == pytest.approx(HOLES_OFT / HOLES, rel=1e-6)


def test_the_largest_micro_batch_that_fits_is_taken() -> None:
    shape, training = a_shape(), TrainingSpec(method="Full", batch_size=32)
    asked = setup_of(training, "TextGeneration", shape, processes=1, bf16=False)
    enough = int(predict(shape, replace(asked, rows=8, accumulates=True)).peak / HEADROOM) + 1
    choice = choose(shape, asked, training, enough)
    assert (choice.fits, choice.setup.rows, choice.accumulation) == (True, 8, 4)
    assert choice.prediction.peak <= HEADROOM * enough


def test_what_cannot_fit_is_refused_with_a_change_that_would_fit() -> None:
    shape = a_shape()
    training = TrainingSpec(method="Full", batch_size=32, micro_batch_size=32)
    asked = setup_of(training, "TextGeneration", shape, processes=1, bf16=False)
    enough = int(predict(shape, replace(asked, rows=4, accumulates=True)).peak / HEADROOM) + 1
    choice = choose(shape, asked, training, enough)
    assert (choice.fits, choice.change) == (False, "write training.microBatchSize: 4")


def test_the_memory_that_is_asked_for_is_enough() -> None:
    shape = a_shape()
    setup = Setup("IA3", 1, 8)
    told = smallest_change(
        shape, setup, TrainingSpec(method="IA3", processes_per_node=3), 1, 1 << 20
    )
    memory = told.removeprefix("write training.resources.memory: ")
    assert quantity(memory) / 3 * HEADROOM >= predict(shape, setup).peak


def test_a_copied_checkpoint_is_as_large_as_weights_and_moments_and_on_no_gpu() -> None:
    copies = Setup("Full", 1, 8, copies_checkpoint=True)
    assert terms(copies)["checkpoint copy"] == 12 * a_shape().parameters
    assert "checkpoint copy" not in terms(replace(copies, cuda=True))
    small = terms(replace(copies, optimizer="AdamW8bit"))["checkpoint copy"]
    assert small == 6 * a_shape().parameters


def test_a_server_holds_the_weights_and_the_cache_of_its_requests() -> None:
    shape = a_shape()
    needed = serving_bytes(shape, length=100, concurrency=8, cuda=False, generates=True)
    cache = 2 * 2 * 4 * 64 * 4 * 100 * 8
    assert needed == SERVER_BASE + 4 * shape.parameters + cache


def test_a_server_of_an_adapter_holds_the_base_and_the_adapter() -> None:
    shape = a_shape()
    task: Task = "TextGeneration"
    alone = TrainingSpec(method="LoRA", merge=False, lora={"rank": 4})
    merged = TrainingSpec(method="LoRA", lora={"rank": 4})
    one = adapter_bytes(task, alone, shape)
    assert one == 4 * sum(4 * (item.inputs + item.outputs) for item in shape.linears)
    assert adapter_bytes(task, merged, shape) == 0
    whole = serving_need(task, merged, shape, length=100, cuda=False)
    assert serving_need(task, alone, shape, length=100, cuda=False) == whole + one


def test_compared_answers_take_two_sequences_a_row_and_no_matrix_of_all_logits() -> None:
    training = TrainingSpec(method="LoRA", objective="DPO")
    asked = setup_of(training, "TextGeneration", a_shape(), processes=1, bf16=False)
    assert (asked.sequences, asked.loss) == (2, "LabelledTokens")
    alone = replace(asked, sequences=1)
    assert most_rows(asked) == most_rows(alone) // 2 > 0


def test_a_gpu_keeps_a_matrix_where_heads_share_keys_in_float32() -> None:
    setup = Setup("Full", 4, 128, cuda=True)
    more = [
        terms(each)["activations"] - terms(each, replace(a_shape(), kv_heads=8))["activations"]
        for each in (setup, replace(setup, bf16=True))
    ]
    assert more[0] > 0 > more[1], "fused in halves, where fewer keys are kept"


def test_a_gpu_computes_a_layer_again_in_the_room_of_the_logits() -> None:
    setup = Setup("LoRA", 4, 128, cuda=True, bf16=True, checkpointing=True, loss="AllLogits")
    again, whole = terms(setup), terms(replace(setup, checkpointing=False))
    assert again["loss"] < whole["loss"]
    kept = a_shape().layers * a_shape().width * 4 * setup.tokens
    assert again["activations"] + again["loss"] >= kept + whole["loss"]
