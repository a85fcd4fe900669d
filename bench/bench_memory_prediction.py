"""Predicted against measured peak memory of training steps, each case in its own process.

    python bench/bench_memory_prediction.py [--only OFT,IA3] [--workers 4] [--gpu] [--write bench/memory-prediction.md]

Models are built from configs with random weights. A case first trains a model of nothing, which gives the
base; then two optimizer steps of the model itself. Measured: the peak of resident memory above the base
(Linux: VmHWM, reset through clear_refs). Predicted: the terms of oikyo_trainer.planning above the base.
The loop is the forward, loss, backward and AdamW of the trainer; checkpoints and data are not part of it.
The processes are forked from one that has loaded the libraries and computed nothing: a peak is a process's own,
so several may run at once. `--gpu`: larger models on a GPU, and what its allocator gave at most.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from oikyo.api.tasks import Task
from oikyo.api.training import TrainingSpec

FAMILIES = ("bert", "gpt2", "llama", "qwen3")
OTHERS = ("OFT", "LayerNorm", "PromptTuning", "IA3")
"""Methods beside Full and LoRA."""
LIMIT = 0.15
INTRO = """# Memory: predicted and measured

Two optimizer steps on a CPU, one thread, each case in its own process, all of them in one run of
`python bench/bench_memory_prediction.py --write bench/memory-prediction.md`. What autograd keeps and what a forward pass makes
is counted; the shares of it that stay holes of the heap were set on earlier runs of this grid and stayed as they were for this one
([how memory is predicted](../docs/explanation/memory.md)). A forked process counts of the libraries only the pages that it touches,
so its base is lower than the 960 MiB of a trainer.
"""
INTRO_GPU = """# Memory on a GPU: predicted and measured

Two optimizer steps, each case in its own process, by `python bench/bench_memory_prediction.py --gpu --write bench/memory-prediction-gpu.md`:
what torch's allocator gave at most, above what it held after a model of nothing. The terms for keys that heads share in float32 and for
checkpointing on a GPU were set on this grid; the others are those of the CPU
([how memory is predicted](../docs/explanation/memory.md)).
"""
Case = dict[str, Any]  # one line of the grid, as JSON


def cases(gpu: bool) -> Iterator[Case]:
    """The grid; on a GPU of models that its libraries' own buffers do not outweigh."""
    for case in grid():
        more = {"rows": 2 * case["rows"], "length": 2 * case["length"], "width": 2 * case["width"]}
        yield {**case, **(more if gpu else {}), "device": "cuda" if gpu else "cpu"}


def grid() -> Iterator[Case]:
    """Families, methods and arithmetic; then lengths, batches, checkpointing and sizes."""
    plain: Case = {"rows": 8, "length": 128, "bf16": False, "checkpointing": False, "width": 384}
    for family in FAMILIES:
        for method in ("Full", "LoRA"):
            for bf16 in (False, True):
                yield {**plain, "family": family, "method": method, "bf16": bf16}
    for family in ("bert", "llama"):
        for method in ("Full", "LoRA"):
            one = {**plain, "family": family, "method": method}
            yield {**one, "rows": 16}
            yield {**one, "rows": 2, "length": 512}
            yield {**one, "checkpointing": True}
    for family in ("bert", "llama"):
        yield {**plain, "family": family, "method": "Full", "width": 768, "rows": 4}
        yield {**plain, "family": family, "method": "LoRA", "width": 768, "rows": 4}
    for method in OTHERS:
        yield {**plain, "family": "bert", "method": method}
        yield {**plain, "family": "llama", "method": method}
        yield {**plain, "family": "llama", "method": method, "bf16": True}


