"""python demo.py [FOLDER]: the example from data to an answer over HTTP, on this machine, in minutes.

Makes the data, runs the job, serves the result on a free port, asks one question, and stops the server.
FOLDER (default: .oikyo) holds everything that oikyo keeps, and the data; run it again to go on.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
OIKYO = [sys.executable, "-c", "from oikyo.cli import main; main()"]
QUESTION = "Return the mean of a sample of numeric data, or raise an error if the sample is empty."
READY_SECONDS = 120


def main(folder: Path) -> int:
    began = time.monotonic()
    data, home = folder / "demo", ["--home", str(folder)]
    code = run([sys.executable, str(HERE / "make_data.py"), str(data / "text-classification")])
    if code == 0:
        claim = ["--claim", f"examples={data}"]
        code = run([*OIKYO, "run", str(HERE / "job.yaml"), *claim, *home])
    if code != 0:
        return code
    print(f"\n$ oikyo serve stdlib-topics\n  {QUESTION}")
    print(f"  -> {ask_server(home)}")
    print(f"\nreport: {folder / 'reports/stdlib-topics.html'}")
    print(f"took {time.monotonic() - began:.0f} s")
    return 0


def run(command: list[str]) -> int:
    """Run a command to its end, also through a Ctrl-C, which it gets from the terminal itself."""
    with subprocess.Popen(command) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue


def ask_server(home: list[str]) -> str:
    """Serve, ask QUESTION, stop; the answer in words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*OIKYO, "serve", "stdlib-topics", "--port", str(port), *home], stderr=subprocess.DEVNULL
    )
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/health/ready", server)
        return ask(f"http://127.0.0.1:{port}/v1/classify")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit(f"the server ended with {server.returncode}; try: oikyo serve stdlib-topics")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    sys.exit(f"the server was not ready within {READY_SECONDS} s")


def ask(url: str) -> str:
    body = json.dumps({"input": QUESTION, "top_k": 3}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        best = json.load(response)["data"][0]
    return ", ".join(f"{score['label']} {score['score']:.0%}" for score in best["scores"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".oikyo").absolute()))
