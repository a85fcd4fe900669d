"""What went through the model and where the time went, counted and told by a real training."""

from __future__ import annotations

import math
from itertools import count

import pytest
import torch

from oikyo_trainer.metrics import STEP_PARTS
from oikyo_trainer.planning.flops import Counted, useful_flops
from oikyo_trainer.planning.shape import shape_of
from oikyo_trainer.training.throughput import Speed, Stopwatch, Throughput, peak_of

CPU = torch.device("cpu")
CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 100,
}


def test_counts_from_masks_and_from_the_host_add_up() -> None:
    throughput = Throughput()
    throughput.add(torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]))
    throughput.count(tokens=5, slots=6, labels=2, squares=13)
    assert throughput.take(CPU) == Counted(tokens=9, slots=14, labels=4, squares=23)
    assert throughput.take(CPU) == Counted(0, 0, 0, 0)


def test_padding_is_the_share_of_slots_without_a_token() -> None:
    assert Counted(tokens=3, slots=4, labels=0, squares=0).padding_share == 0.25
    assert Counted(0, 0, 0, 0).padding_share == 0.0


def test_operations_agree_with_what_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    given = {key: value for key, value in CONFIG.items() if key != "model_type"}
    model = LlamaForCausalLM(LlamaConfig(**given, attn_implementation="eager"))
    tensors = {
        name: ("F32", tuple(parameter.shape)) for name, parameter in model.named_parameters()
    }
    ids = torch.arange(12)[None]
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=ids).loss.backward()
    counted = Counted(tokens=12, slots=12, labels=12, squares=144)
    shape = shape_of(CONFIG, tensors)
    ours = useful_flops(shape, counted, frozen=False)
    # torch computes the masked half of the attention too.
    masked = 6 * shape.layers * shape.heads * shape.head_dim * 144
    assert ours + masked == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_frozen_body_needs_no_gradients_of_its_weights() -> None:
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    given = {key: value for key, value in CONFIG.items() if key != "model_type"}
    model = LlamaForCausalLM(LlamaConfig(**given, attn_implementation="eager")).requires_grad_(
        False
    )
    tensors = {
        name: ("F32", tuple(parameter.shape)) for name, parameter in model.named_parameters()
    }
    # As under an adapter of the first layer: its input has a gradient, which goes through every layer.
    states = torch.zeros(1, 40, 8, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(inputs_embeds=states, labels=torch.arange(40)[None]).loss.backward()
    counted = Counted(tokens=40, slots=40, labels=40, squares=1600)
    shape = shape_of(CONFIG, tensors)
    masked = 6 * shape.layers * shape.heads * shape.head_dim * 1600
    ours = useful_flops(shape, counted, frozen=True)
    assert ours + masked == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_time_of_a_step_is_given_to_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = count(100.0)  # a second passes between any two looks at it
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch()
    watch._cuda = False
    watch.mark("other")
    for _ in range(2):
        next(clock)
        watch.mark("forward")
        watch.mark("backward")
        watch.on_step_end(None, None, None)
    parts = watch.take()
    assert set(parts) == set(STEP_PARTS)
    assert (parts["forward"], parts["backward"], parts["data"]) == (2.0, 1.0, 0.0)
    assert watch.take() == {}
    watch.mark("backward")  # a step of 1 second after two of 3 and, with the look, 2 seconds
    watch.on_step_end(None, None, None)
    assert watch.take()["backward"] == 1.0
    whole = watch.overall()
    assert (whole["forward"], whole["backward"]) == (4 / 3, 1.0)


def test_the_peak_of_this_processor_is_measured() -> None:
    peak = peak_of(CPU, bf16=False)
    assert peak.flops > 1e9
    assert "measured" in peak.reason


def test_utilization_is_left_out_where_the_work_is_not_known() -> None:
    throughput = Throughput()
    throughput.count(tokens=10, slots=20, labels=1, squares=100)
    speed = Speed(throughput, Stopwatch(), None, math.inf)
    assert speed.overall() == {}
    assert speed.take(CPU, 2.0) == {"tokens_per_second": 5.0, "padding_share": 0.5}
    assert speed.overall() == {"tokens_per_second": 5.0, "padding_share": 0.5}
