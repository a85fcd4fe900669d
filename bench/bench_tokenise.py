"""Rows of prompts and completions as tokens ready to train on: ours against TRL's SFTTrainer.

    PYTHONPATH=operator:trainer_image python bench/bench_tokenise.py [ROUNDS] [ROWS]

The rows are made of the standard library's sources: a function's first lines are the prompt, the rest is
the completion. The tokenizer is a byte-level BPE of 8,192 tokens, trained here on the same sources. Ours
reads the Parquet files of a dataset version and leaves files to be mapped; TRL makes its dataset when the
SFTTrainer is built (a model of one layer), with the cache off. Told: tokens in a second and in a
CPU-second, sides interleaved. Before a figure counts, the tokens and the marks of the answers must be equal.
"""

from __future__ import annotations

import json
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

LONGEST, VOCABULARY = 1024, 8192


def sources() -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if "site-packages" not in path.parts:
            yield path.read_text(encoding="utf-8", errors="replace")


def rows(count: int) -> list[dict[str, str]]:
    def made() -> Iterator[dict[str, str]]:
        while True:
            for number, text in enumerate(sources()):
                for part in text.split("\ndef ")[1:]:
                    head, _, rest = part.partition(":\n")
                    if rest.strip():
                        yield {"prompt": f"# {number}\ndef {head}:\n", "completion": rest[:4000]}

    return list(islice(made(), count))


def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(islice(sources(), 200), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")


def ours(given: list[dict[str, str]], words: Any, folder: Path) -> tuple[Callable[[], Any], Any]:
    """The work, and a function that gives its rows as (tokens, marks)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from oikyo_trainer.data.proven import Proven
    from oikyo_trainer.data.tables import Stored
    from oikyo_trainer.data.tokenrows import Writer
    from oikyo_trainer.evaluation.cut import Reading
    from oikyo_trainer.training.tokenfiles import open_rows

    pq.write_table(pa.Table.from_pylist(given), folder / "train.parquet")
    (folder / "manifest.json").write_text(json.dumps({"shape": "prompt-completion"}))

    def work() -> Any:
        tables = Stored(folder)
        Writer(tables, Proven(words), Reading(LONGEST), len(words), lambda share: None).write(
            folder, "train"
        )
        return open_rows(folder, "train")

    def read(found: Any) -> Iterator[tuple[list[int], list[bool]]]:
        for row in range(len(found)):
            tokens, marks = found.marked(row)
            yield tokens.tolist(), marks.tolist()

    return work, read


def trl(given: list[dict[str, str]], words: Any, folder: Path) -> tuple[Callable[[], Any], Any]:
    import datasets
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_caching()
    datasets.disable_progress_bars()
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=LONGEST,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    arguments = SFTConfig(
        output_dir=str(folder / "trl"), max_length=LONGEST, report_to=[], use_cpu=True, bf16=False
    )

    def work() -> Any:
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(given),
            processing_class=words,
        )
        return trainer.train_dataset

    def read(found: Any) -> Iterator[tuple[list[int], list[bool]]]:
        for row in found:
            # Where the row is cut depends on the version: in the dataset, or in the collator.
            marks = [label != -100 for label in row["labels"]]
            yield row["input_ids"][:LONGEST], marks[:LONGEST]

    return work, read


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    given, words = rows(count), tokenizer()
    spent: dict[str, list[tuple[float, float]]] = {"oikyo": [], "trl": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sides = {"oikyo": ours(given, words, folder), "trl": trl(given, words, folder)}
        _, read = sides["oikyo"]
        wanted = [row for row in read(sides["oikyo"][0]()) if any(row[1][1:])]
        theirs = [row for row in sides["trl"][1](sides["trl"][0]()) if any(row[1][1:])]
        assert wanted == theirs, "the sides made other tokens"
        tokens = sum(len(ids) for ids, _ in wanted)
        for _ in range(rounds):
            for side, (work, _) in sides.items():
                began, cpu = time.perf_counter(), time.process_time()
                work()
                spent[side].append((time.perf_counter() - began, time.process_time() - cpu))
    print(f"{len(wanted):,} rows, {tokens:,} tokens, equal on both sides")
    for side, times in spent.items():
        wall, cpu = (statistics.median(one) for one in zip(*times, strict=True))
        print(f"{side:6} {tokens / wall:12,.0f} tokens/s {tokens / cpu:12,.0f} tokens/CPU-s")
    pairs = zip(spent["trl"], spent["oikyo"], strict=True)
    ratios = [(theirs[0] / own[0], theirs[1] / own[1]) for theirs, own in pairs]
    wall, cpu = (statistics.median(one) for one in zip(*ratios, strict=True))
    print(f"ratio  {wall:.2f} in time, {cpu:.2f} in CPU time (median pair)")


if __name__ == "__main__":
    main()
