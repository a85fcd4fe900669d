"""Memory and rate of `oikyo data check --near Remove` on JSON Lines of any size.

    PYTHONPATH=operator:trainer_image python bench/bench_data_bounded.py SIZE_GB [--zstd]

The rows are those of plant.py with their faults. Each block of BLOCK rows is the first one in another
language: its letters are exchanged, so that rows of two blocks are not alike and every planted pair stays
one. Told: seconds, rows and MB a second, and the peak of what all processes hold in memory beyond maps of
files (Pss_Anon and Pss_Shmem of smaps_rollup: a page that two processes share counts once). Needs of the
disk, below $TMPDIR, the file, as much again for the rows in waiting, and 240 bytes a row; --zstd packs the
file to less than half. All of it is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import plant
import psutil
import pyarrow as pa

BLOCK = 100_000
EVERY = 0.25
"""Seconds between two looks at the memory."""
MOST = 1024
"""MiB that all processes together may hold."""
START, END = len(b'{"text": "'), b'", "label": "'
COMMAND = ("-m", "oikyo_trainer.data", "check", "--near", "Remove", "--json")


def languages() -> Iterator[bytes]:
    """Tables for bytes.translate, each another order of the letters; the first changes nothing."""
    draw, letters = random.Random(1), string.ascii_lowercase
    other = list(letters)
    while True:
        made = "".join(other)
        yield bytes.maketrans((letters + letters.upper()).encode(), (made + made.upper()).encode())
        draw.shuffle(other)


def grow(folder: Path, size: int, packing: str | None) -> tuple[Path, int]:
    """The file and its rows; `size` is in bytes, unpacked."""
    plant.plant(folder, plant.Plan(rows=BLOCK, malformed=0))
    parts = [line.partition(END) for line in (folder / "train.jsonl").read_bytes().splitlines(True)]
    path = folder / ("rows.jsonl" if packing is None else "rows.jsonl.zst")
    rows = written = 0
    with pa.CompressedOutputStream(str(path), packing) if packing else path.open("wb") as file:
        for table in languages():
            for text, mark, label in parts:
                line = b"".join((text[:START], text[START:].translate(table), mark, label))
                file.write(line)
                rows, written = rows + 1, written + len(line)
            if written >= size:
                return path, rows
    raise AssertionError("there is always another language")


def held(pid: int) -> float:
    """MiB of a process and its children beyond maps of files."""
    total = 0
    try:
        parent = psutil.Process(pid)
        every = (parent, *parent.children(recursive=True))
    except psutil.Error:
        return 0.0
    for one in every:
        try:
            lines = Path(f"/proc/{one.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
        )
    return total / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("size_gb", type=float)
    parser.add_argument("--zstd", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bounded-") as name:
        folder = Path(name)
        path, rows = grow(folder, int(given.size_gb * 1e9), "zstd" if given.zstd else None)
        started, peak, at = time.perf_counter(), 0.0, 0.0
        with (folder / "told").open("wb") as told:
            command = [sys.executable, *COMMAND, str(path)]
            child = subprocess.Popen(command, stdout=told, env={**os.environ, "TMPDIR": name})
        while child.poll() is None:
            now = held(child.pid)
            if now > peak:
                peak, at = now, time.perf_counter() - started
            time.sleep(EVERY)
        seconds = time.perf_counter() - started
        report = json.loads((folder / "told").read_bytes())
    result = {
        "rows": rows,
        "gb": given.size_gb,
        "seconds": round(seconds, 1),
        "rows_per_second": round(rows / seconds),
        "mb_per_second": round(given.size_gb * 1e3 / seconds, 1),
        "peak_mib_beyond_maps": round(peak),
        "peak_after_seconds": round(at, 1),
        "duplicates": report["duplicates"],
        "near_duplicates": report["nearDuplicates"]["count"],
        "refused": report["refused"] and report["refused"]["reason"],
        "exit": child.returncode,
    }
    print(json.dumps(result))
    return 0 if peak <= MOST and report["rows"] == rows else 1


if __name__ == "__main__":
    raise SystemExit(main())
