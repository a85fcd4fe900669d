"""Feed damaged files to every reader: each gives rows, findings or a refusal that names the file.

    PYTHONPATH=operator:trainer_image python bench/fuzz_readers.py --inputs 200000

The inputs are seeded: a file of each format is cut, flipped, spliced and packed. They are read in a
process of bounded memory; one that ends it, takes too long or raises anything but a refusal is told
with its number (`--only NUMBER` repeats it), and the exit code is 1.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from oikyo.api.stages import Source
from oikyo_trainer.data.findings import BadRow
from oikyo_trainer.data.readers import read
from oikyo_trainer.data.sources import data_files
from oikyo_trainer.errors import Refused

MEMORY = 4 << 30
"""Bytes of address space of the reading process; its libraries take the first of them."""
SECONDS = 20
"""Longest that one input may take."""
PACKED = 0.1
"""Share of the inputs that are packed."""
PIECES = (
    *(b'"', b",", b"\n", b"\r\n", b"\t", b"{", b"}", b"[", b"]", b":", b"\\", b"\\u", b"\xff"),
    *(b"\0", b"\xc3", b"\xed\xa0\x80", b"NaN", b"1e999", b"9" * 5000, b"[" * 5000, b'{"a":' * 5000),
)
ROWS: list[dict[str, Any]] = [
    {"text": f'say "{n}", then\n\u00e4', "label": f"class {n % 3}", "n": n} for n in range(8)
]

Mutation = Callable[[random.Random, bytearray], bytearray]


def _arrow(make: Any) -> bytes:  # any of the writers of pyarrow.ipc
    sink, table = io.BytesIO(), pa.Table.from_pylist([*ROWS * 50, {"text": None}])
    with make(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _parquet(times: int, **options: Any) -> bytes:
    sink = io.BytesIO()
    rows = [{**row, "turns": [{"role": f"user {row['n']}"}]} for row in ROWS] * times
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def bodies() -> list[tuple[str, bytes]]:
    """A whole file of each format, with its name."""
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    cells = "".join('"say ""{n}"", then\n"MARKclass\n'.replace("{n}", str(n)) for n in range(8))
    table = "textMARKlabel\n" + cells
    return [
        ("rows.jsonl", lines.encode()),
        ("rows.json", json.dumps(ROWS).encode()),
        ("pretty.json", json.dumps(ROWS, indent=2).encode()),
        ("rows.csv", table.replace("MARK", ",").encode()),
        ("rows.tsv", table.replace("MARK", "\t").encode()),
        ("rows.txt", "".join(row["text"] + "\n\n" for row in ROWS).encode()),
        ("rows.parquet", _parquet(1, compression="zstd")),
        ("plain.parquet", _parquet(50, use_dictionary=False, compression="none")),
        ("coded.parquet", _parquet(200, compression="none", data_page_version="2.0")),
        ("rows.arrow", _arrow(pa.ipc.new_file)),
        ("stream.arrow", _arrow(pa.ipc.new_stream)),
        ("none", lines.encode()),
    ]


def _flip(draw: random.Random, body: bytearray) -> bytearray:
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        body[draw.randrange(len(body))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return body


def _cut(draw: random.Random, body: bytearray) -> bytearray:
    return body[: draw.randrange(1, len(body) + 1)]


def _splice(draw: random.Random, body: bytearray) -> bytearray:
    at, end = sorted(draw.randrange(len(body)) for _ in range(2))
    to = draw.randrange(len(body))
    return body[:to] + body[at:end] + body[to:]


def _insert(draw: random.Random, body: bytearray) -> bytearray:
    at = draw.randrange(len(body) + 1)
    return body[:at] + draw.choice(PIECES) + body[at + draw.choice((0, 0, 1, 8)) :]


def _drop(draw: random.Random, body: bytearray) -> bytearray:
    at = draw.randrange(len(body))
    return body[:at] + body[at + draw.choice((1, 2, 8, 64)) :]


MUTATIONS: tuple[Mutation, ...] = (_flip, _flip, _cut, _splice, _insert, _insert, _drop)


def damaged(number: int, whole: list[tuple[str, bytes]], seed: int) -> tuple[str, bytes]:
    """Input `number`: name and content; the same for the same seed."""
    draw = random.Random(seed * 1_000_003 + number)
    name, start = whole[number % len(whole)]
    body = bytearray(start)
    packing = draw.choice(("gzip", "zstd")) if draw.random() < PACKED else ""
    if packing and draw.random() < 0.5:  # damaged inside, whole outside; else the other way
        return f"{name}.gz", pa.compress(_mutated(draw, body), codec=packing, asbytes=True)
    if packing:
        body = bytearray(pa.compress(bytes(body), codec=packing, asbytes=True))
    return name, _mutated(draw, body)


def _mutated(draw: random.Random, body: bytearray) -> bytes:
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        body = draw.choice(MUTATIONS)(draw, body or bytearray(b" "))
    return bytes(body)


def outcome(path: Path) -> str:
    """What came of one file; anything but a refusal that names it is raised."""
    rows = bad = 0
    try:
        for file in data_files(Source(uri=path.as_uri(), path=str(path))):
            for item in read(file):
                bad += isinstance(item, BadRow)
                rows += 1
    except Refused as error:
        if path.name not in error.message:
            raise AssertionError(f"the refusal names no file: {error.message}") from None
        return "refused"
    return "findings" if bad else "rows"


def _work(folder: str, numbers: range, seed: int, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    whole, slowest = bodies(), 0.0
    counts: Counter[str] = Counter()
    for number in numbers:
        told.send(("begin", number))
        name, body = damaged(number, whole, seed)
        path = Path(folder) / name
        path.write_bytes(body)
        signal.alarm(SECONDS)
        start = time.monotonic()
        try:
            counts[f"{name.removesuffix('.gz')} {outcome(path)}"] += 1
        except Exception as error:
            told.send(("fault", number, f"{name}: {type(error).__name__}: {str(error)[:200]}"))
        signal.alarm(0)
        slowest = max(slowest, time.monotonic() - start)
        path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    told.send(("done", counts, slowest, peak))


def run(numbers: range, seed: int) -> int:
    """Read all inputs; prints what came of them, and gives the number of those that went wrong."""
    counts: Counter[str] = Counter()
    faults: list[str] = []
    slowest, peak, start = 0.0, 0, time.monotonic()
    at = numbers.start
    with tempfile.TemporaryDirectory(prefix="oikyo-fuzz-") as folder:
        while at < numbers.stop:
            ours, theirs = multiprocessing.Pipe(duplex=False)
            chunk = range(at, min(at + 5000, numbers.stop))
            worker = multiprocessing.Process(target=_work, args=(folder, chunk, seed, theirs))
            worker.start()
            theirs.close()
            try:
                while True:
                    said = ours.recv()
                    if said[0] == "begin":
                        at = said[1]
                    elif said[0] == "fault":
                        faults.append(f"{said[1]} {said[2]}")
                    else:
                        counts += said[1]
                        slowest, peak = max(slowest, said[2]), max(peak, said[3])
            except EOFError:
                worker.join()
            if worker.exitcode:
                faults.append(f"{at} ended the process: {worker.exitcode}")
            at += 1
    _tell(counts, faults, len(numbers), time.monotonic() - start, slowest, peak)
    return len(faults)


def _tell(
    counts: Counter[str], faults: list[str], inputs: int, took: float, slowest: float, peak: int
) -> None:
    for name, count in sorted(counts.items()):
        print(f"{name:<26}{count:>8}")
    print(f"{inputs} inputs in {took:.0f} s, the slowest {slowest:.2f} s, peak {peak >> 20} MiB")
    for fault in faults[:50]:
        print(f"FAULT {fault}")
    print(f"{len(faults)} faults")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input, in this process")
    arguments = parser.parse_args()
    if arguments.only is None:
        return 1 if run(range(arguments.inputs), arguments.seed) else 0
    name, body = damaged(arguments.only, bodies(), arguments.seed)
    path = Path(tempfile.mkdtemp(prefix="oikyo-fuzz-")) / name
    path.write_bytes(body)
    print(path, outcome(path))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
