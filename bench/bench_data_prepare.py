"""JSON Lines in, packed tokens out: prepare against datasets with datasketch, and against datatrove.

    PYTHONPATH=operator:trainer_image python bench/bench_data_prepare.py [ROUNDS] [ROWS]

plant.py makes the rows, of about 1 kB and 120,000 different words: 1 % exact and 3 % near-duplicates,
50 leaks and 50 near-leaks of a test set. Each side reads them, drops exact and near-duplicates (pairs of
words, Jaccard 0.8; the peers with 20 bands of 5 minima, fewer than ours) and rows that a test row
resembles, and writes what is left as tokens, one row after the other, in files to be mapped. All use one
byte-level BPE of 16,000 tokens, trained here on a sample. prepare also makes its checks, looks for quoted
runs of the test rows, splits, hashes and keeps a version, and proves its tokens; datatrove does not verify
its pairs. Peers run in the interpreter that OIKYO_BENCH_PEERS names (`pip install datasets datasketch
psutil datatrove[processing,io]`), with 2 processes; datatrove splits words at blanks, its fastest.
Each run is a cold process whose byte-code lies ready, the rounds interleave the sides. The gate comes first: every leak found,
duplicates at least 0.97, false drops at most 1 %, and of each row that two sides keep the same tokens.
Told: of a first run of each side, which is looked at ten times a second and therefore not timed, the peak
of the proportional memory of all its processes; then rows a second, and the ratios over the pairs of a
round.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

SIDES = ("oikyo", "datasets", "datatrove")
PEERS = os.environ.get("OIKYO_BENCH_PEERS", sys.executable)
BANDS, WIDTH, SIMILARITY = 20, 5, 0.8
VOCABULARY, LONGEST = 16_000, 4096
END = "</s>"
GOALS = {"datasets": 15, "datatrove": 8}

Rows = Iterator[tuple[int, Any]]
"""(line of train.jsonl, its tokens); read after the clock has stopped."""


def oikyo(data: Path, scratch: Path) -> Callable[[], Rows]:
    from oikyo.api.data import Fields
    from oikyo.api.duplicates import Duplicates
    from oikyo.api.stages import PrepareSpec, Source
    from oikyo.api.training import TrainingSpec
    from oikyo_trainer.context import Context
    from oikyo_trainer.data.prepare import prepare
    from oikyo_trainer.progress import Reporter

    def source(name: str) -> Source:
        return Source(uri=(data / name).as_uri(), path=str(data / name))

    spec = PrepareSpec(
        run="bench-00000000",
        task="TextGeneration",
        model=source("model"),
        sources=(source("train.jsonl"),),
        test_sources=(source("test.jsonl"),),
        fields=Fields(text="text"),
        duplicates=Duplicates(near="Remove", similarity=str(SIMILARITY)),
        training=TrainingSpec(max_length=LONGEST),
        max_length=LONGEST,
    )
    workspace = scratch / "workspace"
    workspace.mkdir()
    prepare(spec, Context(workspace, Reporter("prepare", 1, spec.run)))

    def read() -> Rows:
        import pyarrow.parquet as pq

        from oikyo_trainer.training.tokenfiles import open_rows

        (folder,) = workspace.glob("tokens/*")
        for split in ("train", "validation"):
            (path,) = workspace.glob(f"datasets/*/{split}.parquet")
            places = pq.read_table(path, columns=["source"]).column(0).to_pylist()
            rows = open_rows(folder, split)
            assert len(places) == len(rows)
            for row, place in enumerate(places):
                yield int(place.rpartition(":")[2]), rows.marked(row)[0]

    return read


def shingles(text: str) -> set[str]:
    words = text.lower().replace(".", "").split()
    return {f"{one} {two}" for one, two in pairwise(words)} or {text}


def sketched(batch: dict[str, list[str]]) -> dict[str, Any]:
    from datasketch import MinHash

    made = MinHash.bulk(
        [[s.encode() for s in shingles(text)] for text in batch["text"]], num_perm=BANDS * WIDTH
    )
    return {"minhash": [one.hashvalues for one in made]}


class Tokenised:
    """Texts of a batch as tokens with the end token; opened once in each process."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self, batch: dict[str, list[str]]) -> dict[str, Any]:
        words, end = self._open()
        made = words.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*one.ids, end] for one in made]}

    def _open(self) -> tuple[Any, int]:
        from tokenizers import Tokenizer

        if self._path not in OPENED:
            OPENED[self._path] = Tokenizer.from_file(self._path)
        return OPENED[self._path], OPENED[self._path].token_to_id(END)


OPENED: dict[str, Any] = {}


