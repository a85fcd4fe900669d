"""Rows laid end to end learn what each learns alone; a model for which that is not so is not packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow
SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}


def causal(kind: str) -> Any:
    """A random causal model whose attention matters: large weights, so that a leak shows."""
    import torch
    import transformers

    torch.manual_seed(3)
    if kind == "GPT2":
        config: Any = transformers.GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4)
    else:
        more = {"logits_scaling": 8.0} if kind == "Granite" else {}
        config = getattr(transformers, f"{kind}Config")(**SIZES, num_key_value_heads=2, **more)
    config.initializer_range = 0.3
    return getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(
        config
    )


def some_rows() -> list[dict[str, Any]]:
    dice = np.random.default_rng(1)
    rows = []
    for length in (5, 17, 2, 9, 30):
        tokens = dice.integers(0, 61, length)
        labels = np.where(dice.random(length) < 0.5, tokens, -100)
        labels[-1] = tokens[-1]
        rows.append({"input_ids": tokens, "labels": labels})
    return rows


@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "GPT2"])
def test_the_loss_of_each_packed_row_is_that_of_the_row_alone(kind: str) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from oikyo_trainer.training.microbatch import build
    from oikyo_trainer.training.probe import choose, summed_loss

    rows, plain = some_rows(), causal(kind).eval()
    alone = []
    with torch.no_grad():
        for row in rows:
            logits = plain(input_ids=torch.from_numpy(row["input_ids"])[None]).logits[0, :-1]
            targets = torch.from_numpy(row["labels"])[1:]
            alone.append(float(cross_entropy(logits, targets, reduction="sum")))
    model = causal(kind).eval()
    choice = choose(model, 0, sharded=False)
    assert choice.layout.packed, choice.packing_reason
    assert choice.fused, choice.loss_reason
    for wanted, one in zip(alone, range(len(rows)), strict=True):
        # ~n lays row n into the same sequence without its labels.
        bin_ = [n if n == one else ~n for n in range(len(rows))]
        part = build(rows, bin_, choice.layout)
        with torch.no_grad():
            assert float(summed_loss(model, part, fused=True)) == pytest.approx(wanted, abs=1e-3)


def test_attention_that_mixes_rows_is_found_and_rows_are_padded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from oikyo_trainer.training import attention, probe

    def mixing(*given: Any, segments: Any = None, **named: Any) -> Any:
        whole = None if segments is None else [sum(segments)]
        return attention.segment_attention(*given, segments=whole, **named)

    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register("mixing", mixing)
    AttentionMaskInterface.register("mixing", sdpa_mask)
    monkeypatch.setattr(probe, "SEGMENTED", "mixing")
    choice = probe.choose(causal("Llama"), 0, sharded=False)
    assert not choice.layout.packed
    assert "alone and" in choice.packing_reason


@pytest.mark.parametrize(
    ("smoothing", "each", "frozen"),
    [(0.0, False, False), (0.1, False, False), (0.0, True, False), (0.1, True, True)],
    ids=["summed", "smoothed", "of each token", "of each token under a frozen head"],
)
def test_gradients_of_the_chunked_loss_are_those_of_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, smoothing: float, each: bool, frozen: bool
) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from oikyo_trainer.training import loss

    monkeypatch.setattr(
        loss, "rows_at_once", lambda vocabulary: 7
    )  # several chunks, the last short
    torch.manual_seed(0)
    head = torch.nn.Linear(16, 203).requires_grad_(not frozen)
    hidden = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(0, 203, (40,))
    shares = torch.randn(40) if each else torch.full((), 0.25)
    reduction = "none" if each else "sum"
    found = []
    for ours in (False, True):
        head.zero_grad()
        hidden.grad = None
        losses = (
            loss.labelled_loss(head, hidden, targets, smoothing, each=each)
            if ours
            else cross_entropy(
                head(hidden), targets, reduction=reduction, label_smoothing=smoothing
            )
        )
        (losses * shares).sum().backward()
        found.append([losses.detach(), hidden.grad, head.weight.grad, head.bias.grad])
    for plain, chunked in zip(*found, strict=True):
        assert (plain is None) == (chunked is None)
        if plain is not None:
            torch.testing.assert_close(chunked, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("frozen", "each", "products"),
    [(False, False, 3), (True, False, 2), (True, True, 2), (False, True, 4)],
    ids=["a head that learns", "a frozen one", "each token", "each token and the head: again"],
)
def test_the_head_multiplies_no_more_often_than_is_needed(
    frozen: bool, each: bool, products: int
) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from oikyo_trainer.training.loss import labelled_loss

    head = torch.nn.Linear(16, 203, bias=False).requires_grad_(not frozen)
    hidden, targets = torch.randn(40, 16, requires_grad=True), torch.randint(0, 203, (40,))
    one = 2 * 40 * 16 * 203
    with torch.autocast("cpu", torch.bfloat16):  # a sum in place, of float32, is not counted
        with FlopCounterMode(display=False) as counted:
            labelled_loss(head, hidden, targets, each=each).sum().backward()
        assert counted.get_total_flops() == products * one
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            labelled_loss(head, hidden.detach(), targets, each=each)
    assert counted.get_total_flops() == one, "a validation learns nothing"


@pytest.mark.parametrize("kind", ["Cohere", "Granite", "Gemma2"])
def test_a_head_that_does_more_than_its_product_keeps_all_logits(kind: str) -> None:
    from oikyo_trainer.training.probe import choose

    choice = choose(causal(kind), 0, sharded=False, why_padded="as in this test")
    assert not choice.fused
    assert choice.loss_reason.startswith(f"{kind}ForCausalLM does more than its head: ")
    assert [found.value for found in choice.resolved()] == ["Padded", "AllLogits"]


def test_a_tensor_group_learns_the_same_rows_and_each_of_it_other_labels() -> None:
    from oikyo_trainer.training.distributed import World
    from oikyo_trainer.training.microbatch import Layout, build
    from oikyo_trainer.training.packing import Shape, StepSampler
    from oikyo_trainer.training.tensor import own_labels

    lengths, shape = np.arange(1, 9), Shape(4, 2, True, 16, 4)
    order = list(StepSampler(lengths, lengths, shape, seed=1, copies=2))
    assert order[::2] == order[1::2], "neighbours by rank are dealt the same"
    assert order[::2] == list(StepSampler(lengths, lengths, shape, seed=1))
    assert [World(rank, 4, tensor=2).data_rank for rank in range(4)] == [0, 0, 1, 1]
    whole = build(some_rows(), range(5), Layout(True, 0))
    own = [own_labels(whole, World(rank, 4, tensor=2)) for rank in (2, 3)]
    found = sorted(int(place) for part in own for place in part.positions)
    assert found == whole.positions.tolist()
    assert sum(part.labels for part in own) == whole.labels
    assert [part.tokens for part in own] == [whole.tokens, 0], "a group is counted once"


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_row_is_learned_once_an_epoch_in_an_order_that_the_seed_decides(
    processes: int,
) -> None:
    from oikyo_trainer.training.packing import Shape, deal

    lengths = np.random.default_rng(2).integers(1, 60, 37)
    shape = Shape(37, processes, True, 128, 8)
    bins = deal(lengths, np.arange(37), shape)
    assert len(bins) == processes
    assert len({len(own) for own in bins}) == 1, "processes step together"
    learned = [row for own in bins for bin_ in own for row in bin_ if row >= 0]
    assert sorted(learned) == list(range(37))
    for own in bins:
        for bin_ in own:
            used = sum(int(lengths[row if row >= 0 else ~row]) for row in bin_)
            assert used <= 128 or len(bin_) == 1
    again = deal(lengths, np.arange(37), shape)
    assert again == bins


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("groups", [4, 2])
def test_a_gpu_attends_to_all_rows_in_one_call_as_to_each_alone(
    window: int | None, groups: int
) -> None:
    import torch

    from oikyo_trainer.training.attention import segment_attention

    lengths = (5, 17, 2, 9, 30)
    ends = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device="cuda")
    found = []
    for dtype, boundaries in ((torch.float32, None), (torch.bfloat16, ends)):
        torch.manual_seed(0)
        given = [
            torch.randn(1, heads, sum(lengths), 32, device="cuda").requires_grad_()
            for heads in (4, groups, groups)
        ]
        q, k, v = (x.to(dtype) for x in given)
        out, _ = segment_attention(
            None, q, k, v, None, segments=lengths, boundaries=boundaries, is_causal=True,
            sliding_window=window,
        )  # fmt: skip
        out.float().square().sum().backward()
        found.append([out.float(), *(x.grad for x in given)])
    for alone, together in zip(*found, strict=True):
        torch.testing.assert_close(together, alone, rtol=2e-2, atol=5e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["Llama", "Qwen3", "GPT2"])
def test_a_gpu_packs_in_halves(kind: str) -> None:
    from oikyo_trainer.training.probe import choose

    choice = choose(causal(kind).cuda(), 0, sharded=False, bf16=True)
    assert choice.layout.packed, choice.packing_reason
    assert choice.fused, choice.loss_reason
