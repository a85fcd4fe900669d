"""Make everything that job.yaml needs, from text that every Python carries; no network, two minutes.

    python make_base.py DIR

DIR/base                    a small causal language model, trained from scratch on the sources of the
                            standard library: config, safetensors, tokenizer
DIR/data/docstrings.jsonl   the task for job.yaml: {prompt: a signature, completion: its docstring's
                            first line}; none of these pairs stands in what the base model has read

The base model has read code and documentation; which sentence belongs to which signature, and that
it ends after one line, is left for the fine-tuning to teach.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

SEED = 7
VOCABULARY = 2048
CONTEXT = 256
BLOCK = 128  # tokens of one training row
BATCH = 8
PEAK_RATE = 3e-3
SKIPPED = ("test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "turtledemo")
MOST_PAIRS = 6000
LONGEST_SENTENCE = 160
SHAPE = {
    "hidden_size": 160,
    "intermediate_size": 432,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("folder", type=Path, help="where to write base/ and data/")
    command.add_argument("--steps", type=int, default=600, help="training steps. Default: 600")
    arguments = command.parse_args()

    sources = list(read_sources())
    pairs = list(find_pairs(sources))[:MOST_PAIRS]
    write_pairs(arguments.folder / "data" / "docstrings.jsonl", pairs)
    print(f"{len(sources)} modules, {len(pairs)} pairs of signature and docstring")
    texts = [without_docstrings(source) for source in sources]
    loss = train_base(arguments.folder / "base", texts, arguments.steps)
    print(f"base model in {arguments.folder / 'base'}, last training loss {loss:.2f}")


def read_sources() -> Iterator[str]:
    """The modules of the standard library, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not set(path.relative_to(root).parts) & set(SKIPPED):
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def parse(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in the sources are not our business
        try:
            return ast.parse(source)
        except SyntaxError:
            return None


def functions(source: str) -> Iterator[ast.FunctionDef]:
    tree = parse(source)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.FunctionDef):
            yield node


def find_pairs(sources: list[str]) -> Iterator[dict[str, str]]:
    """Signature and first docstring line of every documented function, each signature once."""
    seen: set[str] = set()
    for source in sources:
        for function in functions(source):
            lines = (ast.get_docstring(function) or "").strip().splitlines()
            signature = f"def {function.name}({ast.unparse(function.args)}):"
            good = lines and 10 <= len(lines[0]) <= LONGEST_SENTENCE and len(signature) <= 200
            if good and signature not in seen:
                seen.add(signature)
                yield {"prompt": f"{signature}\n", "completion": lines[0]}


def without_docstrings(source: str) -> str:
    """The source with the docstrings of its functions taken out: those are the task."""
    lines = source.splitlines(keepends=True)
    for function in functions(source):
        first = function.body[0]
        if ast.get_docstring(function) is not None and first.end_lineno is not None:
            for number in range(first.lineno - 1, first.end_lineno):
                lines[number] = ""
    return "".join(lines)


def write_pairs(path: Path, pairs: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")


def train_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE tokenizer (no unknown token) over the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )


def train_base(folder: Path, texts: list[str], steps: int) -> float:
    """Train for `steps`; returns the mean loss of the last steps (nats for a token)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    tokenizer = train_tokenizer(texts)
    stream = torch.tensor(
        [token for ids in tokenizer(texts)["input_ids"] for token in (*ids, tokenizer.eos_token_id)]
    )
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            **SHAPE,
        )
    )
    size = sum(weight.numel() for weight in model.parameters())
    print(f"{size / 1e6:.1f} M weights, {len(stream) / 1e6:.1f} M tokens, {steps} steps")
    loss = fit(model, stream, steps)
    tokenizer.model_max_length = CONTEXT
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return loss


def fit(model: Any, stream: Any, steps: int) -> float:
    """AdamW on random blocks of the stream, a short warm-up, then down to zero."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95))
    losses: list[float] = []
    for step in range(steps):
        rate = PEAK_RATE * min((step + 1) / (0.05 * steps), (steps - step) / (0.95 * steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(stream) - BLOCK, (BATCH,))
        rows = torch.stack([stream[start : start + BLOCK] for start in starts])  # (B, T)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f"step {len(losses)}: loss {sum(losses[-100:]) / 100:.2f}", flush=True)
    last = losses[-50:]
    return sum(last) / len(last)


if __name__ == "__main__":
    sys.exit(main())