def datasets(data: Path, scratch: Path) -> Callable[[], Rows]:
    import numpy as np
    from datasets import concatenate_datasets, load_dataset
    from datasketch import LeanMinHash, MinHash, MinHashLSH

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # two processes are on two CPUs
    parts = [
        load_dataset("json", data_files=str(data / name), split="train", cache_dir=str(scratch))
        for name in ("test.jsonl", "train.jsonl")
    ]
    tests = len(parts[0])
    rows = concatenate_datasets(parts)
    rows = rows.map(sketched, batched=True, num_proc=2)
    index = MinHashLSH(threshold=SIMILARITY, num_perm=BANDS * WIDTH, params=(BANDS, WIDTH))
    scheme = MinHash(num_perm=1).scheme
    seen: set[str] = set()
    left = []
    for number, row in enumerate(rows):
        test = number < tests
        if row["text"] in seen and not test:
            continue
        sketch = LeanMinHash(seed=1, hashvalues=row["minhash"], scheme=scheme)
        if not test and alike(row["text"], rows, index.query(sketch)):
            continue
        seen.add(row["text"])
        index.insert(number, sketch)
        left.append(number)
    left = [number for number in left if number >= tests]
    kept = rows.select(left).select_columns("text")
    made = Tokenised(data / "model" / "tokenizer.json")
    kept = kept.map(made, batched=True, num_proc=2, remove_columns="text")
    ends = []
    with (scratch / "tokens").open("wb") as file:
        for batch in kept.with_format("arrow").iter(10_000):
            column = batch.column("input_ids").combine_chunks()
            np.asarray(column.flatten()).astype("<i4").tofile(file)
            ends.append(np.diff(np.asarray(column.offsets)))
    np.save(scratch / "ends.npy", np.cumsum(np.concatenate(ends)))
    lines = [number - tests + 1 for number in left]
    return lambda: rows_of(
        np.memmap(scratch / "tokens", "<i4"), np.load(scratch / "ends.npy"), lines
    )


def rows_of(tokens: Any, ends: Any, lines: list[int]) -> Rows:
    begin = 0
    for line, end in zip(lines, ends.tolist(), strict=True):
        yield line, tokens[begin:end]
        begin = end


def alike(text: str, rows: Any, others: list[int]) -> bool:
    own = shingles(text)
    for other in others:
        theirs = shingles(rows[other]["text"])
        if len(own & theirs) >= SIMILARITY * len(own | theirs):
            return True
    return False


def datatrove(data: Path, scratch: Path) -> Callable[[], Rows]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
        minhash,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    form = MinhashConfig(n_grams=2, num_buckets=BANDS, hashes_per_bucket=WIDTH)

    def run(tasks: int, *steps: Any) -> None:
        name = str(scratch / f"log-{type(steps[-1]).__name__}")
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=2, logging_dir=name).run()

    read = JsonlReader(str(data / "halves"))
    minhash.load_word_tokenizer = lambda _: Words()
    run(2, read, MinhashDedupSignature(str(scratch / "sig"), config=form))
    run(BANDS, MinhashDedupBuckets(str(scratch / "sig"), str(scratch / "buckets"), config=form))
    run(1, MinhashDedupCluster(str(scratch / "buckets"), str(scratch / "remove"), config=form))
    write = DocumentTokenizer(
        str(scratch / "tokens"),
        str(data / "model" / "tokenizer.json"),
        eos_token=END,
        shuffle_documents=False,
    )
    run(2, read, MinhashDedupFilter(str(scratch / "remove")), write)
    return lambda: written_by_datatrove(data, scratch)


def written_by_datatrove(data: Path, scratch: Path) -> Rows:
    import numpy as np

    with (data / "test.jsonl").open("rb") as file:
        before = sum(1 for _ in file)
    for rank in range(2):
        with (data / "halves" / f"{rank}.jsonl").open("rb") as file:
            count = sum(1 for _ in file)
        removed = np.fromfile(scratch / "remove" / f"{rank:06d}.remove", "<u4")
        left = np.setdiff1d(np.arange(count), removed)
        (path,) = (scratch / "tokens").glob(f"*{rank:05d}*.ds")
        ends = np.fromfile(f"{path}.index", "<u8").astype(np.int64)
        lines = (left + 1 - before).tolist()
        yield from (row for row in rows_of(np.memmap(path, "<u2"), ends, lines) if row[0] > 0)
        before -= count


