"""Rows in, clean rows out: prepare against datasets with datasketch, and against datatrove.

    PYTHONPATH=operator:trainer_image python bench/bench_data_prepare.py [ROUNDS] [ROWS]

plant.py makes the rows: 1 % exact and 3 % near-duplicates, 50 leaks and 50 near-leaks of a test set.
Each side reads JSON Lines, drops exact and near-duplicates (pairs of words, Jaccard 0.8; the peers with
20 bands of 5 minima, fewer than ours) and rows that a test row resembles, and writes what is left.
prepare also makes its checks, counts tokens, splits and hashes a version; datatrove does not verify its
pairs. Peers run in the interpreter that OIKYO_BENCH_PEERS names (`pip install datasets datasketch
psutil datatrove[processing,io]`), with 2 processes; datatrove splits words at blanks, its fastest.
Each run is a cold process, the rounds interleave the sides. The gate comes first: pairs found at least
0.97, false drops at most 1 %. Told: seconds, and the peak of the proportional memory of all processes,
then their ratios over the pairs of a round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

SIDES = ("oikyo", "datasets", "datatrove")
PEERS = os.environ.get("OIKYO_BENCH_PEERS", sys.executable)
BANDS, WIDTH, SIMILARITY = 20, 5, 0.8
TOKENIZER = {
    "version": "1.0",
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
}


def oikyo(data: Path, scratch: Path) -> list[int]:
    """Lines of train.jsonl that stay."""
    import numpy as np
    import pyarrow.parquet as pq
    from safetensors.numpy import save_file

    from oikyo.api.duplicates import Duplicates
    from oikyo.api.stages import PrepareSpec, Source
    from oikyo_trainer.context import Context
    from oikyo_trainer.data.prepare import prepare
    from oikyo_trainer.progress import Reporter

    model = scratch / "model"
    model.mkdir()
    save_file({"weight": np.zeros((4, 4), dtype=np.float32)}, model / "model.safetensors")
    (model / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    sources = [Source(uri=p.as_uri(), path=str(p)) for p in (data / "train.jsonl", model)]
    test = Source(uri=(data / "test.jsonl").as_uri(), path=str(data / "test.jsonl"))
    spec = PrepareSpec(
        run="bench-00000000",
        task="TextClassification",
        model=sources[1],
        sources=sources[:1],
        test_sources=(test,),
        duplicates=Duplicates(near="Remove", similarity=str(SIMILARITY)),
    )
    workspace = scratch / "workspace"
    workspace.mkdir()
    prepare(spec, Context(workspace, Reporter("prepare", 1, spec.run)))
    left = []
    for side in ("train", "validation"):
        (path,) = workspace.glob(f"datasets/*/{side}.parquet")
        places = pq.read_table(path, columns=["source"]).column(0).to_pylist()
        left += [int(place.rpartition(":")[2]) for place in places]
    return left


def shingles(text: str) -> set[str]:
    words = text.lower().replace(".", "").split()
    return {f"{one} {two}" for one, two in pairwise(words)} or {text}


def sketched(batch: dict[str, list[str]]) -> dict[str, Any]:
    from datasketch import MinHash

    made = [
        MinHash.bulk([[s.encode() for s in shingles(t)]], num_perm=BANDS * WIDTH)
        for t in batch["text"]
    ]
    return {"minhash": [one[0].hashvalues for one in made]}


def datasets(data: Path, scratch: Path) -> list[int]:
    from datasets import concatenate_datasets, load_dataset
    from datasketch import LeanMinHash, MinHash, MinHashLSH

    os.environ["HF_DATASETS_CACHE"] = str(scratch)
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
    rows.select([n for n in left if n >= tests]).remove_columns("minhash").to_parquet(
        str(scratch / "left.parquet")
    )
    return [number - tests + 1 for number in left if number >= tests]


def alike(text: str, rows: Any, others: list[int]) -> bool:
    own = shingles(text)
    for other in others:
        theirs = shingles(rows[other]["text"])
        if len(own & theirs) >= SIMILARITY * len(own | theirs):
            return True
    return False


def datatrove(data: Path, scratch: Path) -> list[int]:
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
    from datatrove.pipeline.writers import JsonlWriter

    lines = (data / "test.jsonl").read_bytes().splitlines(keepends=True)
    tests = len(lines)
    folder = scratch / "in"
    folder.mkdir()
    with (data / "train.jsonl").open("rb") as file:
        lines += file
    half = len(lines) // 2
    (folder / "0.jsonl").write_bytes(b"".join(lines[:half]))
    (folder / "1.jsonl").write_bytes(b"".join(lines[half:]))
    total = len(lines)
    del lines
    form = MinhashConfig(n_grams=2, num_buckets=BANDS, hashes_per_bucket=WIDTH)

    def run(tasks: int, *steps: Any) -> None:
        name = str(scratch / f"log-{type(steps[-1]).__name__}")
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=2, logging_dir=name).run()

    read = JsonlReader(str(folder))
    minhash.load_word_tokenizer = lambda _: Words()
    run(2, read, MinhashDedupSignature(str(scratch / "sig"), config=form))
    run(BANDS, MinhashDedupBuckets(str(scratch / "sig"), str(scratch / "buckets"), config=form))
    run(1, MinhashDedupCluster(str(scratch / "buckets"), str(scratch / "remove"), config=form))
    out = JsonlWriter(str(scratch / "out"), compression=None)
    run(2, read, MinhashDedupFilter(str(scratch / "remove")), out)
    left = []
    for path in sorted((scratch / "out").glob("*.jsonl")):
        with path.open() as opened:
            for line in opened:
                name, _, place = json.loads(line)["id"].rpartition("/")
                left.append(int(place) + (half if name.endswith("1.jsonl") else 0))
    assert max(left) < total
    return [number - tests + 1 for number in left if number >= tests]


class Words:
    """Words between blanks: the tokenisers for languages need a download."""

    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


def run(side: str, data: Path) -> dict[str, Any]:
    """Seconds, peak MB, and what the gate says, of one cold process."""
    with tempfile.TemporaryDirectory(dir=data) as folder:
        out = Path(folder) / "left.json"
        python = sys.executable if side == "oikyo" else PEERS
        started = time.perf_counter()
        said = out.with_name("said")
        with said.open("wb") as log:
            command = [python, __file__, "--side", side, str(data), folder, str(out)]
            child = subprocess.Popen(command, stdout=log, stderr=log)
        peak = 0.0
        while child.poll() is None:
            peak = max(peak, memory(child.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        if child.returncode:
            raise SystemExit(f"{side}: {said.read_text()[-2000:]}")
        found, wrong = gate(data, set(json.loads(out.read_text())))
    told = {"side": side, "seconds": round(seconds, 2), "peak_mb": round(peak)}
    return {**told, "recall": round(found, 4), "false_drops": round(wrong, 4)}


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


def gate(data: Path, left: set[int]) -> tuple[float, float]:
    """Share of the planted pairs that are told apart no more, and of the drops that are wrong."""
    meant: set[int] = set()
    pairs = found = rows = 0
    with (data / "truth.jsonl").open() as file:
        for line in file:
            fault = json.loads(line)
            if fault["kind"] not in ("exact", "near", "leak", "near-leak"):
                continue
            leak = fault["kind"].endswith("leak")
            pair = {fault["line"]} if leak else {fault["line"], fault["of"]}
            meant |= pair
            pairs += 1
            found += not pair <= left
    with (data / "train.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    dropped = set(range(1, rows + 1)) - left
    return found / pairs, len(dropped - meant) / max(1, len(dropped))


def main() -> int:
    if sys.argv[1:2] == ["--side"]:
        side, data, folder, out = sys.argv[2:]
        left = globals()[side](Path(data), Path(folder))
        Path(out).write_text(json.dumps(left))
        return 0
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    rows = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    needed = "import datasets, datasketch, datatrove"
    if subprocess.run([PEERS, "-c", needed], capture_output=True, check=False).returncode:
        print(f"{PEERS} lacks the peers; see the docstring", file=sys.stderr)
        return 1
    import plant

    with tempfile.TemporaryDirectory() as folder:
        plant.plant(Path(folder), plant.Plan(rows=rows, malformed=0))
        told: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side in SIDES:
                told[side].append(run(side, Path(folder)))
                print(json.dumps(told[side][-1]), flush=True)
                assert told[side][-1]["recall"] >= 0.97
                assert told[side][-1]["false_drops"] <= 0.01
    for peer in SIDES[1:]:
        pairs = list(zip(told["oikyo"], told[peer], strict=True))
        faster = [theirs["seconds"] / ours["seconds"] for ours, theirs in pairs]
        smaller = [ours["peak_mb"] / theirs["peak_mb"] for ours, theirs in pairs]
        result = {"peer": peer, "times_faster": statistics.median(faster), "of": sorted(faster)}
        print(json.dumps({**result, "memory_ratio": statistics.median(smaller)}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
