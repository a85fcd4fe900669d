"""Memory and throughput: one server with N adapters on one base, against N servers of one adapter each.

    PYTHONPATH=operator:trainer_image python bench/bench_many_adapters.py [ROUNDS] [ADAPTERS] [WIDTH]

Both sides hold the same versions, made here on a random Llama of 8 layers. Gate: every adapter answers the
same on both sides, and no two adapters alike. Then one client for each adapter asks for 32 tokens at a time,
all at once, on one side after the other. Memory is PSS (what processes share counts once), throughput is
tokens a second and tokens a CPU-second, as medians of the rounds.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "operator"), str(ROOT / "trainer_image")]

from oikyo.api import workspace as layout  # noqa: E402  # after the path
from oikyo.api.stages import ServeSpec  # noqa: E402
from oikyo_trainer.evaluation.record import VersionRecord  # noqa: E402
from unit.trainer.serving.manyadapters import adapter, told  # noqa: E402
from unit.trainer.training.conftest import WORDS, digest, tokenizer  # noqa: E402

TOKENS = 32
START_SECONDS = 1200


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    url: str

    @property
    def pss(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measure:
    """One round of one side."""

    tokens_a_second: float
    tokens_a_cpu_second: float


def base(workspace: Path, width: int) -> str:
    """A random Llama of 8 layers; returns its digest."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = workspace / layout.model(digest("bench"))
    config = LlamaConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=width,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        intermediate_size=3 * width,
        max_position_embeddings=256,
        initializer_range=0.1,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer(folder, bert=False)
    return digest("bench")


@contextmanager
def serving(workspace: Path, spec: ServeSpec) -> Iterator[Server]:
    """A server of the spec, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    path = workspace / f"serve-{port}.json"
    path.write_text(spec.model_copy(update={"port": port, "max_concurrency": 64}).json_line())
    command = [sys.executable, "-m", "oikyo_trainer", "serve"]
    command += ["--spec", str(path), "--workspace", str(workspace)]
    paths = os.pathsep.join((str(ROOT / "operator"), str(ROOT / "trainer_image")))
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": paths}, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process)
        yield Server(process, url)
    finally:
        process.terminate()
        process.wait(60)


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/ready", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"a server did not become ready: {url}")


def ask(url: str, model: str, prompt: str) -> str:
    asked = {"model": model, "prompt": prompt, "max_tokens": TOKENS, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=600)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["text"])


def measure(servers: list[Server], where: dict[str, str], requests: int) -> Measure:
    """Each model's client asks `requests` times, one after the other; all clients at once."""
    before, started = sum(s.cpu_seconds for s in servers), time.perf_counter()

    def client(model: str) -> None:
        for number in range(requests):
            ask(where[model], model, f"{WORDS[number % len(WORDS)]} red ")

    with ThreadPoolExecutor(len(where)) as pool:
        list(pool.map(client, where))
    tokens = TOKENS * requests * len(where)
    seconds = time.perf_counter() - started
    return Measure(
        tokens / seconds, tokens / max(sum(s.cpu_seconds for s in servers) - before, 1e-3)
    )


def gate(one: dict[str, str], many: dict[str, str]) -> None:
    said, alone = (
        {model: tuple(ask(url, model, f"{word} ") for word in WORDS) for model, url in side.items()}
        for side in (one, many)
    )
    if said != alone:
        raise SystemExit("GATE: an adapter answers differently beside others than alone")
    if len(set(said.values())) < len(said):
        raise SystemExit("GATE: two adapters answer alike: the comparison would prove nothing")


def main(rounds: int, number: int, width: int) -> None:
    workspace = Path(tempfile.mkdtemp(prefix="oikyo-bench-"))
    try:
        versions = made(workspace, number, width)
        with ExitStack() as stack:
            one = stack.enter_context(serving(workspace, told(*versions)))
            many = [stack.enter_context(serving(workspace, told(v))) for v in versions]
            here = {v.model: one.url for v in versions}
            there = {v.model: s.url for v, s in zip(versions, many, strict=True)}
            gate(here, there)
            report(
                [one],
                many,
                [(measure([one], here, 4), measure(many, there, 4)) for _ in range(rounds)],
            )
    finally:
        shutil.rmtree(workspace)


def made(workspace: Path, number: int, width: int) -> list[VersionRecord]:
    known = base(workspace, width)
    return [adapter(workspace, f"task-{n}", digest=known) for n in range(number)]


def report(one: list[Server], many: list[Server], pairs: list[tuple[Measure, Measure]]) -> None:
    held = [sum(server.pss for server in side) / 2**20 for side in (one, many)]
    figures = {
        "adapters": len(many),
        "memory_mib": [round(each) for each in held],
        "memory_ratio": round(held[0] / held[1], 3),
        "tokens_a_second": [round(median(m[s].tokens_a_second for m in pairs)) for s in (0, 1)],
        "throughput_ratio": round(
            median(a.tokens_a_second / b.tokens_a_second for a, b in pairs), 2
        ),
        "cpu_ratio": round(
            median(a.tokens_a_cpu_second / b.tokens_a_cpu_second for a, b in pairs), 2
        ),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:]]
    main(*given, *(5, 8, 512)[len(given) :])