def model_of(case: Case, *, tiny: bool) -> Any:
    import transformers as t

    width = 32 if tiny else case["width"]
    layers, feed_forward = (
        (2, 64) if tiny else (8, 4 * width if case["family"] != "llama" else 1024)
    )
    heads, vocabulary = max(2, width // 64), 100 if tiny else 8000
    if case["family"] == "gpt2":
        sizes = {"n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": feed_forward}
        return t.GPT2LMHeadModel(t.GPT2Config(vocab_size=vocabulary, n_positions=1024, **sizes))
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "max_position_embeddings": 1024,
    }
    if case["family"] == "bert":
        return t.BertForSequenceClassification(t.BertConfig(**sizes))
    sizes |= {"num_key_value_heads": max(1, heads // 2), "tie_word_embeddings": True}
    if case["family"] == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**sizes))
    return t.Qwen3ForCausalLM(t.Qwen3Config(**sizes, head_dim=width // heads))


def tensors_of(model: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What the headers of the saved model would say: tied weights once."""
    return {name: ("F32", tuple(weight.shape)) for name, weight in model.named_parameters()}


def with_method(model: Any, case: Case) -> Any:
    if case["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    from oikyo_trainer.training.dropout import keep_bytes
    from oikyo_trainer.training.gelu import fuse_gelu
    from oikyo_trainer.training.methods.adapters import add_adapter
    from oikyo_trainer.training.methods.lowrank import fuse

    keep_bytes(model)
    fuse_gelu(model)
    if case["method"] == "Full":
        return model.train()

    if case["checkpointing"]:
        model.enable_input_require_grads()
    model.config.pad_token_id = 0
    task: Task = "TextClassification" if case["family"] == "bert" else "TextGeneration"
    adapted = add_adapter(model, task, training_of(case), autocast=True)
    fuse(adapted)
    keep_bytes(adapted)
    return adapted.train()


def training_of(case: Case) -> TrainingSpec:
    return TrainingSpec(method=case["method"])


def steps(model: Any, case: Case, *, rows: int, length: int) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    for _ in range(2):
        tokens = torch.randint(4, 100, (rows, length), device=case["device"])
        with torch.autocast(case["device"], torch.bfloat16, enabled=case["bf16"]):
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        if case["family"] == "bert":
            loss = cross_entropy(logits.float(), tokens[:, 0] % 2)
        else:
            chosen, targets = logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
            loss = cross_entropy(chosen.float(), targets, reduction="sum") / targets.numel()
        del logits
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def held(case: Case, *, most: bool = False) -> int:
    """Bytes that this process holds now, or held at most, where the case is computed."""
    if case["device"] == "cpu":
        return status("VmHWM" if most else "VmRSS")
    import torch

    return torch.cuda.max_memory_allocated() if most else torch.cuda.memory_allocated()


def run_case(case: Case) -> dict[str, int]:
    """Base, measured and predicted bytes of one case; for a process of its own."""
    import gc

    import torch

    from oikyo_trainer.planning.predict import predict
    from oikyo_trainer.planning.setup import Setup
    from oikyo_trainer.planning.shape import shape_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps(with_method(model_of(case, tiny=True), case).to(case["device"]), case, rows=2, length=16)
    gc.collect()
    base = held(case)
    model = model_of(case, tiny=False)
    shape = shape_of(model.config.to_dict(), tensors_of(model))
    model = with_method(model, case).to(case["device"])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    steps(model, case, rows=case["rows"], length=case["length"])
    setup = Setup(
        case["method"],
        case["rows"],
        case["length"],
        bf16=case["bf16"],
        cuda=case["device"] == "cuda",
        checkpointing=case["checkpointing"],
        loss="Classes" if case["family"] == "bert" else "AllLogits",
        rank=training_of(case).lora.rank,
        block=training_of(case).oft.block_size,
        virtual_tokens=training_of(case).virtual_tokens,
    )
    predicted = predict(shape, setup).above_base
    return {"base": base, "measured": held(case, most=True) - base, "predicted": predicted}


def load_libraries() -> None:
    """What every case would import, before the first of them is forked; starts no thread."""
    import torch
    import transformers.models.bert.modeling_bert
    import transformers.models.gpt2.modeling_gpt2
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    import oikyo_trainer.planning.predict
    import oikyo_trainer.training.dropout
    import oikyo_trainer.training.gelu
    import oikyo_trainer.training.methods.adapters
    import oikyo_trainer.training.methods.lowrank  # noqa: F401

    torch.set_num_threads(1)


def start(case: Case) -> tuple[int, int]:
    """Process that runs the case, and the end of the pipe where it will tell what it found."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        os.write(writer, json.dumps(run_case(case)).encode())
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def measured(cases: list[Case], workers: int) -> list[tuple[Case, dict[str, int]]]:
    """All cases, in their order; raises SystemExit for one that failed."""
    waiting, running = list(range(len(cases)))[::-1], dict[int, tuple[int, int]]()
    found: dict[int, dict[str, int]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            number = waiting.pop()
            child, reader = start(cases[number])
            running[child] = (number, reader)
        child, code = os.wait()
        number, reader = running.pop(child)
        if code:
            raise SystemExit(f"{json.dumps(cases[number])} failed: its error is above")
        with os.fdopen(reader, "rb") as pipe:
            found[number] = json.load(pipe)
        print(json.dumps({**cases[number], **found[number]}), flush=True)
    return [(case, found[number]) for number, case in enumerate(cases)]


def table(lines: list[tuple[Case, dict[str, int]]]) -> str:
    """Markdown, one row for each case, and how many stayed within LIMIT."""
    rows = [
        "| model | method | width | rows x length | dtype | checkpointing | measured | predicted | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    errors = []
    for case, found in lines:
        errors.append(found["predicted"] / found["measured"] - 1)
        rows.append(
            f"| {case['family']} | {case['method']} | {case['width']} | {case['rows']} x "
            f"{case['length']} | {'bf16' if case['bf16'] else 'float32'} | "
            f"{'on' if case['checkpointing'] else 'off'} | {found['measured'] >> 20} MiB | "
            f"{found['predicted'] >> 20} MiB | {errors[-1]:+.0%} |"
        )
    sizes = sorted(abs(error) for error in errors)
    within = sum(size <= LIMIT for size in sizes)
    rows.append(
        f"\n{within} of {len(sizes)} cases within {LIMIT:.0%}; median {median(sizes):.0%}, "
        f"largest {sizes[-1]:.0%}. Peak above a base of about {lines[0][1]['base'] >> 20} MiB."
    )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="methods, with commas; all when left out")
    parser.add_argument("--workers", type=int, default=1, help="cases at once; default: 1")
    parser.add_argument("--gpu", action="store_true", help="on a GPU")
    parser.add_argument("--write", type=Path, help="file for the table")
    given = parser.parse_args()
    wanted = set(filter(None, given.only.split(",")))
    if not given.gpu:  # some of them would begin to use it, and a fork cannot go on with that
        load_libraries()
    lines = measured(
        [c for c in cases(given.gpu) if not wanted or c["method"] in wanted], given.workers
    )
    text = table(lines)
    print(text)
    if given.write:
        given.write.write_text(f"{INTRO_GPU if given.gpu else INTRO}\n{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