class Words:
    """Words between blanks: the tokenisers for languages need a download."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


def work(side: str, data: Path, scratch: Path) -> None:
    """The life of the process that is measured; what each row became is told after the clock stopped."""
    read = globals()[side](data, scratch)
    (scratch / "done").write_text(str(time.time()))
    digests = {
        line: hashlib.sha256(tokens.astype("<i4").tobytes()).hexdigest()[:16]
        for line, tokens in read()
    }
    (scratch / "rows.json").write_text(json.dumps(digests))


def run(side: str, data: Path, *, watched: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """What one cold process took (memory where it is `watched`, else time), what the gate says of it, and
    the digest of every row that it kept."""
    with tempfile.TemporaryDirectory(dir=data) as folder:
        scratch = Path(folder)
        python = sys.executable if side == "oikyo" else PEERS
        done, said = scratch / "done", scratch / "said"
        os.sync()  # what the side before left to be written is not this one's to wait for
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        started = time.time()
        with said.open("wb") as log:
            command = [python, __file__, "--side", side, str(data), folder]
            child = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        peak = 0.0
        while child.poll() is None:
            if watched and not done.exists():
                peak = max(peak, memory(child.pid))
            time.sleep(0.1)
        if child.returncode:
            raise SystemExit(f"{side}: {said.read_text()[-2000:]}")
        seconds = float(done.read_text()) - started
        kept = json.loads((scratch / "rows.json").read_text())
    leaks, duplicates, wrong, rows = gate(data, {int(line) for line in kept})
    assert leaks == 1.0, f"{side} left leaks: {leaks}"
    assert duplicates >= 0.97, f"{side} left duplicates: {duplicates}"
    assert wrong <= 0.01, f"{side} dropped good rows: {wrong}"
    told: dict[str, Any] = {"side": side, "kept": len(kept)}
    if watched:
        told["peak_mb"] = round(peak)
    else:
        told |= {"seconds": round(seconds, 2), "rows_per_second": round(rows / seconds)}
    return {**told, "recall": round(duplicates, 4), "false_drops": round(wrong, 4)}, kept


def memory(pid: int) -> float:
    """Proportional set size of a process and its children, MB."""
    import psutil

    total = 0
    try:
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with open(f"/proc/{one.pid}/smaps_rollup") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
    except (psutil.Error, OSError, StopIteration):
        return 0.0
    return total / 1024


def gate(data: Path, left: set[int]) -> tuple[float, float, float, int]:
    """Leaks found, planted duplicates found, the share of the drops that is wrong, and the rows."""
    meant: set[int] = set()
    pairs: Counter[str] = Counter()
    found: Counter[str] = Counter()
    with (data / "truth.jsonl").open() as file:
        for fault in map(json.loads, file):
            if fault["kind"] not in ("exact", "near", "leak", "near-leak"):
                continue
            leak = fault["kind"].endswith("leak")
            pair = {fault["line"]} if leak else {fault["line"], fault["of"]}
            meant |= pair
            kind = "leak" if fault["kind"] == "leak" else "duplicate"
            pairs[kind] += 1
            found[kind] += not pair <= left
    with (data / "train.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    dropped = set(range(1, rows + 1)) - left
    wrong = len(dropped - meant) / max(1, len(dropped))
    return found["leak"] / pairs["leak"], found["duplicate"] / pairs["duplicate"], wrong, rows


def lay_out(data: Path, rows: int) -> None:
    """The rows, the halves of them that datatrove reads, and a model folder with its tokenizer."""
    import plant

    plan = plant.Plan(rows=rows, malformed=0, words=150, vocabulary=120_000, leaks=50)
    plant.plant(data, plan)
    lines = (data / "test.jsonl").read_bytes() + (data / "train.jsonl").read_bytes()
    middle = lines.index(b"\n", len(lines) // 2) + 1
    (data / "halves").mkdir()
    (data / "halves" / "0.jsonl").write_bytes(lines[:middle])
    (data / "halves" / "1.jsonl").write_bytes(lines[middle:])
    sample = [json.loads(line)["text"] for line in lines[: 8 << 20].splitlines()[:-1]]
    model(data / "model", sample)


def model(folder: Path, sample: list[str]) -> None:
    """A Llama with random weights and a byte-level BPE of the sample."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        sample,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=["<pad>", END], initial_alphabet=alphabet,
            show_progress=False,
        ),
    )  # fmt: skip
    words = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token=END)
    words.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=LONGEST,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> int:
    if sys.argv[1:2] == ["--lay-out"]:
        lay_out(Path(sys.argv[2]), int(sys.argv[3]))
        return 0
    if sys.argv[1:2] == ["--side"]:
        work(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
        return 0
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    needed = "import datasets, datasketch, datatrove"
    if subprocess.run([PEERS, "-c", needed], capture_output=True, check=False).returncode:
        print(f"{PEERS} lacks the peers; see the docstring", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            [sys.executable, __file__, "--lay-out", folder, str(rows)], check=False
        )
        if made.returncode:
            return 1
        told = compared(Path(folder), rounds)
    for peer, goal in GOALS.items():
        (ours, theirs), *pairs = zip(told["oikyo"], told[peer], strict=True)
        faster = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
        result = {"peer": peer, "times_faster": round(statistics.median(faster), 2), "goal": goal}
        result |= {"of": [round(ratio, 2) for ratio in sorted(faster)]}
        memory_ratio = round(ours["peak_mb"] / theirs["peak_mb"], 2)
        print(json.dumps({**result, "memory_ratio": memory_ratio}))
    return 0


def compared(data: Path, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run the sides in turn, each time through the gate."""
    size = (data / "train.jsonl").stat().st_size
    print(json.dumps({"megabytes": round(size / 1e6, 1)}), flush=True)
    told: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for number in range(rounds + 1):
        ours: dict[str, str] = {}
        for side in SIDES:
            figures, kept = run(side, data, watched=not number)
            ours = ours or kept
            both = ours.keys() & kept.keys()
            other = [line for line in both if ours[line] != kept[line]]
            assert not other, f"{side} has other tokens of {len(other)} rows, as of line {other[0]}"
            figures["same_tokens"] = len(both)
            told[side].append(figures)
            print(json.dumps(figures), flush=True)
    return told


if __name__ == "__main__":
    raise SystemExit(main())
